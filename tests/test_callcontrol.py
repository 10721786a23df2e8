"""What an agent does with the call itself, when a model asks for more than one thing at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from sipagent.audio import Law
from sipagent.callcontrol import CallControl
from sipagent.config import Settings
from sipagent.tools.desk import Builtin
from tests.waiting import until

VALUES: dict[str, Any] = {
    "agents": {
        "reception": {
            "instructions": "Be brief.",
            "greeting": "Hello.",
            "may_hold": True,
            "transfers": ["sales"],
            "digits": ["pin"],
        },
    },
    "transfers": {"sales": {"to": "announcement:bye", "description": "Sales."}},
    "announcements": {"bye": {"prompt": "Bye."}},
    "digits": {"pin": {"description": "Their PIN."}},
}


class Desk:
    """One agent's hands and the room that they reach into."""

    def __init__(self) -> None:
        settings = Settings(**VALUES)
        self.room = MagicMock(law=Law.ULAW)
        parties = MagicMock(room=self.room, agent=settings.agents["reception"], spoken_out=AsyncMock())
        control = CallControl(MagicMock(), {})
        self.does: Mapping[str, Builtin] = control.builtins(settings.agents["reception"], settings)
        control.serve(parties)

    async def ask(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        return await self.does[name].handler(arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("hold", {"seconds": 1}), ("transfer_call", {"target": "sales"}), ("collect_digits", {"name": "pin"})],
)
async def test_a_caller_is_given_to_one_thing_at_a_time(name: str, arguments: dict[str, Any]) -> None:
    """Each has the room play something, and puts back afterwards what it found there."""
    desk = Desk()
    holding = asyncio.create_task(desk.ask("hold", seconds=180))
    await until(lambda: bool(desk.room.looping.called), "the music")
    async with asyncio.timeout(10):
        told = await desk.ask(name, **arguments)
    assert "hold" in told["error"]
    desk.room.looping.assert_called_once()
    holding.cancel()
    await asyncio.wait({holding})
    desk.room.looping.return_value.__exit__.assert_called_once()


async def test_one_thing_after_the_other_is_done() -> None:
    desk = Desk()
    holding = asyncio.create_task(desk.ask("hold", seconds=180))
    await until(lambda: bool(desk.room.looping.called), "the music")
    holding.cancel()
    await asyncio.wait({holding})
    again = asyncio.create_task(desk.ask("hold", seconds=180))
    await until(lambda: desk.room.looping.call_count == 2, "the music again")
    again.cancel()
    await asyncio.wait({again})
