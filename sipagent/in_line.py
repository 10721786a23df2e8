"""A caller waits in line for a session with the model: music, their place, and an end to their patience."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from sipagent import model
from sipagent.audio import PTIME_MS
from sipagent.config import Settings
from sipagent.config.ivr import Text
from sipagent.errors import RealtimeFull
from sipagent.flow.phrases import phrases_now
from sipagent.line import Line
from sipagent.room import NOBODY, Room
from sipagent.talk import Emit
from sipagent.tones import looped

log = structlog.get_logger()

RETRY_S = 1.0
"""After a session that was free by our count and not by the provider's."""
PLACE_WITHIN_S = 1.0
"""Whose place is not known by then is told without one; a session that is granted at once may be open by then."""


class _Places:
    """What is known of the caller's place."""

    def __init__(self, settings: Settings, emit: Emit) -> None:
        self.place = 0
        self.known = asyncio.Event()
        """Set when it is another one than before."""
        self._most, self._emit = settings.realtime.waiting.callers, emit

    def take(self, place: int) -> None:
        """The control process's word. RealtimeFull where so many wait already."""
        if not self.place and place > self._most:
            raise RealtimeFull(f"{place - 1} callers wait already")
        if place != self.place:
            self.place = place
            self.known.set()
            self._emit(model.WaitingForSession, place=place)


async def in_line(
    line: Line, opened: Callable[[], Awaitable[None]], room: Room, settings: Settings, language: str, emit: Emit
) -> None:
    """Returns when the session is open; `opened` opens it, when it is their turn.

    Raises:
        RealtimeFull: too many wait already, or it took too long; RealtimeError: as `opened`.
    """
    began_s, result = time.monotonic(), "gave_up"
    waiting, places = settings.realtime.waiting, _Places(settings, emit)
    room.interruptible_by(NOBODY)
    company = asyncio.create_task(_keep_company(room, places, settings, language), name="call-in-line")
    try:
        async with asyncio.timeout(waiting.at_most_s):
            while True:
                await line.turn(places.take)
                try:
                    await opened()
                except RealtimeFull:
                    await asyncio.sleep(RETRY_S)
                else:
                    result = "granted"
                    return
    except asyncio.CancelledError:
        result = "left"
        raise
    except (TimeoutError, RealtimeFull):
        raise RealtimeFull(f"no session within {waiting.at_most_s:g} s") from None
    finally:
        company.cancel()
        await asyncio.wait({company})
        emit(model.WaitedForSession, seconds=round(time.monotonic() - began_s, 3), result=result)


async def _keep_company(room: Room, places: _Places, settings: Settings, language: str) -> None:
    """That they are to wait, and where they are in line; then music, and their place again when it is another.

    There may be no place: the control process is away, or its count has room and the provider's has not. Then there
    is the rest.
    """
    waiting = settings.realtime.waiting

    async def say(text: Text) -> None:
        call = {"place": str(places.place)}
        room.play(phrases_now(text, settings.call.language, settings.variables, language, call))
        await asyncio.sleep((room.media.queue.queued_ms + PTIME_MS) / 1000)

    room.stop_loop()  # they may have been on hold, or have heard it ring
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PLACE_WITHIN_S):
            await places.known.wait()
    await say(waiting.say)
    while True:
        places.known.clear()
        if waiting.place and places.place:
            await say(waiting.place)
        with room.looping(looped("hold", room.law)):
            await asyncio.sleep(waiting.again_s)
            await places.known.wait()
