"""Calls as workers tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sipagent import model
from sipagent.model import LegQuality, Role
from sipagent.outcome import CallOutcome, Reason
from sipagent.records.fold import Kept

QUALITY = LegQuality(
    received=600, expected=602, lost=2, loss_percent=0.3, late=0, reordered=0, duplicate=0, jitter_ms=1.5,
    rtt_ms=20.0, r_factor=88.0, mos=4.2,
)  # fmt: skip


def call(call_id: str = "c1", at: float = 1_790_000_000.0, *, caller: str = "+442079460123") -> list[model.CallEvent]:
    """A greeting, a question with a tool, an interruption, a transfer that nobody takes; 30 s."""

    def made(kind: type[model.CallEvent], after: float, **facts: Any) -> model.CallEvent:
        return kind(call_id=call_id, at=at + after, **facts)  # type: ignore[return-value]

    return [
        made(model.CallStarted, 0, caller=caller, called="100", endpoint="vonage", codec="alaw", worker=1),
        made(model.CallRouted, 0.01, route="main", destination="agent:reception"),
        made(model.StepEntered, 0.02, step="agent:reception"),
        made(model.CallAnswered, 0.2, setup_ms=200.0),
        made(model.SessionOpened, 0.25, model="grok", requested_model="grok-voice-latest", conversation_id="conv",
             connect_ms=120.0, acknowledged=True),
        made(model.AgentSpoke, 0.5, item_id="g", latency_ms=None),
        made(model.Transcript, 0.6, role=Role.AGENT, item_id="g", text="Hello, how can I help you?"),
        made(model.Transcript, 5, role=Role.CALLER, item_id="u1", text="Where is my order 4711?"),
        made(model.ToolCalled, 5.2, name="order_status", arguments='{"order":"4711"}'),
        made(model.ToolReturned, 5.7, name="order_status", ok=True, duration_ms=500.0, bytes=20, result="on its way"),
        made(model.AgentSpoke, 6.5, item_id="a1", latency_ms=1500.0, detection_ms=500.0, model_ms=960.0,
             network_ms=30.0, own_ms=10.0),
        made(model.Transcript, 6.6, role=Role.AGENT, item_id="a1", text="It is on its way and will come"),
        made(model.BargeIn, 8, item_id="a1", played_ms=1500, dropped_ms=2000, confirmed_by="speech", stop_ms=60.0),
        made(model.Transcript, 8.1, role=Role.AGENT, item_id="a1", text="It is on its way", cut=True),
        made(model.Transcript, 9, role=Role.CALLER, item_id="u2", text="Give me your boss."),
        made(model.AgentSpoke, 10, item_id="a2", latency_ms=700.0),
        made(model.TransferStarted, 12, target="boss", how="warm", summary="Wants the boss."),
        made(model.LegDialled, 12.1, leg="l1", to="+442079460999", trunk="vonage", purpose="transfer"),
        made(model.LegEnded, 20, leg="l1", answered=False, result="no answer", cause=19, seconds=0.0),
        made(model.TransferEnded, 20, target="boss", result="no answer"),
        made(model.CallEnded, 30, outcome=CallOutcome(Reason.CALLER_HANGUP), duration_s=30.0, answered=True, turns=2,
             counters={"frames_in": 1500}, quality={"caller_to_model": QUALITY}),
    ]  # fmt: skip


def kept(events: Sequence[model.CallEvent], run: str = "run", first: int = 1) -> list[Kept]:
    """As they come out of the spool."""
    return [Kept(run, number, event) for number, event in enumerate(events, first)]
