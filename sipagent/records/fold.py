"""Events into rows (core): what of a call is known is changed by each event, in the order they came.

The store brings the rows that a batch of events may touch (`Rows`), everything else here is plain Python over them;
the database sees one insert or update a row and batch. An event of a call that nobody knows makes the call: half a
record is better than none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sipagent import model
from sipagent.model import Disposition
from sipagent.outcome import Fault, Reason
from sipagent.records.tables import (
    Base,
    Call,
    Callback,
    Leg,
    Message,
    Recording,
    ToolCall,
    Transfer,
    Turn,
    Utterance,
)

_CDR_OF_OUT = {Disposition.BUSY: "BUSY", Disposition.NO_ANSWER: "NO ANSWER"}
_USER_BUSY = 17
CALLBACK_WITHIN_S = 86400.0
"""A day after the time that was asked for nobody is called back any more."""
_RECORDING = (model.RecordingStarted, model.RecordingPaused, model.RecordingResumed, model.RecordingEnded)


class Kept(msgspec.Struct, frozen=True):
    """An event as the spool holds it: the `number`th of one run of a worker's process."""

    run: str
    number: int
    event: model.CallEvent


@dataclass(slots=True)
class Rows:
    """What is known of the calls of a batch. A table's rows by call and key, where an event may come back to them."""

    calls: dict[str, Call] = field(default_factory=dict)
    turns: dict[tuple[str, str], Turn] = field(default_factory=dict)
    utterances: dict[tuple[str, str], Utterance] = field(default_factory=dict)
    tools: list[ToolCall] = field(default_factory=list)
    """Open ones."""
    transfers: list[Transfer] = field(default_factory=list)
    """Open ones."""
    legs: dict[tuple[str, str], Leg] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)
    callbacks: set[str] = field(default_factory=set)
    """Ids of those that are queued already."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table of that name: the most of all, so they are inserted as they are."""
    new: list[Base] = field(default_factory=list)
    """To be inserted, in this order."""
    recorded: list[Recording] = field(default_factory=list)
    """Recordings that became whole in this batch."""
    ended: list[Call] = field(default_factory=list)
    """Calls whose end is in this batch."""

    def take(self, kept: Kept, history: model.CallEvent) -> None:
        """One event; `history` is what of it may stay for good."""
        event = kept.event
        call = self._call(kept)
        data = msgspec.to_builtins(history)
        self.events.append({"call_id": call.id, "at": event.at, "type": data["type"], "data": data})
        self._advance(call, event)

    def _call(self, kept: Kept) -> Call:
        event = kept.event
        call = self.calls.get(event.call_id)
        if call is None:
            call = Call(id=event.call_id, uniqueid=event.call_id, linkedid=event.call_id, start=event.at)
            self.calls[call.id] = self._add(call)
            if isinstance(event, _RECORDING):
                call.state = "lost"  # a recording of a call that is over, and forgotten
        call.last_at = max(call.last_at or event.at, event.at)
        if not isinstance(event, _RECORDING) and call.state != "ended":
            call.state, call.run = "live", kept.run
            call.end = call.duration = None  # it was taken for lost too early
        return call

    def _add(self, row: Any) -> Any:
        self.new.append(row)
        return row

    def _advance(self, call: Call, event: model.CallEvent) -> None:  # noqa: PLR0915 - a table over the events
        id_ = call.id
        match event:
            case model.CallStarted():
                call.src, call.dst, call.start = event.caller, event.called, event.at
                call.direction, call.codec, call.worker = event.direction.value, event.codec, event.worker
                call.trunk = event.endpoint
            case model.CallRouted():
                call.route, call.destination = event.route, event.destination
            case model.StepEntered():
                call.step = event.step
                if event.step.startswith("agent:"):
                    call.agent = event.step.removeprefix("agent:")
            case model.CallAnswered():
                call.answer, call.setup_ms = event.at, event.setup_ms
            case model.SessionOpened():
                call.realtime_model, call.conversation_id = event.model, event.conversation_id
                call.connect_ms = event.connect_ms
            case model.AgentSpoke():
                self._spoke(call, event)
            case model.BargeIn():
                call.barge_ins += 1
                if turn := self.turns.get((id_, event.item_id)):
                    turn.cut_at, turn.cut_by, turn.stop_ms = event.at, event.confirmed_by, event.stop_ms
                    turn.played_ms, turn.dropped_ms = event.played_ms, event.dropped_ms
            case model.FalseBargeIn():
                call.false_barge_ins += 1
            case model.Transcript():
                self._said(event)
            case model.ToolCalled():
                call.tools += 1
                tool = ToolCall(call_id=id_, number=call.tools, name=event.name, at=event.at, arguments=event.arguments)
                self.tools.append(self._add(tool))
            case model.ToolReturned():
                self._tool_returned(call, event)
            case model.TransferStarted():
                call.transfers += 1
                transfer = Transfer(
                    call_id=id_,
                    number=call.transfers,
                    target=event.target,
                    how=event.how,
                    at=event.at,
                    summary=event.summary,
                )
                self.transfers.append(self._add(transfer))
            case model.TransferEnded():
                if transfer := _pop(self.transfers, id_, "target", event.target):
                    transfer.ended_at, transfer.result = event.at, event.result
            case model.LegDialled():
                leg = self._leg(id_, event.leg, event.at)
                leg.to, leg.trunk, leg.purpose = event.to, event.trunk, event.purpose
                if event.purpose == "outbound":  # the last that was tried carries the call
                    call.trunk = event.trunk or call.trunk
            case model.LegEnded():
                leg = self._leg(id_, event.leg, event.at)
                leg.ended_at, leg.answered, leg.result = event.at, event.answered, event.result
                leg.cause, leg.seconds = event.cause, event.seconds
            case model.Classified():
                call.answered_by = event.disposition.value
            case model.MessageTaken():
                self._add(
                    Message(mailbox=event.mailbox, text=event.text, number=event.number, call_id=id_, at=event.at)
                )
            case model.CallbackRequested() if event.callback_id not in self.callbacks:
                self.callbacks.add(event.callback_id)
                self._add(callback_of(event))
            case model.RecordingStarted():
                call.recorded = True
                self._recording(event.recording_id, id_, event.at)
            case model.RecordingPaused():
                self._recording(event.recording_id, id_, event.at).pauses += 1
            case model.RecordingEnded():
                call.recorded = True
                recording = self._recording(event.recording_id, id_, event.at)
                recording.ended_at = event.at
                for name in ("path", "format", "seconds", "bytes", "sha256", "lost_ms", "cut"):
                    setattr(recording, name, getattr(event, name))
                self.recorded.append(recording)
            case model.CallEnded():
                _end(call, event)
                self.ended.append(call)
            case _:
                pass  # the event itself tells it

    def _spoke(self, call: Call, event: model.AgentSpoke) -> None:
        call.spoken += 1
        if call.first_audio_ms is None:
            call.first_audio_ms = round((event.at - call.start) * 1000, 1)
        if event.latency_ms is not None:
            before = (call.latency_avg_ms or 0.0) * call.turns
            call.turns += 1
            call.latency_avg_ms = round((before + event.latency_ms) / call.turns, 1)
            call.latency_max_ms = max(call.latency_max_ms or 0.0, event.latency_ms)
        self.turns[call.id, event.item_id] = self._add(
            Turn(
                call_id=call.id, number=call.spoken, item_id=event.item_id, at=event.at, latency_ms=event.latency_ms,
                detection_ms=event.detection_ms, model_ms=event.model_ms, network_ms=event.network_ms,
                own_ms=event.own_ms,
            )
        )  # fmt: skip

    def _said(self, event: model.Transcript) -> None:
        key = (event.call_id, event.item_id)
        said = self.utterances.get(key)
        if said is None and event.text:
            self.utterances[key] = self._add(
                Utterance(
                    call_id=event.call_id, item_id=event.item_id, at=event.at, role=event.role.value, text=event.text,
                    cut=event.cut,
                )
            )  # fmt: skip
        elif said is not None:
            said.text, said.cut = event.text, event.cut or said.cut

    def _tool_returned(self, call: Call, event: model.ToolReturned) -> None:
        tool = _pop(self.tools, call.id, "name", event.name)
        if tool is None:  # refused before it began
            call.tools += 1
            tool = self._add(ToolCall(call_id=call.id, number=call.tools, name=event.name, at=event.at))
        tool.returned_at, tool.ok, tool.duration_ms = event.at, event.ok, event.duration_ms
        tool.bytes, tool.result = event.bytes, event.result
        call.tool_errors += not event.ok

    def _leg(self, call_id: str, leg: str, at: float) -> Leg:
        if (call_id, leg) not in self.legs:
            self.legs[call_id, leg] = self._add(Leg(call_id=call_id, leg=leg, at=at))
        return self.legs[call_id, leg]

    def _recording(self, recording_id: str, call_id: str, at: float) -> Recording:
        if recording_id not in self.recordings:
            self.recordings[recording_id] = self._add(Recording(id=recording_id, call_id=call_id, at=at))
        return self.recordings[recording_id]


