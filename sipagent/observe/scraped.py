"""What is not counted but looked at, at each scrape: workers, live calls, the recorder.

The control process's state is read as it stands and may be read from another thread than its loop's: every value here
is replaced whole by its owner, and containers are copied in one step.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import Metric as Samples
from prometheus_client.registry import Collector

from sipagent import __version__, meter, orders
from sipagent.config import Settings
from sipagent.observe.bounds import Known
from sipagent.observe.catalogue import Catalogue, Family
from sipagent.observe.logs import lines_dropped

LIVE_CALLS = 500
"""Calls with series of their own: those that waited longest for their last answer. 1500 lines of a scrape."""
RECORDER = (
    "blocks_dropped", "blocks_malformed", "blocks_late", "blocks_unwritten", "journals_unreadable", "files_unwritten",
    "files_undeleted", "expired",
)  # fmt: skip
_COUNTED = {
    "ari_reconnects": ("ari_reconnects_total", 1.0, "Times that the connection to Asterisk came back."),
    "ari_timeouts": ("ari_timeouts_total", 1.0, "Requests that Asterisk did not answer in time."),
    "pacing_shifted_ms": ("pacing_shifted_seconds_total", 0.001, "Time by which play-out moved."),
    "orphans": ("orphan_channels_total", 1.0, "Channels without a call: their worker had died."),
    "toolbox_restarts": ("toolbox_restarts_total", 1.0, "Times that the process that runs tools was started again."),
    "standby_taken": ("standby_sessions_taken_total", 1.0, "Sessions that stood by and were a caller's at once."),
    "standby_missed": ("standby_sessions_missed_total", 1.0, "Callers for whom none stood by."),
    "log_lines_dropped": ("worker_log_lines_dropped_total", 1.0, "Lines of its log that nobody took in time."),
    "blocks_dropped": ("worker_recording_blocks_dropped_total", 1.0, "Blocks of recordings that found no room."),
}  # fmt: skip


class CallNow(Protocol):
    """A live call (`control.live.LiveCall`)."""

    @property
    def started_at(self) -> float: ...  # noqa: D102 - as there
    @property
    def endpoint(self) -> str: ...  # noqa: D102
    @property
    def agent(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def direction(self) -> str: ...  # noqa: D102
    @property
    def recording(self) -> str: ...  # noqa: D102
    @property
    def place(self) -> int: ...  # noqa: D102
    @property
    def turns(self) -> int: ...  # noqa: D102
    @property
    def last_latency_ms(self) -> float | None: ...  # noqa: D102


class WorkerNow(Protocol):
    """A worker (`control.live.LiveWorker`)."""

    @property
    def state(self) -> orders.WorkerState | None: ...  # noqa: D102 - as there


class NodeNow(Protocol):
    """The node (`control.live.Live`)."""

    @property
    def workers(self) -> Mapping[int, WorkerNow]: ...  # noqa: D102 - as there
    @property
    def calls(self) -> Mapping[str, CallNow]: ...  # noqa: D102
    @property
    def counts(self) -> Mapping[str, int]: ...  # noqa: D102
    def why_not_ready(self) -> list[str]: ...  # noqa: D102


class CallsCounted(Protocol):
    """Who counts calls by their events (`observe.metrics.CallMetrics`)."""

    def begin(self) -> None: ...  # noqa: D102 - as there
    def sessions_open(self) -> Counter[str]: ...  # noqa: D102


class NodeCollector(Collector):
    """The node and its live calls."""

    def __init__(
        self,
        catalogue: Catalogue,
        node: NodeNow,
        settings: Callable[[], Settings],
        counted: CallsCounted,
        taken: Callable[[], Mapping[str, int]],
    ) -> None:
        """`taken` gives the sessions of quotas that calls have, by realtime endpoint."""
        self._node, self._settings, self._counts, self._taken_of = node, settings, counted, taken
        self._known = Known(settings)
        family = catalogue.family
        self._info = family("build_info", "gauge", "1; which program and which Asterisk.", "version", "asterisk")
        self._ready = family("node_ready", "gauge", "1: every worker is there, has its Asterisk and takes calls.")
        self._active = family("calls_active", "gauge", "Calls now.", "direction", "trunk", "state")
        self._recording = family("recordings_active", "gauge", "Calls that are recorded now: on or paused.", "state")
        self._open = family("realtime_sessions_open", "gauge", "Sessions with the model now.", "model")
        self._waiting = family("realtime_waiting", "gauge", "Callers who wait for a session of the quota.")
        self._quota = family(
            "realtime_sessions_quota", "gauge", "The endpoint's `session_quota`; absent where it is 0.", "endpoint"
        )
        self._taken = family(
            "realtime_sessions_taken", "gauge",
            "Sessions of the endpoint's `session_quota` that calls have now; those that stand by make room for them.",
            "endpoint",
        )  # fmt: skip
        self._unknown = family(
            "events_of_unknown_calls_total", "counter", "Events of calls that began before this process did."
        )
        self._lines = family(
            "log_lines_dropped_total", "counter", "Lines of the control process' log that nobody took in time."
        )
        self._seconds = family(
            "live_call_seconds", "gauge", f"How long a call is up; of {LIVE_CALLS} live calls at most.",
            "call_id", "trunk", "agent", "state", "direction",
        )  # fmt: skip
        self._latency = family("live_call_turn_latency_seconds", "gauge", "Of its last answer, ear to ear.", "call_id")
        self._turns = family("live_call_turns", "gauge", "Answers so far.", "call_id")
        self._hidden = family("live_calls_hidden", "gauge", f"Live calls beyond those {LIVE_CALLS}.")

    def describe(self) -> list[Samples]:
        """Nothing: the registry need not collect to know."""
        return []

    def collect(self) -> Iterator[Samples]:
        """As it is now."""
        self._counts.begin()
        calls = list(self._node.calls.items())
        workers = list(self._node.workers.values())
        asterisk = next((worker.state.asterisk_version for worker in workers if worker.state), "")
        info = self._info.gauge()
        info.add_metric((__version__, asterisk), 1)
        yield info
        yield _single(self._ready, not self._node.why_not_ready())
        yield from self._counted(calls)
        unknown = self._unknown.counter()
        unknown.add_metric((), self._node.counts.get("events_of_unknown_calls", 0))
        yield unknown
        lines = self._lines.counter()
        lines.add_metric((), lines_dropped())
        yield lines
        yield from self._each(calls)

    def _counted(self, calls: list[tuple[str, CallNow]]) -> Iterator[Samples]:
        active = self._active.gauge()
        # The calls in of every trunk have a series also when there is none: a panel must show 0 then, not "no data".
        counted = Counter({("in", trunk, "answered"): 0 for trunk in self._settings().endpoints})
        counted.update((call.direction, self._known.trunk(call.endpoint), call.state) for _, call in calls)
        for labels, count in counted.items():
            active.add_metric(labels, count)
        yield active
        recording = self._recording.gauge()
        recorded = Counter(call.recording for _, call in calls)
        for state in ("on", "paused"):
            recording.add_metric((state,), recorded[state])
        yield recording
        sessions = self._open.gauge()
        for name, count in self._counts.sessions_open().items():
            sessions.add_metric((name,), count)
        yield sessions
        yield _single(self._waiting, sum(call.place > 0 for _, call in calls))
        quotas, taken = self._quota.gauge(), self._taken.gauge()
        for endpoint, quota in self._settings().realtime.quotas.items():
            quotas.add_metric((endpoint,), quota)
        for endpoint, count in self._taken_of().items():
            taken.add_metric((endpoint,), count)
        yield from (quotas, taken)

    def _each(self, calls: list[tuple[str, CallNow]]) -> Iterator[Samples]:
        shown = heapq.nlargest(LIVE_CALLS, calls, key=lambda item: item[1].last_latency_ms or 0.0)
        now = time.time()
        seconds, latency, turns = self._seconds.gauge(), self._latency.gauge(), self._turns.gauge()
        for call_id, call in shown:
            known = self._known.trunk(call.endpoint), self._known.agent(call.agent)
            seconds.add_metric((call_id, *known, call.state, call.direction), round(now - call.started_at, 1))
            turns.add_metric((call_id,), call.turns)
            if (ms := call.last_latency_ms) is not None:
                latency.add_metric((call_id,), ms / 1000)
        yield from (seconds, latency, turns, _single(self._hidden, len(calls) - len(shown)))


class WorkerCollector(Collector):
    """The workers as they report themselves, each under its number."""

    def __init__(self, catalogue: Catalogue, node: NodeNow, restarts: Callable[[], Mapping[int, int]]) -> None:
        """`restarts` of workers that died, by number."""
        self._node, self._restarts = node, restarts
        family = catalogue.family
        self._up = family("worker_up", "gauge", "1: it is there.", "worker")
        self._asterisk = family("worker_asterisk_connected", "gauge", "1: it has its Asterisk.", "worker")
        self._accepting = family("worker_accepting", "gauge", "1: it takes calls; 0: it drains.", "worker")
        self._calls = family("worker_calls", "gauge", "Calls it serves now.", "worker")
        self._standby = family("standby_sessions", "gauge", "Sessions that stand by for its next callers.", "worker")
        self._restarted = family("worker_restarts_total", "counter", "Times it died and was started again.", "worker")
        self._dropped = family("worker_events_dropped_total", "counter", "Events that found no room.", "worker")
        self._cpu = family("worker_cpu_seconds_total", "counter", "Processor time of the worker.", "worker")
        self._waited = family(
            "worker_wait_seconds_total", "counter", "How long the worker wanted a core and had none.", "worker"
        )
        self._memory = family("worker_resident_memory_bytes", "gauge", "Resident memory of the worker.", "worker")
        self._tasks = family("worker_tasks", "gauge", "Tasks of its event loop: a few for each call.", "worker")
        self._pacing = family(
            "pacing_lateness_seconds", "histogram", "How late each tick of the 20 ms clock came.", "worker"
        )
        self._ari = family("ari_request_seconds", "histogram", "How long Asterisk took for a request.", "worker")
        self._counters = {key: family(name, "counter", text, "worker") for key, (name, _, text) in _COUNTED.items()}

    def describe(self) -> list[Samples]:
        """See NodeCollector."""
        return []

    def collect(self) -> Iterator[Samples]:
        """As they are now; one that is away has its `worker_up` and its restarts only."""
        up, restarted = self._up.gauge(), self._restarted.counter()
        there: dict[str, orders.WorkerState] = {}
        restarts = self._restarts()
        for number, worker in self._node.workers.items():
            state = worker.state
            up.add_metric((str(number),), state is not None)
            restarted.add_metric((str(number),), restarts.get(number, 0))
            if state is not None:
                there[str(number)] = state
        yield from (up, restarted)
        asterisk, accepting, calls = self._asterisk.gauge(), self._accepting.gauge(), self._calls.gauge()
        cpu, waited = self._cpu.counter(), self._waited.counter()
        memory, dropped = self._memory.gauge(), self._dropped.counter()
        tasks, standby = self._tasks.gauge(), self._standby.gauge()
        pacing, ari = self._pacing.histogram(), self._ari.histogram()
        counters = {key: family.counter() for key, family in self._counters.items()}
        for number_, state in there.items():
            labels = (number_,)
            asterisk.add_metric(labels, state.asterisk_connected)
            accepting.add_metric(labels, state.accepting)
            calls.add_metric(labels, state.calls)
            cpu.add_metric(labels, state.cpu_s)
            waited.add_metric(labels, state.waited_s)
            memory.add_metric(labels, state.rss_bytes)
            tasks.add_metric(labels, state.tasks)
            standby.add_metric(labels, state.standby)
            dropped.add_metric(labels, state.events_dropped)
            for key, counter in counters.items():
                counter.add_metric(labels, state.counts.get(key, 0) * _COUNTED[key][1])
            for family, seen in ((pacing, state.pacing), (ari, state.ari)):
                if seen is not None:
                    family.add_metric(labels, _buckets(seen), seen.sum_s)
        yield from (asterisk, accepting, calls, cpu, waited, memory, tasks, standby, dropped, pacing, ari)
        yield from counters.values()


class RecorderCollector(Collector):
    """The control process's recorder."""

    def __init__(self, catalogue: Catalogue, counts: Callable[[], Mapping[str, int]]) -> None:
        """`counts` of what went wrong."""
        self._counts = counts
        self._troubles = catalogue.family(
            "recorder_events_total", "counter",
            "Blocks and files that could not be written, came too late, or have expired.", "what",
        )  # fmt: skip

    def describe(self) -> list[Samples]:
        """See NodeCollector."""
        return []

    def collect(self) -> Iterator[Samples]:
        """Every kind, from 0 on: an alert on the first of them needs the 0 before it."""
        counts, troubles = self._counts(), self._troubles.counter()
        for what in RECORDER:
            troubles.add_metric((what,), counts.get(what, 0))
        yield troubles


def _single(family: Family, value: float) -> Samples:
    gauge = family.gauge()
    gauge.add_metric((), value)
    return gauge


def _buckets(seen: meter.Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(float(bound)) for bound in seen.bounds_s), "+Inf"]
    return list(zip(bounds, accumulate(seen.counts), strict=True))
