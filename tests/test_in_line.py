"""Who waits in line has company, whether or not anybody counts the places."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from sipagent import in_line
from sipagent.audio import Law
from sipagent.config import Settings
from sipagent.errors import RealtimeFull
from tests.waiting import until

VALUES: dict[str, Any] = {
    "agents": {"reception": {"instructions": "Be brief.", "greeting": "Hello."}},
    "realtime": {"waiting": {"say": "Please hold.", "place": "Number {place}."}},
}
SETTINGS = Settings(**VALUES)


class Room:
    """What a caller in line hears, in order."""

    law = Law.ULAW

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.media = MagicMock()
        self.media.queue.queued_ms = 0

    def interruptible_by(self, _settings: object) -> None:
        pass

    def play(self, phrases: Any) -> None:
        self.heard.extend(phrase.text for phrase in phrases)

    @contextlib.contextmanager
    def looping(self, _g711: bytes) -> Iterator[None]:
        self.heard.append("music")
        yield

    def stop_loop(self) -> None:
        pass


class FullByTheirCount:
    """There is room by our count: the turn comes at once, without a place; the provider answers 429."""

    async def turn(self, _on_place: Callable[[int], None]) -> None:
        pass

    async def open(self) -> None:
        raise RealtimeFull("every session of the quota is taken")


class NobodyCounts(FullByTheirCount):
    """The control process is away, and this worker's share is taken."""

    async def turn(self, _on_place: Callable[[int], None]) -> None:
        await asyncio.Event().wait()


class Third(NobodyCounts):
    """The control process knows the place."""

    async def turn(self, on_place: Callable[[int], None]) -> None:
        on_place(3)
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("line", "hears"),
    [
        (FullByTheirCount(), ["Please hold.", "music"]),
        (NobodyCounts(), ["Please hold.", "music"]),
        (Third(), ["Please hold.", "Number", "three", "music"]),
    ],
    ids=lambda case: type(case).__name__,
)
async def test_nobody_waits_in_silence(line: Any, hears: list[str]) -> None:
    room: Any = Room()
    waiting = asyncio.create_task(in_line.in_line(line, line.open, room, SETTINGS, "en", MagicMock()))
    await until(lambda: room.heard == hears, lambda: f"{hears}, and not {room.heard}")
    waiting.cancel()
    await asyncio.wait({waiting})
