"""Events as workers send them: a node's worth of calls in which everything happens that can."""

from __future__ import annotations

from typing import Any

from sipagent import model
from sipagent.config import Settings
from sipagent.control.probes import Place
from sipagent.meter import Meter
from sipagent.model import CallEvent, Direction, Disposition, LegQuality
from sipagent.orders import ProbeResult, WorkerState
from sipagent.outcome import CallOutcome, Reason

GOOD = LegQuality(500, 510, 8, 1.6, 2, 3, 1, 4.0, 60.0, 88.0, 4.2)
BAD = LegQuality(400, 500, 90, 18.0, 10, 5, 0, 45.0, 240.0, 40.0, 2.1)
COUNTERS = {
    "rtp_stray": 1, "rtp_malformed": 1, "rtp_concealed_ms": 160, "rtp_paused_ms": 2000, "uplink_dropped": 3,
    "playout_overflow_ms": 20,
}  # fmt: skip
NAMES: dict[str, Any] = {
    "agents": {"reception": {"instructions": "Be brief.", "tools": ("order_status",), "digits": ("card",),
                             "messages": ("office",), "transfers": ("boss",)}},
    "numbers": {"100": "reception"},
    "trunks": {"office": {"preset": "generic-ip", "hosts": ["127.0.0.1"]}},
    "queues": {"sales": {"members": ["401@office"]}},
    "menus": {"main": {"prompt": "Press one.", "keys": {"1": "queue:sales"}}},
    "mailboxes": {"office": {"greeting": "Leave a message."}},
    "transfers": {"boss": {"description": "Anna.", "to": "queue:sales"}},
    "digits": {"card": {"description": "The card's number."}},
    "realtime": {"price_per_minute": 0.05, "session_quota": 10},
}  # fmt: skip
TOOL = {"kind": "http", "description": "Where an order is.", "url": "https://api.example.com/orders"}


def settings(**changes: Any) -> Settings:
    """A company that names everything the story speaks of."""
    return Settings(**{**NAMES, "tools": {"order_status": TOOL}, **changes})


def state(calls: int = 1) -> WorkerState:
    """A worker that does well, nearly."""
    pacing, ari = Meter(0.001, 0.002, 0.005, 0.01), Meter(0.001, 0.01, 0.1)
    for seconds in (0.0004, 0.0004, 0.003, 0.02):
        pacing.observe(seconds)
        ari.observe(seconds)
    counts = {
        "ari_reconnects": 1, "ari_timeouts": 2, "pacing_shifted_ms": 40, "orphans": 1, "toolbox_restarts": 1,
        "standby_taken": 1, "standby_missed": 1, "blocks_dropped": 3, "log_lines_dropped": 4,
    }  # fmt: skip
    return WorkerState(
        True, "22.10.1", True, calls, 4, pacing.read(), ari.read(), counts,
        cpu_s=12.5, waited_s=0.5, rss_bytes=90_000_000, tasks=12, standby=1,
    )  # fmt: skip


def probed(**how: Any) -> Place:
    """A probe that has been run twice."""
    facts = {"ok": True, "answer_ms": 300.0, "voice_ms": 900.0, "mos": 4.4} | how
    last = ProbeResult(name="uk", trunk="office", call_id="probe-1", at=10.0, **facts)
    return Place(due=0.0, last=last, passed=1, failed=1)


def opened(call_id: str, at: float, endpoint: str = "office", direction: Direction = Direction.IN) -> list[CallEvent]:
    """A call that has come to an agent, and has had one turn."""
    return [
        model.CallStarted(
            call_id=call_id, at=at, caller="+442079460123", called="100", endpoint=endpoint, codec="ulaw", worker=1,
            direction=direction,
        ),
        model.CallRouted(call_id=call_id, at=at, route="number 1", destination="agent:reception"),
        model.StepEntered(call_id=call_id, at=at, step="agent:reception"),
        model.CallAdopted(call_id=call_id, at=at + 0.1, worker=1, step="agent:reception"),
        model.SessionOpened(
            call_id=call_id, at=at + 0.3, model="grok-voice", requested_model="grok-voice", conversation_id="c",
            connect_ms=300, acknowledged=True,
        ),
        model.CallAnswered(call_id=call_id, at=at + 0.4, setup_ms=400),
        model.MediaTrouble(call_id=call_id, at=at + 0.5, action="repaired"),
        model.SessionLost(call_id=call_id, at=at + 0.5, endpoint="main", detail="the connection dropped"),
        model.SessionRecovered(call_id=call_id, at=at + 0.6, how="resumed", endpoint="main", gap_ms=120.0),
        model.WaitingForSession(call_id=call_id, at=at + 0.1, place=2),
        model.WaitedForSession(call_id=call_id, at=at + 0.2, seconds=0.1, result="granted"),
        model.TurnedAway(call_id=call_id, at=at + 0.1, limit="route", to="agent:reception"),
        model.AgentSpoke(call_id=call_id, at=at + 0.8, item_id="a", latency_ms=None),
        model.AgentSpoke(
            call_id=call_id, at=at + 5, item_id="b", latency_ms=900, detection_ms=500, model_ms=340, network_ms=58,
            own_ms=2,
        ),
    ]  # fmt: skip


