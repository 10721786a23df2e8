"""Every reason has a meaning, and every event crosses the link unchanged."""

from typing import get_args

import msgspec
import pytest

from sipagent import model, orders
from sipagent.link import decode_upward, encode
from sipagent.model import Role
from sipagent.outcome import CallOutcome, Fault, Reason, Result


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_meaning(reason: Reason) -> None:
    outcome = CallOutcome(reason)
    assert 1 <= outcome.cause <= 127
    assert (outcome.result is Result.FAILURE) <= (outcome.fault is not Fault.NONE)
    assert (outcome.result is Result.SUCCESS) == (outcome.fault is Fault.NONE)


LEG = model.LegQuality(100, 101, 1, 0.99, 0, 0, 0, 1.5, None, 90.0, 4.3)
EVENTS: list[orders.Upward] = [
    model.CallStarted(call_id="c", at=1.5, caller="+15551234567", called="100", endpoint="e", codec="alaw", worker=1),
    model.CallAdopted(call_id="c", at=1.5, worker=2, step="agent:reception"),
    model.CallRouted(call_id="c", at=1.5, route="office", destination="menu:main"),
    model.StepEntered(call_id="c", at=1.5, step="menu:main"),
    model.ToolCalled(call_id="c", at=1.5, name="order_status"),
    model.ToolReturned(call_id="c", at=1.5, name="order_status", ok=True, duration_ms=12.5, bytes=40),
    model.TransferStarted(call_id="c", at=1.5, target="boss", how="warm"),
    model.TransferEnded(call_id="c", at=1.5, target="boss", result="busy"),
    model.CallAnswered(call_id="c", at=1.5, setup_ms=12.5),
    model.SessionOpened(
        call_id="c", at=1.5, model="m", requested_model="l", conversation_id="x", connect_ms=3.0, acknowledged=True
    ),
    model.AgentSpoke(call_id="c", at=1.5, item_id="i", latency_ms=None),
    model.BargeIn(call_id="c", at=1.5, item_id="i", played_ms=1, dropped_ms=2),
    model.FalseBargeIn(call_id="c", at=1.5, paused_ms=240),
    model.Transcript(call_id="c", at=1.5, role=Role.CALLER, item_id="i", text="ö"),
    model.NoInputStep(call_id="c", at=1.5, step=1),
    model.RealtimeTrouble(call_id="c", at=1.5, what="w", detail="d"),
    model.CallEnded(
        call_id="c",
        at=1.5,
        outcome=CallOutcome(Reason.CALLER_HANGUP, "x"),
        duration_s=1.0,
        answered=True,
        turns=1,
        counters={"rtp_lost": 0},
        quality={"caller_to_model": LEG},
    ),
    model.WaitingForSession(call_id="c", at=1.5, place=2),
    model.WaitedForSession(call_id="c", at=1.5, seconds=3.5, result="granted"),
    model.TurnedAway(call_id="c", at=1.5, limit="route", to="queue:sales"),
    model.MediaTrouble(call_id="c", at=1.5, action="repaired"),
    model.SessionLost(call_id="c", at=1.5, endpoint="main", detail="the connection dropped"),
    model.SessionRecovered(call_id="c", at=1.5, how="resumed", endpoint="main", gap_ms=140.5),
    model.SessionClosed(call_id="c", at=1.5, model="m", seconds=61.5, agent_audio_s=20.1),
    model.StepRetried(call_id="c", at=1.5, step="menu:main", why="no_input"),
    model.LegDialled(call_id="c", at=1.5, leg="c-leg1", to="+442079460123", trunk="vonage", purpose="transfer"),
    model.LegEnded(call_id="c", at=1.5, leg="c-leg1", answered=False, result="busy", cause=17, seconds=0.0),
    model.DialRefused(call_id="c", at=1.5, to="+1900", why="premium", asked_by="agent"),
    model.CallHeld(call_id="c", at=1.5, by="caller"),
    model.CallRetrieved(call_id="c", at=1.5, by="caller"),
    model.DigitsCollected(call_id="c", at=1.5, purpose="card number", digits=16, result="ok"),
    model.MessageTaken(call_id="c", at=1.5, mailbox="office", text="please call", number="+442079460123"),
    model.CallbackRequested(
        call_id="c", at=1.5, callback_id="b", number="+44", agent="a", trunk="t", not_before=2.0, reason="r"
    ),
    model.Supervised(call_id="c", at=1.5, what="monitor", who="anna", result="answered"),
    model.Classified(call_id="c", at=1.5, disposition=model.Disposition.MACHINE, said_by="detector"),
    model.RecordingStarted(call_id="c", at=1.5, recording_id="r"),
    model.RecordingPaused(call_id="c", at=1.5, recording_id="r", by="collect_digits"),
    model.RecordingResumed(call_id="c", at=1.5, recording_id="r", by="collect_digits"),
    model.RecordingEnded(
        call_id="c", at=1.5, recording_id="r", path="p", format="wav", seconds=1.0, bytes=44, sha256="0" * 64
    ),
    orders.Numbered(7),
    orders.Answer("o", "no such call"),
    orders.SessionWanted("k", "c", ("main", "second"), first=True),
    orders.SessionLeft("k"),
    orders.WorkerHello(1, 99, "run", (orders.SessionHeld("k", "c", "main"),)),
    orders.WorkerState(asterisk_connected=True, asterisk_version="22.10.1", accepting=True, calls=1, events_dropped=0),
]


def test_every_event_crosses_the_link_unchanged_and_in_order() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(orders.Upward))
    assert decode_upward(encode(EVENTS)) == EVENTS


@pytest.mark.parametrize("text", ["", "{}", '[{"type":"call_ended"}]', '[{"type":"unheard_of"}]', "[1]"])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_upward(text)
