"""What may stand in a log."""

import io
import json

import pytest
import structlog

from sipagent import model
from sipagent.config import LogSettings
from sipagent.model import Role
from sipagent.observe import logs
from sipagent.outcome import CallOutcome, Reason


@pytest.fixture(autouse=True)
def fresh_structlog():  # type: ignore[no-untyped-def]
    yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def lines(settings: LogSettings, *events: model.CallEvent) -> list[dict]:  # type: ignore[type-arg]
    out = io.StringIO()
    logs.configure(settings, stream=out, worker=3)
    log_event = logs.EventLog(settings)
    for event in events:
        log_event(event)
    return [json.loads(line) for line in out.getvalue().splitlines()]


STARTED = model.CallStarted(
    call_id="c", at=0, caller="+15551234567", called="100", endpoint="e", codec="ulaw", worker=3
)
SAID = model.Transcript(call_id="c", at=0, role=Role.CALLER, item_id="i", text="my card is 4111")
ENDED = model.CallEnded(
    call_id="c",
    at=0,
    outcome=CallOutcome(Reason.REALTIME_LOST, "why"),
    duration_s=2.0,
    answered=True,
    turns=1,
    counters={"rtp_lost": 3},
)


def test_numbers_and_speech_are_hidden_by_default() -> None:
    [started] = lines(LogSettings(format="json"), STARTED, SAID)
    assert started["caller"] == "**********67"
    assert started["called"] == "100"


@pytest.mark.parametrize(
    ("event", "key", "shown"),
    [
        (model.TransferStarted(call_id="c", at=0, target="+447700900456", how="referred"), "target", "***********56"),
        (model.TransferEnded(call_id="c", at=0, target="+447700900456", result="answered"), "target", "***********56"),
        (model.TransferStarted(call_id="c", at=0, target="sales", how="blind"), "target", "sales"),
        (model.StepEntered(call_id="c", at=0, step="dial:07700900789@carrier"), "step", "dial:*********89@carrier"),
        (model.StepEntered(call_id="c", at=0, step="dial:401"), "step", "dial:401"),
        (
            model.CallRouted(call_id="c", at=0, route="r", destination="dial:+442079460123@vonage"),
            "destination",
            "dial:***********23@vonage",
        ),
        (model.TurnedAway(call_id="c", at=0, limit="route", to="queue:sales"), "to", "queue:sales"),
        (model.TurnedAway(call_id="c", at=0, limit="route", to="dial:07700900789"), "to", "dial:*********89"),
    ],
)
def test_a_place_keeps_its_name_and_loses_its_number(event: model.CallEvent, key: str, shown: str) -> None:
    [hidden] = lines(LogSettings(format="json"), event)
    assert hidden[key] == shown
    [whole] = lines(LogSettings(format="json", show_numbers=True), event)
    assert whole[key] == getattr(event, key)


def test_speech_is_hidden_wherever_it_stands() -> None:
    out = io.StringIO()
    logs.configure(LogSettings(format="json"), stream=out)
    structlog.get_logger().info("heard", text="my card is 4111")
    assert json.loads(out.getvalue())["text"] == "(15 characters)"


def test_they_are_shown_when_allowed() -> None:
    started, said = lines(LogSettings(format="json", show_numbers=True, show_transcripts=True), STARTED, SAID)
    assert started["caller"] == "+15551234567"
    assert said["text"] == "my card is 4111"


def test_a_tool_is_told_by_name_and_length_alone() -> None:
    called = model.ToolCalled(call_id="c", at=0, name="order_status")
    returned = model.ToolReturned(call_id="c", at=0, name="order_status", ok=True, duration_ms=12.5, bytes=40)
    first, second = lines(LogSettings(format="json"), called, returned)
    assert (first["event"], first["tool"], "arguments" in first) == ("tool_called", "order_status", False)
    assert (second["ok"], second["duration_ms"], second["bytes"], "result" in second) == (True, 12.5, 40, False)


def test_one_canonical_line_ends_a_call() -> None:
    [line] = lines(LogSettings(format="json"), ENDED)
    assert line["event"] == "call_ended"
    assert (line["result"], line["reason"], line["fault"]) == ("failure", "realtime_lost", "provider")
    assert (line["call_id"], line["worker"], line["rtp_lost"]) == ("c", 3, 3)


def test_a_slow_answer_has_a_line_with_its_shares_and_a_quick_one_has_none() -> None:
    slow = model.AgentSpoke(call_id="c", at=0, item_id="i", latency_ms=2000.0, model_ms=1400.0, own_ms=2.0)
    quick = model.AgentSpoke(call_id="c", at=0, item_id="i", latency_ms=900.0)
    greeting = model.AgentSpoke(call_id="c", at=0, item_id="i", latency_ms=None)
    [line] = lines(LogSettings(format="json"), slow, quick, greeting)
    assert (line["event"], line["call_id"], line["latency_ms"], line["model_ms"]) == ("slow_turn", "c", 2000.0, 1400.0)


def test_what_a_runbook_looks_for_stands_there() -> None:
    trouble = model.RealtimeTrouble(call_id="c", at=0, what="server_error", detail="it says why")
    leg = model.LegEnded(call_id="c", at=0, leg="l", answered=False, result="busy", cause=17, seconds=0)
    first, second = lines(LogSettings(format="json"), trouble, leg)
    assert (first["event"], first["level"], first["detail"]) == ("realtime_trouble", "warning", "it says why")
    assert (second["event"], second["result"], second["cause"]) == ("leg_ended", "busy", 17)


def test_tracebacks_show_no_locals() -> None:
    out = io.StringIO()
    for form in ("json", "text"):
        logs.configure(LogSettings(format=form), stream=out)  # type: ignore[arg-type]
        secret = "hunter2"
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger().exception("oops")
        assert secret not in out.getvalue()
        assert "ValueError" in out.getvalue()
