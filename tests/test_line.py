"""The line to the voice model, without a model."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import MagicMock

from sipagent.line import Line
from sipagent.orders import SessionGranted, SessionLeft, SessionWanted
from sipagent.sessions import Sessions


async def test_who_is_not_let_wait_for_the_closing_gives_its_session_back_all_the_same() -> None:
    asked: list[Any] = []

    def control(what: Any) -> None:
        asked.append(what)
        if isinstance(what, SessionWanted):
            sessions.told(SessionGranted(what.key, "main"))

    sessions, policy, closing = Sessions(control), MagicMock(), asyncio.Event()
    policy.sessions, policy.settings.realtime.quotas = sessions, {"main": 1}
    line = Line(MagicMock(), policy, MagicMock(), MagicMock(), "call")
    assert await line._slot.take("main")

    async def aclose() -> None:
        closing.set()
        await asyncio.Event().wait()

    line._client = MagicMock(aclose=aclose)
    line._client.uplink.dropped_frames, line._client.session.counts = 0, {"backlog_dropped": 0}
    leaving = asyncio.create_task(line.aclose())
    await closing.wait()
    leaving.cancel()
    await asyncio.wait({leaving})
    assert isinstance(asked[-1], SessionLeft)
    assert sessions.linked() == ()
    for task in line._closing:
        task.cancel()