def callback_of(event: model.CallbackRequested) -> Callback:
    """A caller's wish as the queue holds it."""
    return Callback(
        id=event.callback_id,
        number=event.number,
        agent=event.agent,
        trunk=event.trunk,
        reason=event.reason,
        call_id=event.call_id,
        not_before=event.not_before,
        not_after=event.not_after or event.not_before + CALLBACK_WITHIN_S,
        max_attempts=event.attempts,
        next_at=event.not_before,
        created_at=event.at,
    )


def lost(call: Call) -> None:
    """Nobody will tell the end of this call any more: its last sign of life is taken for it."""
    call.state, call.end = "lost", call.last_at or call.start
    call.duration = round(call.end - call.start, 3)
    call.billsec = round(call.end - call.answer, 3) if call.answer else 0.0
    call.disposition = "ANSWERED" if call.answer else "FAILED"


def _pop(rows: list[Any], call_id: str, name: str, value: str) -> Any:
    """The oldest open one of the call with this name; it is open no more."""
    for place, row in enumerate(rows):
        if row.call_id == call_id and getattr(row, name) == value:
            return rows.pop(place)
    return None


def _end(call: Call, event: model.CallEnded) -> None:
    outcome = event.outcome
    call.state, call.end, call.duration = "ended", event.at, event.duration_s
    call.billsec = max(0.0, round(event.at - call.answer, 3)) if call.answer else 0.0
    call.result, call.reason, call.fault = outcome.result.value, outcome.reason.value, outcome.fault.value
    call.detail, call.cause, call.turns = outcome.detail, outcome.cause, max(call.turns, event.turns)
    if event.disposition:
        call.answered_by = event.disposition.value
    call.disposition = cdr_disposition(event)
    call.counters = dict(event.counters)
    call.quality = {way: msgspec.to_builtins(leg) for way, leg in event.quality.items()}
    call.mos = worst(leg.mos for leg in event.quality.values())


def cdr_disposition(event: model.CallEnded) -> str:
    """The end of a call in the five words of Asterisk's CDR (main/cdr.c)."""
    outcome = event.outcome
    if event.answered:
        return "ANSWERED"
    if event.disposition:
        return _CDR_OF_OUT.get(event.disposition, "FAILED")
    if outcome.reason is Reason.CALLER_CANCELLED or outcome.fault is Fault.CALLER:
        return "NO ANSWER" if outcome.reason is Reason.CALLER_CANCELLED else "FAILED"
    if outcome.cause == _USER_BUSY:
        return "BUSY"
    return "CONGESTION" if outcome.reason is Reason.NO_MEDIA_PORT else "FAILED"


def worst(scores: Iterable[float | None]) -> float | None:
    """The lowest that is known."""
    return min((score for score in scores if score is not None), default=None)
