"""A call's events as the spans of one trace (core: no I/O, no clock, no OpenTelemetry).

    call                                  the whole of it
      ring                                until the answer
      menu main, agent reception ...      the caller's way, step by step
        invoke_agent reception            a voice session
          chat grok-voice-latest          a turn: the caller's last sound to the agent's first
          execute_tool order_status       whoever the tool asks hangs their span here (`tracecontext`)
      leg outbound, transfer sales

Names and keys are OpenTelemetry's for generative AI (`gen_ai.*`) where it has one, else `sipagent.*`. What was said,
and numbers, stand in them only where the operator lets the log show them; details of errors never, since they may hold
either. A call whose worker is gone is closed as an error at the last moment that is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from sipagent import model
from sipagent.model import Direction
from sipagent.outcome import Result
from sipagent.tracecontext import ROOT, Trace, tool_span

Kind = Literal["server", "client", "internal"]
Value = str | int | float | bool
MAX_MARKS = 200
"""Of one span; a caller may interrupt all day."""
MAX_SPANS = 2000
"""Of one call, an hour of quick talk; what comes then is counted and not sent."""
_PROVIDER = {"gen_ai.provider.name": "x_ai", "gen_ai.system": "xai"}  # the second is the name of before 1.37
_REACHED = frozenset({"answered", "handed over"})
_MARKS = {
    model.BargeIn: ("played_ms", "dropped_ms", "confirmed_by", "stop_ms"),
    model.FalseBargeIn: ("paused_ms",),
    model.NoInputStep: ("step",),
    model.StepRetried: ("why",),
    model.RealtimeTrouble: ("what",),
    model.SessionRecovered: ("how", "endpoint", "gap_ms"),
    model.CallHeld: ("by",),
    model.CallRetrieved: ("by",),
    model.DigitsCollected: ("purpose", "result"),
    model.Supervised: ("what", "result"),
    model.Classified: ("disposition", "said_by"),
    model.DialRefused: ("asked_by",),
    model.RecordingStarted: (),
    model.RecordingPaused: ("by",),
    model.RecordingResumed: ("by",),
    model.MessageTaken: (),
    model.CallbackRequested: (),
}
"""Events that have no length: what of them stands in the span that they fall into."""


@dataclass(slots=True)
class Span:
    """One span. Times are Unix seconds; `what` gives its id (`Trace.span_id`)."""

    trace: Trace
    what: str
    parent: str
    """The `what` of another span of the call; empty: the call's own root."""
    name: str
    start: float
    end: float = 0.0
    kind: Kind = "internal"
    attributes: dict[str, Value] = field(default_factory=dict)
    marks: list[tuple[float, str, Mapping[str, Value]]] = field(default_factory=list)
    error: str = ""
    """Empty: none. Of a bounded set of words."""