def ended(call_id: str, at: float, reason: Reason = Reason.CALLER_HANGUP, **changes: Any) -> list[CallEvent]:
    """Its end, with figures of all three directions."""
    facts: dict[str, Any] = {
        "duration_s": 30.0, "answered": True, "turns": 1, "counters": COUNTERS,
        "quality": {"caller_to_model": GOOD, "caller_to_switch": GOOD, "switch_to_caller": BAD}, **changes,
    }  # fmt: skip
    return [
        model.SessionClosed(call_id=call_id, at=at, model="grok-voice", seconds=60, agent_audio_s=12),
        model.CallEnded(call_id=call_id, at=at, outcome=CallOutcome(reason), **facts),
    ]


def everything(call_id: str, at: float) -> list[CallEvent]:
    """A call in which everything happens."""
    what: dict[str, Any] = {"call_id": call_id, "at": at + 6}
    return [
        *opened(call_id, at),
        model.StepEntered(**what, step="menu:main"),
        model.StepRetried(**what, step="menu:main", why="no_input"),
        model.StepRetried(**what, step="menu:main", why="invalid"),
        model.StepEntered(**what, step="queue:sales"),
        model.StepEntered(call_id=call_id, at=at + 20, step="agent:reception"),
        model.BargeIn(**what, item_id="b", played_ms=400, dropped_ms=900, confirmed_by="speech", stop_ms=58),
        model.BargeIn(**what, item_id="b", played_ms=400, dropped_ms=900),
        model.FalseBargeIn(**what, paused_ms=240),
        model.NoInputStep(**what, step=1),
        model.RealtimeTrouble(**what, what="server_error", detail="?"),
        model.RealtimeTrouble(**what, what="something from the wire", detail="?"),
        model.CallHeld(**what, by="agent"),
        model.CallRetrieved(call_id=call_id, at=at + 10, by="agent"),
        model.DigitsCollected(**what, purpose="card", digits=4, result="ok"),
        model.DigitsCollected(**what, purpose="card", digits=0, result="the caller has pressed nothing"),
        model.MessageTaken(**what, mailbox="office", text="Please call.", number="+442079460123"),
        model.CallbackRequested(
            **what, callback_id="b", number="+442079460123", agent="reception", trunk="office", not_before=at, reason=""
        ),
        model.Supervised(**what, what="monitor", who="anna", result="ok"),
        model.ToolCalled(**what, name="order_status"),
        model.ToolReturned(**what, name="order_status", ok=True, duration_ms=220, bytes=20),
        model.ToolReturned(**what, name="order_status", ok=False, duration_ms=5000, bytes=0),
        model.ToolReturned(**what, name="a name the model made up", ok=False, duration_ms=0, bytes=0),
        model.TransferStarted(**what, target="boss", how="warm"),
        model.LegDialled(**what, leg="l", to="+442079460123", trunk="office", purpose="transfer"),
        model.LegEnded(**what, leg="l", answered=False, result="busy", cause=17, seconds=0),
        model.TransferEnded(**what, target="boss", result="busy"),
        model.DialRefused(
            **what, to="+1900", why="refused by the dial policy: not in dial_policy.allow", asked_by="agent"
        ),
        model.RecordingStarted(**what, recording_id="r"),
        model.RecordingPaused(**what, recording_id="r", by="agent"),
        model.RecordingResumed(**what, recording_id="r", by="agent"),
        *ended(call_id, at + 30),
        model.RecordingEnded(
            **what, recording_id="r", path="/r.wav", format="wav", seconds=20, bytes=320_000, sha256="", lost_ms=40
        ),
    ]


def outbound(call_id: str, at: float) -> list[CallEvent]:
    """A call out that a machine answered, with a model that never confirmed its settings."""
    return [
        *opened(call_id, at, direction=Direction.OUT),
        model.SessionOpened(
            call_id=call_id,
            at=at,
            model="grok-voice",
            requested_model="grok-voice",
            conversation_id="c",
            connect_ms=2300,
            acknowledged=False,
        ),
        model.LegDialled(call_id=call_id, at=at, leg=call_id, to="+442079460123", trunk="office", purpose="outbound"),
        model.Classified(call_id=call_id, at=at, disposition=Disposition.MACHINE, said_by="detector"),
        model.LegEnded(call_id=call_id, at=at + 9, leg=call_id, answered=True, result="answered", cause=16, seconds=9),
        model.SessionClosed(call_id=call_id, at=at + 9, model="grok-voice", seconds=9, agent_audio_s=3),
        *ended(call_id, at + 9, Reason.COMPLETED, disposition=Disposition.MACHINE),
    ]
