"""What the control process knows of the node now: workers and live calls, built from events (core).

It holds the running calls and the last few that ended, nothing else: history is the records' business.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from sipagent import model, orders
from sipagent.outcome import CallOutcome

ENDED_KEPT = 100
ORPHANED = "orphaned"
"""A call whose worker has died, until another one takes it over."""


@dataclass(slots=True)
class LiveCall:
    """One call as far as it has come."""

    call_id: str
    worker: int
    started_at: float
    caller: str
    called: str
    endpoint: str
    codec: str
    run: str = ""
    """The process of that worker: its successor has the same number."""
    route: str = ""
    step: str = ""
    """Where the caller is: menu:main, agent:reception, queue:sales."""
    agent: str = ""
    """Who spoke or speaks with them."""
    state: str = "ringing"
    before: str = ""
    """Its state before its worker died."""
    direction: model.Direction = model.Direction.IN
    disposition: str = ""
    """Who answered a call out, as far as it is known."""
    held_by: str = ""
    recording: str = ""
    """on, paused, or empty."""
    recording_id: str = ""
    """The last one, also when it is over."""
    place: int = 0
    """In line for a session with the model; 0: they do not wait."""
    realtime_model: str = ""
    turns: int = 0
    barge_ins: int = 0
    tool: str = ""
    """What runs for them now, the one begun last."""
    tool_calls: int = 0
    tool_errors: int = 0
    last_latency_ms: float | None = None
    outcome: CallOutcome | None = None


@dataclass(slots=True)
class LiveWorker:
    """One worker process as it reports itself; `state` None while it is away."""

    number: int
    pid: int = 0
    run: str = ""
    """The process that was here last, as its link names it."""
    state: orders.WorkerState | None = None

    @property
    def able(self) -> bool:
        """Its Asterisk is there: calls go on with it, and new ones come unless it drains."""
        return self.state is not None and self.state.asterisk_connected

    @property
    def ready(self) -> bool:
        """It takes calls."""
        return self.able and self.state is not None and self.state.accepting

    def had(self, call: LiveCall) -> bool:
        """This process was the last to have it."""
        return call.worker == self.number and call.run == self.run


class Live:
    """The node now. `subscribe` hears every event after it has been taken in."""

    def __init__(self, workers: int) -> None:
        self.workers = {number: LiveWorker(number) for number in range(1, workers + 1)}
        self.calls: dict[str, LiveCall] = {}
        self.ended: deque[LiveCall] = deque(maxlen=ENDED_KEPT)
        self.counts: Counter[str] = Counter()
        self.on_worker_lost: Callable[[LiveWorker], None] = self.give_up
        """Somebody who knows what to do with the calls of a worker that is gone."""
        self._ready = asyncio.Event()
        self._subscribers: list[Callable[[model.CallEvent], None]] = []
        self._mourners: list[Callable[[str], None]] = []

    def subscribe(
        self, subscriber: Callable[[model.CallEvent], None], lost: Callable[[str], None] = lambda _call_id: None
    ) -> None:
        """Hear every event, and the id of each call whose worker is `lost`; a subscriber only takes note."""
        self._subscribers.append(subscriber)
        self._mourners.append(lost)

    def worker_here(self, number: int, pid: int, run: str) -> None:
        """A process of this number is linked."""
        worker = self.workers[number]
        worker.pid, worker.run = pid, run

    def worker_state(self, number: int, state: orders.WorkerState | None) -> None:
        """A worker said how it does, or went away."""
        self.workers[number].state = state
        if not self.why_not_ready():
            self._ready.set()
        else:
            self._ready.clear()

    async def until_ready(self) -> None:
        """Returns when the node takes calls."""
        await self._ready.wait()

    @property
    def takes_calls(self) -> bool:
        """Some worker does, if not all."""
        return any(worker.ready for worker in self.workers.values())

    def why_not_ready(self) -> list[str]:
        """One line for each thing that keeps the node from taking calls; empty when it does."""
        reasons = []
        for worker in self.workers.values():
            if worker.state is None:
                reasons.append(f"worker {worker.number} is not there")
            elif not worker.state.asterisk_connected:
                reasons.append(f"worker {worker.number} has no Asterisk")
            elif not worker.state.accepting:
                reasons.append(f"worker {worker.number} is draining")
        return reasons

    def worker_lost(self, number: int, pid: int, run: str) -> None:
        """The link of this process closed: its calls wait for somebody who adopts them."""
        lost = LiveWorker(number, pid, run)
        if self.workers[number].run == run:  # else its successor is linked already
            self.worker_state(number, None)
        for call in self.calls.values():
            if lost.had(call) and call.state != ORPHANED:
                call.state, call.before = ORPHANED, call.state
        self.on_worker_lost(lost)

    def orphans(self, lost: LiveWorker) -> list[LiveCall]:
        """What it had, and nobody has adopted."""
        return [call for call in self.calls.values() if lost.had(call) and call.state == ORPHANED]

    def give_up(self, lost: LiveWorker) -> None:
        """Nobody has adopted what this worker had: those calls are gone."""
        for call in self.orphans(lost):
            self.counts["calls_without_end"] += 1
            call.state = "lost"
            self.ended.append(self.calls.pop(call.call_id))
            for mourn in self._mourners:
                mourn(call.call_id)

    def take(self, event: model.CallEvent, run: str = "") -> None:
        """One event, in the order its worker sent it; `run`: the process that did."""
        if isinstance(event, model.CallStarted):
            self.calls[event.call_id] = LiveCall(
                call_id=event.call_id,
                worker=event.worker,
                run=run or self.workers[event.worker].run,
                started_at=event.at,
                caller=event.caller,
                called=event.called,
                endpoint=event.endpoint,
                codec=event.codec,
                direction=event.direction,
            )
        elif call := self.calls.get(event.call_id):
            self._advance(call, event, run)
        elif isinstance(event, model.CallAdopted):
            self._meet(event, run)
        elif not isinstance(event, model.RecordingEnded):  # a file may be whole long after its call
            self.counts["events_of_unknown_calls"] += 1
        for subscriber in self._subscribers:
            subscriber(event)

    def _meet(self, event: model.CallAdopted, run: str) -> None:
        """A call that began before this process did: from now on it is known, and may be rescued like any other."""
        call = self.calls[event.call_id] = LiveCall(
            call_id=event.call_id,
            worker=event.worker,
            started_at=event.started_at or event.at,
            caller=event.caller,
            called=event.called,
            endpoint=event.endpoint,
            codec=event.codec,
            direction=event.direction,
            step=event.step,
            agent=event.step.removeprefix("agent:") if event.step.startswith("agent:") else "",
            state="answered" if event.answered else "ringing",
        )
        self._advance(call, event, run)

    def _advance(self, call: LiveCall, event: model.CallEvent, run: str) -> None:  # noqa: PLR0915 - a table over events
        match event:
            case model.CallAdopted():
                call.worker, call.state = event.worker, call.before or call.state
                call.run = run or self.workers[event.worker].run
                call.tool, call.place = "", 0  # of the worker that is gone
                self.counts["calls_adopted"] += 1
            case model.CallRouted():
                call.route = event.route
            case model.StepEntered():
                call.step = event.step
                if event.step.startswith("agent:"):
                    call.agent = event.step.removeprefix("agent:")
            case model.LegDialled() if event.purpose == "outbound":
                call.endpoint = event.trunk or call.endpoint
            case model.CallAnswered():
                call.state = "answered"
            case model.WaitingForSession():
                call.place = event.place
            case model.WaitedForSession():
                call.place = 0
            case model.SessionOpened():
                call.realtime_model = event.model
            case model.AgentSpoke():
                if event.latency_ms is not None:
                    call.turns += 1
                    call.last_latency_ms = event.latency_ms
            case model.ToolCalled():
                call.tool = event.name
            case model.ToolReturned():
                call.tool = "" if call.tool == event.name else call.tool
                call.tool_calls += 1
                call.tool_errors += not event.ok
            case model.BargeIn():
                call.barge_ins += 1
            case model.CallEnded():
                call.state, call.outcome = "ended", event.outcome
                self.ended.append(self.calls.pop(call.call_id))
            case model.CallHeld():
                call.held_by = event.by
            case model.CallRetrieved():
                call.held_by = ""
            case model.RecordingStarted() | model.RecordingResumed():
                call.recording, call.recording_id = "on", event.recording_id
            case model.RecordingPaused():
                call.recording = "paused"
            case model.RecordingEnded():
                if event.recording_id == call.recording_id:  # and not one before a stay in a queue
                    call.recording = ""
            case model.Classified():
                call.disposition = event.disposition
            case _:
                pass  # history: the records have it
