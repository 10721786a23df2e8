"""What of a call is heard that changes who has a session."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from sipagent import model
from sipagent.control.live import ORPHANED, Live
from sipagent.control.sessions import Sessions
from sipagent.orders import SessionWanted
from sipagent.outcome import CallOutcome, Reason

ELSEWHERE = model.SessionOpened(
    call_id="call",
    at=0.0,
    model="grok",
    requested_model="grok",
    conversation_id="one",
    connect_ms=1.0,
    acknowledged=True,
    endpoint="other",
)
OVER = model.CallEnded(
    call_id="call",
    at=0.0,
    outcome=CallOutcome(Reason.CALLER_HANGUP),
    duration_s=1.0,
    answered=True,
    turns=0,
    counters={},
)


@pytest.mark.parametrize("event", [ELSEWHERE, OVER], ids=["it has one where nobody counts", "it is over without one"])
def test_a_call_that_was_adopted_gives_back_what_its_dead_worker_had(event: model.CallEvent) -> None:
    settings: Any = MagicMock()
    settings.realtime.quotas = {"main": 1}
    live = Live(2)
    sessions = Sessions(MagicMock(), live, lambda: settings)
    sessions.asked("first run", SessionWanted("key", "call", ("main",)))
    live.calls["call"] = MagicMock(call_id="call", state=ORPHANED)
    sessions.gone("first run")
    assert sessions.quota.open("main") == 1  # kept for whoever adopts it
    live.take(event)
    assert sessions.quota.open("main") == 0


@pytest.mark.parametrize("run", ["run", ""], ids=["a process", "in ours, which has no name"])
def test_a_call_that_ends_keeps_its_session_until_it_is_closed(run: str) -> None:
    settings: Any = MagicMock()
    settings.realtime.quotas = {"main": 1}
    live = Live(1)
    sessions = Sessions(MagicMock(), live, lambda: settings)
    sessions.asked(run, SessionWanted("key", "call", ("main",)))
    live.take(OVER)
    assert sessions.quota.open("main") == 1
