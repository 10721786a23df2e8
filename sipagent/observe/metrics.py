"""Counts what happens: hears every CallEvent and moves the instruments. Subscribed to `Live`.

It keeps what it must know of a call to label its next event (trunk, route, agent, model, when something began), and
forgets it with the call's end, or with its worker's. No I/O and no clock: times are the events' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sipagent import model
from sipagent.config import Settings
from sipagent.model import Direction
from sipagent.observe import bounds
from sipagent.observe.bounds import NONE, OTHER, Known
from sipagent.observe.catalogue import Catalogue
from sipagent.observe.instruments import Instruments, mark
from sipagent.outcome import Fault, Result

WORKER_LOST = "worker_lost"
"""Stands where a Reason stands: nobody was left to give one."""
LAST_STEP = 5
"""Of the ladder of a silent caller; an agent with more reprompts counts them here."""
_DISCARDED = ("stray", "wrong_payload_type", "malformed", "foreign", "comfort_noise")
_FILLED = ("concealed", "muted", "paused", "inserted")


@dataclass(slots=True)
class _Call:
    """One call, its names bounded already."""

    direction: str
    trunk: str
    route: str = NONE
    agent: str = NONE
    model: str = NONE
    to_agent_at: float | None = None
    """It came to an agent who has not spoken yet."""
    queue: tuple[str, float] | None = None
    """Which, and since when."""
    held: dict[str, float] = field(default_factory=dict)
    legs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Trunk and purpose of those that ring or talk."""
    transfers: dict[str, str] = field(default_factory=dict)
    """`how` of those that were begun."""
    sessions: Counter[str] = field(default_factory=Counter)
    """Open ones, by model."""


