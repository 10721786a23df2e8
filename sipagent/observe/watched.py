"""What the node's own watchers found: probes through trunks, endpoints, what became of traces, who was not let in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sipagent.observe.catalogue import Catalogue
from sipagent.orders import ProbeResult

Samples = CounterMetricFamily | GaugeMetricFamily
SPANS = ("sent", "failed", "dropped")
REFUSALS = (401, 403, 429)
CONNECTIONS_CLOSED = ("gave_way", "turned_away")


class Probed(Protocol):
    """One probe through one trunk, so far."""

    last: ProbeResult | None
    passed: int
    failed: int


class ProbeCollector(Collector):
    """Probes by their names and trunks in the configuration; one that was taken out of it is not told of any more."""

    def __init__(self, catalogue: Catalogue, probes: Callable[[], Mapping[tuple[str, str], Probed]]) -> None:
        """`probes` gives those of the configuration by name and trunk; it is called in a thread."""
        self._probes = probes
        family, labels = catalogue.family, ("probe", "trunk")
        self._runs = family("probe_runs_total", "counter", "Calls that probes made, by result.", *labels, "result")
        self._up = family("probe_up", "gauge", "1: the last one passed. 0: it failed.", *labels)
        self._at = family("probe_last_run_timestamp_seconds", "gauge", "When the last one began.", *labels)
        self._figures = {
            "answer_ms": (
                family("probe_answer_seconds", "gauge", "INVITE to the answer, the last time.", *labels),
                1000,
            ),
            "voice_ms": (
                family("probe_first_words_seconds", "gauge", "INVITE to the first words, the last time.", *labels),
                1000,
            ),
            "mos": (family("probe_mos", "gauge", "Of what came back, over the whole way, the last time.", *labels), 1),
        }

    def describe(self) -> list[Samples]:
        """Nothing: what there is depends on the configuration."""
        return []

    def collect(self) -> Iterator[Samples]:
        """As they are now. A figure that the last one did not get is not there."""
        runs, up, began = self._runs.counter(), self._up.gauge(), self._at.gauge()
        figures = {key: family.gauge() for key, (family, _) in self._figures.items()}
        for labels, probed in self._probes().items():
            runs.add_metric((*labels, "passed"), probed.passed)
            runs.add_metric((*labels, "failed"), probed.failed)
            if (last := probed.last) is None:
                continue
            up.add_metric(labels, last.ok)
            began.add_metric(labels, last.at)
            for key, (_, scale) in self._figures.items():
                if (value := getattr(last, key)) is not None:
                    figures[key].add_metric(labels, value / scale)
        yield runs
        yield from (up, began, *figures.values())


class EndpointCollector(Collector):
    """Realtime endpoints, by their names in the configuration."""

    def __init__(self, catalogue: Catalogue, state: Callable[[], Mapping[str, str]]) -> None:
        """`state` gives why each cannot be reached, empty where it can."""
        self._state = state
        self._up = catalogue.family(
            "realtime_endpoint_up", "gauge", "1: it takes connections. 0: no name, no TCP, no TLS.", "endpoint"
        )

    def describe(self) -> list[Samples]:
        """See ProbeCollector."""
        return []

    def collect(self) -> Iterator[Samples]:
        """As of the last look."""
        up = self._up.gauge()
        for name, why in self._state().items():
            up.add_metric((name,), not why)
        yield up


class TraceCollector(Collector):
    """Spans, by what became of them."""

    def __init__(self, catalogue: Catalogue, counts: Callable[[], Mapping[str, int]]) -> None:
        """`counts` of what was sent, failed or was dropped; empty where nothing is traced."""
        self._counts = counts
        self._spans = catalogue.family(
            "trace_spans_total", "counter",
            "Spans: sent, refused by the collector (failed), or without room in the queue (dropped).", "result",
        )  # fmt: skip

    def describe(self) -> list[Samples]:
        """See ProbeCollector."""
        return []

    def collect(self) -> Iterator[Samples]:
        """Every result, from 0 on."""
        counts, spans = self._counts(), self._spans.counter()
        for result in SPANS:
            spans.add_metric((result,), counts.get(result, 0))
        yield spans


class DoorCollector(Collector):
    """Requests that the API refused before it read them, and its connections."""

    def __init__(
        self,
        catalogue: Catalogue,
        counts: Callable[[], Mapping[int, int]],
        connections: Callable[[], int],
        closed: Callable[[], Mapping[str, int]],
    ) -> None:
        """`counts` by HTTP status; `connections` that are open, and those that were `closed`, by why."""
        self._counts, self._connections, self._closed = counts, connections, closed
        self._open = catalogue.family("api_connections", "gauge", "Open to the API, by the network.")
        self._had_to_go = catalogue.family(
            "api_connections_closed_total", "counter",
            "Connections that [control] connections had no room for: idle ones that gave_way to a new one, new ones "
            "that were turned_away since all others were being served.", "why",
        )  # fmt: skip
        self._refused = catalogue.family(
            "api_refused_total", "counter",
            "Requests of the API that were not let in: no token that counts (401), not with this one or not from there "
            "(403), too many (429).", "status",
        )  # fmt: skip

    def describe(self) -> list[Samples]:
        """See ProbeCollector."""
        return []

    def collect(self) -> Iterator[Samples]:
        """Every status, from 0 on."""
        counts, refused = self._counts(), self._refused.counter()
        for status in REFUSALS:
            refused.add_metric((str(status),), counts.get(status, 0))
        yield refused
        there, closed, had_to_go = self._open.gauge(), self._closed(), self._had_to_go.counter()
        there.add_metric((), self._connections())
        yield there
        for why in CONNECTIONS_CLOSED:
            had_to_go.add_metric((why,), closed.get(why, 0))
        yield had_to_go