class _Traced:
    """One call's open spans."""

    def __init__(self, start: model.CallStarted, trace: Trace, *, numbers: bool, words: bool) -> None:
        self.done: list[Span] = []
        self.trace, self.at = trace, start.at
        self._numbers, self._words = numbers, words
        self._spans = 0
        self._agent, self._model = "", ""
        kind: Kind = "server" if start.direction is Direction.IN else "client"
        self.root = self._open(ROOT, "", "call", start.at, kind=kind)
        self.root.attributes |= {
            "sipagent.call.id": start.call_id,
            "sipagent.call.direction": start.direction.value,
            "sipagent.trunk": start.endpoint,
            "sipagent.codec": start.codec,
            "sipagent.worker": start.worker,
        }
        if numbers:
            self.root.attributes |= {"sipagent.caller": start.caller, "sipagent.called": start.called}
        self.ring: Span | None = self._open("ring", ROOT, "ring", start.at)
        self.step: Span | None = None
        self.sessions: list[Span] = []
        """A menu's listener may still be closing when an agent's is open: the oldest closes first."""
        self.open: dict[str, Span] = {}
        """Tools, legs and transfers that are under way."""

    def follow(self, trace: Trace) -> None:
        """The call belongs to a trace that began elsewhere: nothing of it has been sent yet."""
        self.trace = trace
        for span in (self.root, self.ring, *self.open.values()):
            if span is not None:
                span.trace = trace

    def _open(self, what: str, parent: str, name: str, at: float, *, kind: Kind = "internal") -> Span:
        self._spans += 1
        return Span(self.trace, what, parent, name, at, kind=kind)

    def _close(self, span: Span | None, at: float, error: str = "") -> None:
        if span is not None:
            span.end, span.error = max(at, span.start), error or span.error
            self.done.append(span)

    @property
    def full(self) -> bool:
        """No more spans of this call."""
        return self._spans >= MAX_SPANS

    def _within(self) -> Span:
        """Where something belongs that happens now."""
        return self.sessions[-1] if self.sessions else self.step or self.root

    def take(self, event: model.CallEvent) -> None:  # noqa: PLR0915 - a table over the events
        """One event more, in order."""
        at = self.at = max(self.at, event.at)
        match event:
            case model.CallRouted():
                self.root.attributes["sipagent.route"] = event.route
            case model.CallAnswered():
                self._close(self.ring, at)
                self.ring = None
            case model.StepEntered():
                self._close(self.step, at)
                kind, _, name = event.step.partition(":")
                shown = name if self._numbers or kind != "dial" else "@" + name.rpartition("@")[2]
                self._agent = name if kind == "agent" else self._agent
                self.step = self._open(f"step:{self._spans}", ROOT, f"{kind} {shown}".strip(), at)
                self.step.attributes["sipagent.step"] = kind
            case model.SessionOpened():
                self._session(event)
            case model.SessionLost() if self.sessions:
                self.sessions[-1].error = "session_lost"
            case model.SessionClosed() if self.sessions:
                session = self.sessions.pop(0)
                session.attributes["sipagent.agent_audio_s"] = event.agent_audio_s
                self._close(session, at)
            case model.AgentSpoke():
                self._turn(event)
            case model.ToolCalled():
                self.open[tool_span(event.tool_call_id)] = tool = self._tool(event, at)
                if event.arguments and self._words:
                    tool.attributes["gen_ai.tool.call.arguments"] = event.arguments
            case model.ToolReturned():
                what = tool_span(event.tool_call_id)
                tool = self.open.pop(what) if what in self.open else self._tool(event, at)
                tool.attributes["sipagent.tool.bytes"] = event.bytes
                if event.result and self._words:
                    tool.attributes["gen_ai.tool.call.result"] = event.result
                self._close(tool, at, "" if event.ok else "tool_failed")
            case model.TransferStarted():
                span = self._open(f"transfer:{self._spans}", self._within().what, "transfer", at)
                span.attributes |= {"sipagent.transfer.how": event.how, **self._place(event.target)}
                self.open[f"transfer:{event.target}"] = span
            case model.TransferEnded():
                error = "" if event.result in _REACHED else "not_reached"
                self._close(self.open.pop(f"transfer:{event.target}", None), at, error)
            case model.LegDialled():
                span = self._open(f"leg:{self._spans}", ROOT, f"leg {event.purpose}", at, kind="client")
                span.attributes |= {"sipagent.trunk": event.trunk, "sipagent.leg.purpose": event.purpose}
                if self._numbers:
                    span.attributes["sipagent.called"] = event.to
                self.open[f"leg:{event.leg}"] = span
            case model.LegEnded():
                if leg := self.open.pop(f"leg:{event.leg}", None):
                    leg.attributes |= {"sipagent.leg.answered": event.answered, "sipagent.q850": event.cause}
                    self._close(leg, at, "" if event.answered else "not_reached")
            case model.Transcript() if self._words:
                self._mark(event.at, f"said by the {event.role}", {"sipagent.text": event.text})
            case model.CallEnded():
                self._end(event)
            case _ if type(event) in _MARKS:
                facts = msgspec.to_builtins(event)
                kept = {f"sipagent.{name}": facts[name] for name in _MARKS[type(event)] if facts[name] is not None}
                self._mark(event.at, facts["type"], kept)
            case _:
                pass

    def _mark(self, at: float, name: str, facts: Mapping[str, Value]) -> None:
        span = self._within()
        if len(span.marks) < MAX_MARKS:
            span.marks.append((at, name, facts))

    def _session(self, event: model.SessionOpened) -> None:
        within = self.step or self.root
        start = max(event.at - event.connect_ms / 1000, self.root.start)
        session = self._open(f"session:{self._spans}", within.what, "", start, kind="client")
        # A menu's listener is no agent.
        agent = self._agent if within.name.startswith("agent ") else ""
        session.name = f"invoke_agent {agent}".strip()
        session.attributes |= {
            **_PROVIDER,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.request.model": event.requested_model,
            "gen_ai.response.model": event.model,
            "gen_ai.conversation.id": event.conversation_id,
            "gen_ai.output.type": "speech",
            "sipagent.endpoint": event.endpoint,
            "sipagent.connect_ms": event.connect_ms,
        }
        if agent:
            session.attributes["gen_ai.agent.name"] = agent
        self._model = event.requested_model
        self.sessions.append(session)

    def _turn(self, event: model.AgentSpoke) -> None:
        within = self._within()
        # The agent's first words answer nobody: they have taken as long as the session has been there.
        start = within.start if event.latency_ms is None else event.at - event.latency_ms / 1000
        turn = self._open(f"turn:{self._spans}", within.what, f"chat {self._model}".strip(), start, kind="client")
        turn.attributes |= {
            **_PROVIDER,
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": self._model,
            "gen_ai.response.id": event.item_id,
        }
        shares = {name: getattr(event, f"{name}_ms") for name in ("detection", "model", "network", "own")}
        turn.attributes |= {f"sipagent.turn.{name}_ms": ms for name, ms in shares.items() if ms is not None}
        self._close(turn, event.at)

    def _tool(self, event: model.ToolCalled | model.ToolReturned, at: float) -> Span:
        what = tool_span(event.tool_call_id)
        span = self._open(what, self._within().what, f"execute_tool {event.name}", at)
        span.attributes |= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": event.tool_call_id,
        }
        return span

    def _place(self, target: str) -> dict[str, Value]:
        """A name of the configuration; one that somebody gave by REFER is a number."""
        is_number = target[:1] in {"+", "*"} or target[:1].isdigit()
        return {} if is_number and not self._numbers else {"sipagent.transfer.target": target}

    def _end(self, event: model.CallEnded) -> None:
        outcome = event.outcome
        self.root.attributes |= {
            "sipagent.result": outcome.result.value,
            "sipagent.reason": outcome.reason.value,
            "sipagent.fault": outcome.fault.value,
            "sipagent.q850": outcome.cause,
            "sipagent.answered": event.answered,
            "sipagent.turns": event.turns,
            **{f"sipagent.mos.{way}": leg.mos for way, leg in event.quality.items() if leg.mos is not None},
        }
        self.close(event.at, outcome.reason.value if outcome.result is Result.FAILURE else "")

    def close(self, at: float, error: str, *, of_all: bool = False) -> None:
        """The call is over: so is everything that is still open. `of_all`: and each of it has failed."""
        for span in (*self.open.values(), *reversed(self.sessions), self.step, self.ring):
            self._close(span, at, error if of_all else "")
        self.open, self.sessions, self.step, self.ring = {}, [], None, None
        self._close(self.root, at, error)


