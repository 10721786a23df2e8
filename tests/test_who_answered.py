"""Who has answered a call out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from sipagent import who_answered
from sipagent.model import Disposition
from sipagent.orders import Originate
from sipagent.who_answered import WhoAnswered


async def test_a_machine_that_somebody_put_through_to_is_listened_to_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They have transferred us (REFER) to their mailbox: the channel of the beginning is gone."""
    listened: list[str] = []

    class Detector:
        def __init__(self, channel: Any) -> None:
            listened.append(channel)

        async def until_tone(self) -> str:
            return ""

    monkeypatch.setattr(who_answered, "Detector", Detector)
    caller, conversation = SimpleNamespace(channel="first"), MagicMock()
    conversation.talk.sealed = False
    order = Originate(call_id="o", to="401", trunks=("t",), agent="a", machine="message", message="Hello.")

    async def a_call() -> None:
        async with asyncio.TaskGroup() as group:
            story = MagicMock(disposition=Disposition.UNKNOWN)
            asked = WhoAnswered(order, caller, story, group, {})  # type: ignore[arg-type]
            asked.conversation = conversation
            caller.channel = "second"
            asked.agent_says_machine()

    with pytest.raises(BaseExceptionGroup):
        await a_call()
    assert listened == ["second"]
