"""Makes the calls that were promised: takes those whose time has come, and decides what becomes of each.

What the dial policy or a full trunk does not let out now is tried again later, as is somebody who does not answer.
Where no worker takes calls, nobody is dialled and no attempt used up. A worker that does not answer may have begun the
call: it is given time to tell of it, so that nobody is called twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

import structlog

from sipagent import model
from sipagent.config import Settings
from sipagent.control.live import Live
from sipagent.control.operator import Operator, Wanted
from sipagent.control.rescue import PATIENCE_S
from sipagent.errors import NoWorker, OrderRefused, Unanswered
from sipagent.model import Disposition
from sipagent.outcome import Reason, Result
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


class _What(Enum):
    """What has become of a call."""

    REACHED = auto()
    """The promise is kept."""
    MISSED = auto()
    """Nobody was reached, or nobody even called: to be tried again."""
    BEGUN_LATE = auto()
    """It was taken for missed, and is up all the same."""


class CallbackDialler:
    """The control process's own caller. `run` until cancelled, then `aclose`."""

    def __init__(self, callbacks: Callbacks, operator: Operator, live: Live, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force."""
        self._callbacks, self._operator, self._live, self._settings = callbacks, operator, live, settings
        self._news: deque[tuple[str, _What, str]] = deque()
        """Calls, and what became of them, in a word; until it is written down."""
        self._unsure: dict[str, float] = {}
        """Calls that no worker has answered for, and until when they may yet be told of (the loop's seconds)."""
        self._given_up: set[str] = set()
        """Those of them that nobody has told of."""
        self._came = asyncio.Event()
        self._left: list[Callback] | None = None
        """What those before us were dialling, as long as its calls may yet turn out to be up."""
        self._hours: tuple[Settings, OpeningHours] | None = None
        """When promises are kept, by which configuration."""
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
        self._give_up_waiting()
        if not settings.outbound.trunks or not self._live.takes_calls:
            return
        if settings.outbound.hours and not await asyncio.to_thread(self._open, settings, now):
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
        except NoWorker:
            await self._callbacks.put_back(due.id, due.attempts)
        except Unanswered as error:
            log.warning("callback_unanswered", callback=due.id, why=str(error))
            if wanted.call_id not in self._live.calls and all(call_id != wanted.call_id for call_id, *_ in self._news):
                self._unsure[wanted.call_id] = asyncio.get_running_loop().time() + PATIENCE_S
        except OrderRefused as error:
            log.warning("callback_not_made", callback=due.id, why=str(error))
            self._tell(wanted.call_id, _What.MISSED, f"refused: {error}")

    def _give_up_waiting(self) -> None:
        """Who has not told of a call until now has not begun it; nor will, for the order has expired."""
        now = asyncio.get_running_loop().time()
        for call_id in [call_id for call_id, until in self._unsure.items() if now >= until]:
            del self._unsure[call_id]
            self._given_up.add(call_id)
            self._tell(call_id, _What.MISSED, "unanswered by the worker")

    def _on_event(self, event: model.CallEvent) -> None:
        self._unsure.pop(event.call_id, None)
        if event.call_id in self._given_up:
            self._given_up.discard(event.call_id)
            self._tell(event.call_id, _What.BEGUN_LATE)
        if isinstance(event, model.CallEnded) and event.call_id.startswith(PREFIX):
            outcome, machine = event.outcome, event.disposition is Disposition.MACHINE
            left = self._settings().outbound.machine == "message" and outcome.reason is Reason.COMPLETED
            somebody = event.disposition is None or event.disposition in REACHED or (machine and left)
            reached = event.answered and somebody and outcome.result is not Result.FAILURE
            how = str(event.disposition or event.outcome.reason)
            self._tell(event.call_id, _What.REACHED if reached else _What.MISSED, how)

    def _on_lost(self, call_id: str) -> None:
        if call_id.startswith(PREFIX):
            self._tell(call_id, _What.MISSED, "lost")

    def _tell(self, call_id: str, what: _What, how: str = "") -> None:
        self._news.append((call_id, what, how))
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
        """Write down what has become of calls by now; what cannot be written is kept."""
        while self._news:
            call_id, what, how = self._news[0]
            callback_id, attempt = _callback_of(call_id)
            match what:
                case _What.REACHED:
                    await self._callbacks.done(callback_id, how)
                case _What.MISSED:
                    again_at = time.time() + self._settings().outbound.retry_after_s
                    await self._callbacks.retry(callback_id, how, again_at)
                case _What.BEGUN_LATE:
                    await self._callbacks.take_back(callback_id, attempt)
            self._news.popleft()

    def _open(self, settings: Settings, now: dt.datetime) -> bool:
        """Not the loop's: a calendar is read and worked out, for each configuration once."""
        if self._hours is None or self._hours[0] is not settings:
            self._hours = settings, OpeningHours(settings.hours[settings.outbound.hours], settings.folder)
        return self._hours[1].at(now).open


def _call_id(row: Callback) -> str:
    """Of the call that keeps the promise, or tries to: by it the promise is found again, whoever has begun the call."""
    return f"{PREFIX}{row.id}-{row.attempts}"


def _callback_of(call_id: str) -> tuple[str, int]:
    """The promise that this call keeps, and the number of the attempt."""
    callback_id, _, attempt = call_id.removeprefix(PREFIX).rpartition("-")
    return callback_id, int(attempt)
