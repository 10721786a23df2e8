"""Makes the calls that were promised: takes those whose time has come, and decides what becomes of each.

What the dial policy or a full trunk does not let out now is tried again later, as is somebody who does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import deque
from collections.abc import Callable

import structlog

from sipagent import model
from sipagent.config import Settings
from sipagent.control.live import Live
from sipagent.control.operator import Operator, Wanted
from sipagent.control.rescue import PATIENCE_S
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
PREFIX = "callback-"
LAST_WORD_S = 2.0
"""At the end, for a database that is slow."""
REACHED = frozenset({Disposition.HUMAN, Disposition.UNKNOWN})


class CallbackDialler:
    """The control process's own caller. `run` until cancelled, then `aclose`."""

    def __init__(self, callbacks: Callbacks, operator: Operator, live: Live, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force."""
        self._callbacks, self._operator, self._live, self._settings = callbacks, operator, live, settings
        self._ended: deque[tuple[str, str, bool]] = deque()
        """Call-backs whose calls are over, how that was, and whether somebody was reached; until it is written down."""
        self._came = asyncio.Event()
        self._left: list[Callback] | None = None
        """What those before us were dialling, as long as its calls may yet turn out to be up."""
        live.subscribe(self._on_event, self._on_lost)

    async def run(self) -> None:
        """Take what is due, again and again; a database that is away is waited for."""
        loop = asyncio.get_running_loop()
        adopted_by = loop.time() + PATIENCE_S
        while True:
            try:
                await self.look_back()
                if loop.time() >= adopted_by:
                    await self.give_back()
                await self.look(dt.datetime.now(dt.UTC))
                await self._settle(LOOK_EVERY_S)
            except AWAY as error:
                log.warning("callbacks_wait_for_database", error=str(error).partition("\n")[0])
                await asyncio.sleep(LOOK_EVERY_S)

    async def aclose(self) -> None:
        """Write down how the last calls went, if that goes: whoever comes next would make them again."""
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(LAST_WORD_S):
                await self.settle_waiting()

    async def look_back(self) -> None:
        """Find out, before anything is begun, what those before us had begun."""
        if self._left is None:
            self._left = await self._callbacks.dialling()

    async def give_back(self) -> None:
        """What they had begun and nobody has taken over is to be made again; whose call is up is being kept."""
        await self.settle_waiting()
        if lost := [row for row in self._left or () if _call_id(row) not in self._live.calls]:
            await self._callbacks.release(lost, time.time())
        self._left = []

    async def look(self, now: dt.datetime) -> None:
        """Begin what is due at `now`."""
        settings = self._settings()
        if not settings.outbound.trunks or not self._open(settings, now):
            return
        for due in await self._callbacks.due(now.timestamp(), AT_ONCE):
            await self._begin(due)

    async def _begin(self, due: Callback) -> None:
        wanted = Wanted(
            to=due.number,
            agent=due.agent,
            trunks=(due.trunk,) if due.trunk else (),
            variables={**due.variables, "reason": due.reason},
            call_id=_call_id(due),
        )
        try:
            await self._operator.dial(wanted)
        except OrderRefused as error:
            log.warning("callback_not_made", callback=due.id, why=str(error))
            self._over(due.id, f"refused: {error}", reached=False)

    def _on_event(self, event: model.CallEvent) -> None:
        if isinstance(event, model.CallEnded) and (callback_id := _callback_of(event.call_id)):
            message_left = event.disposition is Disposition.MACHINE and self._settings().outbound.machine == "message"
            reached = event.answered and (event.disposition is None or event.disposition in REACHED or message_left)
            self._over(callback_id, str(event.disposition or event.outcome.reason), reached=reached)

    def _on_lost(self, call_id: str) -> None:
        if callback_id := _callback_of(call_id):
            self._over(callback_id, "lost", reached=False)

    def _over(self, callback_id: str, how: str, *, reached: bool) -> None:
        self._ended.append((callback_id, how, reached))
        self._came.set()

    async def _settle(self, for_s: float) -> None:
        """Write down how calls went, for a while. What is timed is the wait: a transaction is never cut short."""
        until = asyncio.get_running_loop().time() + for_s
        while True:
            await self.settle_waiting()
            self._came.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._came.wait()
            except TimeoutError:
                return

    async def settle_waiting(self) -> None:
        """Write down how the calls went that have ended by now; what cannot be written is kept."""
        while self._ended:
            callback_id, how, reached = self._ended[0]
            if reached:
                await self._callbacks.done(callback_id, how)
            else:
                await self._callbacks.retry(callback_id, how, time.time() + self._settings().outbound.retry_after_s)
            self._ended.popleft()

    def _open(self, settings: Settings, now: dt.datetime) -> bool:
        hours = settings.outbound.hours
        return not hours or OpeningHours(settings.hours[hours], settings.folder).at(now).open


def _call_id(row: Callback) -> str:
    """Of the call that keeps the promise, or tries to: by it the promise is found again, whoever has begun the call."""
    return f"{PREFIX}{row.id}-{row.attempts}"


def _callback_of(call_id: str) -> str:
    """The promise that this call keeps; empty: none."""
    return call_id.removeprefix(PREFIX).rpartition("-")[0] if call_id.startswith(PREFIX) else ""