class CallMetrics:
    """`take` gets every event, `lost` the calls of a worker that died."""

    def __init__(self, catalogue: Catalogue, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force: what it does not name is `other`."""
        self.known = Known(settings)
        self._to = Instruments(catalogue)
        self._calls: dict[str, _Call] = {}
        self._begun: Settings | None = None
        """The configuration whose endpoints have their series."""
        self.begin()

    def begin(self) -> None:
        """Endpoints that a reload has brought are there at 0, before their first call; a scrape asks for it."""
        if self.known.now is not self._begun:
            self._begun = self.known.now
            self._to.begin_endpoints(self._begun.endpoints)

    def sessions_open(self) -> Counter[str]:
        """Sessions with the model now, by its name."""
        total: Counter[str] = Counter()
        for call in list(self._calls.values()):
            total.update(call.sessions)
        return total

    def lost(self, call_id: str) -> None:
        """Its worker is gone, and with it whatever it had to say."""
        call = self._calls.pop(call_id, None)
        if call is not None:
            labels = (call.direction, call.trunk, call.route, call.agent)
            mark(self._to.ended.labels(*labels, Result.FAILURE, WORKER_LOST, Fault.OURS), 1, call_id)
            self._to.finished.labels(call.direction, Result.FAILURE, Fault.OURS).inc()

    def take(self, event: model.CallEvent) -> None:
        """One event."""
        if isinstance(event, model.CallStarted):
            call = _Call(event.direction, self.known.trunk(event.endpoint))
            self._calls[event.call_id] = call
            self._to.offered.labels(call.direction, call.trunk).inc()
            return
        # A stranger's beginning was heard by a control process before us.
        call = self._calls.get(event.call_id) or _Call(Direction.IN, OTHER, OTHER, OTHER, OTHER)
        match event:
            case model.CallEnded():
                self._calls.pop(event.call_id, None)
                self._ended(call, event)
            case model.AgentSpoke() | model.BargeIn() | model.FalseBargeIn() | model.NoInputStep():
                self._talk(call, event)
            case (
                model.SessionOpened() | model.SessionClosed() | model.SessionLost() | model.SessionRecovered()
                | model.RealtimeTrouble()
            ):  # fmt: skip
                self._session(call, event)
            case (
                model.LegDialled() | model.LegEnded() | model.DialRefused() | model.TransferStarted()
                | model.TransferEnded() | model.Classified()
            ):  # fmt: skip
                self._out(call, event)
            case model.RecordingStarted() | model.RecordingPaused() | model.RecordingResumed() | model.RecordingEnded():
                self._recording(event)
            case model.MediaTrouble():
                mark(
                    self._to.media_troubles.labels(bounds.one_of(event.action, bounds.MEDIA_ACTIONS)), 1, event.call_id
                )
            case model.CallAdopted():
                self._adopted(event)
            case model.TurnedAway():
                mark(self._to.turned_away.labels(bounds.one_of(event.limit, bounds.LIMITS)), 1, event.call_id)
            case model.WaitedForSession():
                result = bounds.one_of(event.result, bounds.WAITS)
                mark(self._to.session_wait.labels(result), event.seconds, event.call_id)
            case model.Transcript() | model.ToolCalled() | model.WaitingForSession():
                pass  # what was said is nobody's figure; a tool or a wait is counted when it is over
            case _:
                self._way(call, event)

    def _adopted(self, event: model.CallAdopted) -> None:
        """What it had open went with its worker. One that began before we did is no stranger from now on."""
        self._to.adopted.inc()
        kind, name = self.known.step(event.step)
        met = _Call(event.direction, self.known.trunk(event.endpoint), OTHER, name if kind == "agent" else OTHER, OTHER)
        self._calls.setdefault(event.call_id, met).sessions = Counter()

    # --- what kind of event it is

    def _way(
        self,
        call: _Call,
        event: (
            model.CallRouted | model.CallAnswered | model.StepEntered | model.StepRetried | model.CallHeld
            | model.CallRetrieved | model.DigitsCollected | model.MessageTaken | model.CallbackRequested
            | model.Supervised | model.ToolReturned
        ),
    ) -> None:  # fmt: skip
        to, known = self._to, self.known
        match event:
            case model.CallRouted():
                call.route = known.route(event.route)
            case model.CallAnswered():
                to.answered.labels(call.direction, call.trunk).inc()
                mark(to.setup.labels(call.direction, call.trunk), event.setup_ms / 1000, event.call_id)
            case model.StepEntered():
                kind, name = known.step(event.step)
                to.steps.labels(kind, name).inc()
                self._out_of_queue(call, event)
                if kind == "agent":
                    call.agent, call.to_agent_at = name, event.at
                elif kind == "queue":
                    call.queue = name, event.at
            case model.StepRetried():
                to.retries.labels(*known.step(event.step), bounds.one_of(event.why, bounds.RETRIES)).inc()
            case model.CallHeld():
                by = bounds.one_of(event.by, bounds.PARTIES)
                call.held[by] = event.at
                to.holds.labels(by).inc()
            case model.CallRetrieved():
                self._retrieved(call, bounds.one_of(event.by, bounds.PARTIES), event.at)
            case model.DigitsCollected():
                to.digits.labels(known.digits(event.purpose), bounds.digits_result(event.result)).inc()
            case model.MessageTaken():
                to.messages.labels(known.mailbox(event.mailbox)).inc()
            case model.CallbackRequested():
                to.callbacks.labels(known.agent(event.agent)).inc()
            case model.Supervised():
                to.supervised.labels(bounds.one_of(event.what, bounds.LOOKS), _yes(event.result == "ok")).inc()
            case model.ToolReturned():
                tool = to.tool.labels(known.tool(event.name), _yes(event.ok))
                mark(tool, event.duration_ms / 1000, event.call_id)

    def _talk(
        self, call: _Call, event: model.AgentSpoke | model.BargeIn | model.FalseBargeIn | model.NoInputStep
    ) -> None:
        to = self._to
        match event:
            case model.AgentSpoke():
                if call.to_agent_at is not None:
                    first = to.first_audio.labels(call.direction, call.trunk, call.agent)
                    mark(first, max(event.at - call.to_agent_at, 0.0), event.call_id)
                    call.to_agent_at = None
                if event.latency_ms is not None:
                    turn = to.turn.labels(call.trunk, call.agent, call.model)
                    mark(turn, event.latency_ms / 1000, event.call_id)
                    for share in ("detection", "model", "network", "own"):
                        ms: float | None = getattr(event, f"{share}_ms")
                        if ms is not None:
                            mark(to.share.labels(share, call.model), ms / 1000, event.call_id)
            case model.BargeIn():
                by = bounds.one_of(event.confirmed_by, bounds.CONFIRMERS)
                to.barge_ins.labels(call.agent, by).inc()
                if event.stop_ms is not None:
                    mark(to.barge_in_stop.labels(by), event.stop_ms / 1000, event.call_id)
            case model.FalseBargeIn():
                to.false_barge_ins.labels(call.agent).inc()
                to.false_pause.labels(call.agent).inc(event.paused_ms / 1000)
            case model.NoInputStep():
                to.no_input.labels(str(min(event.step, LAST_STEP))).inc()

    def _session(
        self,
        call: _Call,
        event: (
            model.SessionOpened | model.SessionClosed | model.SessionLost | model.SessionRecovered
            | model.RealtimeTrouble
        ),
    ) -> None:  # fmt: skip
        to = self._to
        match event:
            case model.SessionOpened():
                name = call.model = self.known.model(event.model)
                call.sessions = call.sessions + Counter([name])  # a new one: a scrape may be reading the old
                mark(to.connect.labels(name), event.connect_ms / 1000, event.call_id)
                if not event.acknowledged:
                    to.unacknowledged.labels(name).inc()
            case model.SessionClosed():
                name = self.known.model(event.model)
                call.sessions = call.sessions - Counter([name])
                to.session_s.labels(name).inc(event.seconds)
                to.agent_audio_s.labels(name).inc(event.agent_audio_s)
                if price := self.known.now.realtime.price_per_minute:
                    to.cost.labels(name).inc(event.seconds / 60 * price)
            case model.SessionLost():
                mark(to.sessions_lost.labels(self.known.endpoint(event.endpoint)), 1, event.call_id)
            case model.SessionRecovered():
                how, endpoint = bounds.one_of(event.how, bounds.RECOVERIES), self.known.endpoint(event.endpoint)
                mark(to.recovered.labels(how, endpoint), event.gap_ms / 1000, event.call_id)
            case model.RealtimeTrouble():
                mark(to.troubles.labels(bounds.one_of(event.what, bounds.TROUBLES)), 1, event.call_id)

    def _out(
        self,
        call: _Call,
        event: (
            model.LegDialled | model.LegEnded | model.DialRefused | model.TransferStarted | model.TransferEnded
            | model.Classified
        ),
    ) -> None:  # fmt: skip
        to, known = self._to, self.known
        match event:
            case model.LegDialled():
                leg = call.legs[event.leg] = known.trunk(event.trunk), bounds.one_of(event.purpose, bounds.PURPOSES)
                to.legs_dialled.labels(*leg).inc()
                if event.purpose == "outbound" and event.trunk:  # the last that was tried carries the call
                    call.trunk = leg[0]
            case model.LegEnded():
                leg = call.legs.pop(event.leg, (OTHER, OTHER))
                result, cause = bounds.leg_result(event.result), bounds.cause_class(event.cause)
                mark(to.legs_ended.labels(*leg, result, cause), 1, event.call_id)
                to.leg_talk.labels(*leg).inc(event.seconds)
            case model.DialRefused():
                asked_by = bounds.one_of(event.asked_by, bounds.ASKERS)
                mark(to.refused.labels(asked_by, bounds.refusal(event.why)), 1, event.call_id)
            case model.TransferStarted():
                call.transfers[event.target] = bounds.one_of(event.how, bounds.HOWS)
            case model.TransferEnded():
                how = call.transfers.pop(event.target, OTHER)
                result = bounds.leg_result(event.result)
                mark(to.transfers.labels(known.target(event.target), how, result), 1, event.call_id)
            case model.Classified():
                to.classified.labels(event.disposition, bounds.one_of(event.said_by, bounds.JUDGES)).inc()

    def _recording(
        self,
        event: model.RecordingStarted | model.RecordingPaused | model.RecordingResumed | model.RecordingEnded,
    ) -> None:
        to = self._to
        match event:
            case model.RecordingPaused():
                by = event.by if event.by in {"collect_digits", "agent", "operator"} else OTHER
                to.pauses.labels(by).inc()
            case model.RecordingEnded():
                kind = bounds.one_of(event.format, bounds.FORMATS) if event.path else NONE
                result = "lost" if not event.path else "cut" if event.cut else "kept"
                mark(to.recordings.labels(kind, result), 1, event.call_id)
                to.recording_bytes.labels(kind).inc(event.bytes)
                to.recording_s.labels(kind).inc(event.seconds)
                to.recording_lost_s.labels(kind).inc(event.lost_ms / 1000)
            case model.RecordingStarted() | model.RecordingResumed():
                pass  # how many run now, the scrape counts

    # --- the end of things

    def _out_of_queue(self, call: _Call, event: model.StepEntered | model.CallEnded) -> None:
        if call.queue is not None:
            queue, since = call.queue
            mark(self._to.queue_stay.labels(queue), max(event.at - since, 0.0), event.call_id)
            call.queue = None

    def _retrieved(self, call: _Call, by: str, at: float) -> None:
        since = call.held.pop(by, None)
        if since is not None:
            self._to.hold_s.labels(by).inc(max(at - since, 0.0))

    def _ended(self, call: _Call, event: model.CallEnded) -> None:
        to, outcome = self._to, event.outcome
        labels = (call.direction, call.trunk, call.route, call.agent, outcome.result, outcome.reason, outcome.fault)
        mark(to.ended.labels(*labels), 1, event.call_id)
        to.finished.labels(call.direction, outcome.result, outcome.fault).inc()
        mark(to.duration.labels(call.direction, call.trunk), event.duration_s, event.call_id)
        self._out_of_queue(call, event)
        for by in list(call.held):
            self._retrieved(call, by, event.at)
        if call.direction == Direction.OUT:
            to.dispositions.labels(call.trunk, call.agent, event.disposition or NONE).inc()
        for direction, quality in event.quality.items():
            if direction in {"caller_to_model", "caller_to_switch", "switch_to_caller"}:
                self._quality(event.call_id, direction, call.trunk, quality)
        counted = event.counters
        for why in _DISCARDED:
            to.discarded.labels(why).inc(max(counted.get(f"rtp_{why}", 0), 0))
        for how in _FILLED:
            to.filled.labels(how).inc(max(counted.get(f"rtp_{how}_ms", 0), 0) / 1000)
        to.uplink_dropped.inc(counted.get("uplink_dropped", 0))
        to.overflow.inc(counted.get("playout_overflow_ms", 0) / 1000)

    def _quality(self, call_id: str, direction: str, trunk: str, quality: model.LegQuality) -> None:
        to = self._to
        for fate, counter in to.packets.items():
            # RTCP's loss is negative where packets came twice (RFC 3550, 6.4.1); a counter cannot be.
            counter.labels(direction, trunk).inc(max(getattr(quality, fate), 0))
        mark(to.jitter.labels(direction, trunk), quality.jitter_ms / 1000, call_id)
        if quality.rtt_ms is not None:
            mark(to.rtt.labels(direction, trunk), quality.rtt_ms / 1000, call_id)
        if quality.mos is not None:
            mark(to.mos.labels(direction, trunk), quality.mos, call_id)


def _yes(value: bool) -> str:
    return "true" if value else "false"
