"""Makes the calls that were promised: takes those whose time has come, and decides what becomes of each.

What the dial policy or a full trunk does not let out now is tried again later, as is somebody who does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable

import structlog

from sipagent import model
from sipagent.config import Settings
from sipagent.control.live import Live
from sipagent.control.operator import Operator, Wanted
from sipagent.errors import OrderRefused
from sipagent.model import Disposition
from sipagent.records.callbacks import Callbacks
from sipagent.records.database import AWAY
from sipagent.records.tables import Callback
from sipagent.routing.hours import OpeningHours

log = structlog.get_logger()

LOOK_EVERY_S = 5.0
AT_ONCE = 10
"""Begun with one look; the trunk's `cps` spaces them out."""
REACHED = frozenset({Disposition.HUMAN, Disposition.UNKNOWN})


class CallbackDialler:
    """The control process's own caller. `run` until cancelled."""

    def __init__(self, callbacks: Callbacks, operator: Operator, live: Live, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force."""
        self._callbacks, self._operator, self._live, self._settings = callbacks, operator, live, settings
        self._dialling: dict[str, str] = {}
        """Call-backs that are being made, by the id of their call."""
        self._ended: asyncio.Queue[tuple[str, str, bool]] = asyncio.Queue()
        live.subscribe(self._on_event)

    async def run(self) -> None:
        """Take what is due, again and again; a database that is away is waited for."""
        released = False
        while True:
            try:
                if not released:
                    await self._callbacks.release(time.time())
                    released = True
                await self.look(dt.datetime.now(dt.UTC))
            except AWAY as error:
                log.warning("callbacks_wait_for_database", error=str(error).partition("\n")[0])
            await self._settle(LOOK_EVERY_S)

    async def look(self, now: dt.datetime) -> None:
        """Begin what is due at `now`."""
        settings = self._settings()
        if not settings.outbound.trunks or not self._open(settings, now):
            return
        for due in await self._callbacks.due(now.timestamp(), AT_ONCE):
            await self._begin(due)

    async def _begin(self, due: Callback) -> None:
        call_id = f"callback-{due.id}-{due.attempts}"
        wanted = Wanted(
            to=due.number,
            agent=due.agent,
            trunks=(due.trunk,) if due.trunk else (),
            variables={**due.variables, "reason": due.reason},
            call_id=call_id,
        )
        self._dialling[call_id] = due.id
        try:
            await self._operator.dial(wanted)
        except OrderRefused as error:
            log.warning("callback_not_made", callback=due.id, why=str(error))
            self._ended.put_nowait((call_id, f"refused: {error}", False))

    def _on_event(self, event: model.CallEvent) -> None:
        if isinstance(event, model.CallEnded) and event.call_id in self._dialling:
            message_left = event.disposition is Disposition.MACHINE and self._settings().outbound.machine == "message"
            reached = event.answered and (event.disposition is None or event.disposition in REACHED or message_left)
            self._ended.put_nowait((event.call_id, str(event.disposition or event.outcome.reason), reached))

    async def _settle(self, for_s: float) -> None:
        """Write down how calls went, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while True:
                    ended = await self._ended.get()
                    await self._settle_one(*ended)

    async def settle_waiting(self) -> None:
        """Write down how the calls went that have ended by now."""
        while not self._ended.empty():
            await self._settle_one(*self._ended.get_nowait())

    async def _settle_one(self, call_id: str, how: str, reached: bool) -> None:
        """One of our calls has ended."""
        callback_id = self._dialling.pop(call_id, "")
        if not callback_id:
            return
        if reached:
            await self._callbacks.done(callback_id, how)
        else:
            await self._callbacks.retry(callback_id, how, time.time() + self._settings().outbound.retry_after_s)

    def _open(self, settings: Settings, now: dt.datetime) -> bool:
        hours = settings.outbound.hours
        return not hours or OpeningHours(settings.hours[hours], settings.folder).at(now).open