class Spans:
    """All calls of the node. `take` every event; what it gives back is finished."""

    def __init__(self, node: str, sample_ratio: float, *, numbers: bool = False, words: bool = False) -> None:
        """`numbers` and `words`: the operator lets phone numbers and what was said be shown."""
        self.cut = 0
        """Events of calls that had `MAX_SPANS` spans already."""
        self._node, self._ratio = node, sample_ratio
        self._show = {"numbers": numbers, "words": words}
        self._calls: dict[str, _Traced] = {}

    def take(self, event: model.CallEvent) -> list[Span]:
        """One event of whatever call."""
        if isinstance(event, model.CallStarted):
            trace = Trace.of(event.call_id, self._node, self._ratio)
            self._calls[event.call_id] = _Traced(event, trace, **self._show)
            return []
        call = self._calls.get(event.call_id)
        if call is None:
            return []
        if isinstance(event, model.CallRouted) and event.traceparent:
            call.follow(Trace.of(event.call_id, self._node, self._ratio, event.traceparent))
        if isinstance(event, model.CallEnded):
            del self._calls[event.call_id]
        elif call.full:
            self.cut += 1
            return []
        call.take(event)
        return self._finished(call)

    def lost(self, call_id: str) -> list[Span]:
        """Its worker is gone, and with it the call's end."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return []
        call.close(call.at, "worker_lost", of_all=True)
        return self._finished(call)

    def _finished(self, call: _Traced) -> list[Span]:
        done, call.done = call.done, []
        return done if call.trace.sampled else []
