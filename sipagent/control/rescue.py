"""When a worker has died: its calls go to another worker at once, or wait for the new one with music.

The channels are alive in Asterisk, which needs no worker to keep them. What a worker must know to go on is on each of
them (`carried`). Only what nobody takes over within `PATIENCE_S` counts as lost.

One that is mute may speak again: until it does, or is killed, its callers hear music as well.

A worker that is not linked is dead: if its process lives all the same, it is ended first. Nobody would hear of its
calls, and whoever took them from it while it serves them would have them hung up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import aiohttp
import structlog

from sipagent.config import Settings
from sipagent.control.heartbeat import kill
from sipagent.control.hub import Hub
from sipagent.control.live import ORPHANED, Live, LiveCall, LiveWorker
from sipagent.errors import OrderRefused
from sipagent.orders import Adopt

log = structlog.get_logger()

PATIENCE_S = 15.0
"""A worker that is started anew is there in two seconds; a machine that swaps needs longer."""
NOT_WITH_US = frozenset({"queue", "voicemail", "messages", "dial", "transferred"})
"""Steps in which the caller hears somebody else already."""
ADOPT_TIMEOUT_S = 5.0
ASTERISK_TIMEOUT_S = 2.0


class Rescue:
    """Minds the workers' silence and deaths. `aclose` at the end."""

    def __init__(
        self, hub: Hub, live: Live, settings: Callable[[], Settings], end: Callable[[int], None] = kill
    ) -> None:
        """`settings` gives the configuration in force; `end` ends a process for good."""
        self._end = end
        self._hub, self._live, self._settings = hub, live, settings
        self._tasks: set[asyncio.Task[None]] = set()
        self._mute: dict[int, asyncio.Future[bool]] = {}
        """Workers whose callers hear music: it speaks again, or it is gone."""
        self._closed = False
        live.on_worker_lost = self._on_lost

    async def aclose(self) -> None:
        """Nobody is rescued any more: the node goes down."""
        self._live.on_worker_lost = self._live.give_up
        self._closed = True
        self._mute.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def mute(self, worker: int) -> None:
        """Nothing is heard of it, and so nothing is to be heard for its callers."""
        if self._closed:
            return
        calls = [call for call in self._live.calls.values() if call.worker == worker and call.state != ORPHANED]
        channels = _with_us(calls)
        log.warning("worker_mute", worker=worker, calls=len(channels))
        speaks = self._mute[worker] = asyncio.get_running_loop().create_future()
        self._start(self._keep_company(channels, speaks))

    def speaks(self, worker: int) -> None:
        """It was only halted."""
        if speaks := self._mute.pop(worker, None):
            speaks.set_result(True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="rescue")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_company(self, channels: list[str], speaks: asyncio.Future[bool]) -> None:
        await self._music("POST", channels)
        if await speaks:
            await self._music("DELETE", channels)

    def _on_lost(self, lost: LiveWorker) -> None:
        orphans = self._live.orphans(lost)
        if speaks := self._mute.pop(lost.number, None):
            speaks.set_result(False)  # who adopts them ends it
        # Of one that was mute nobody knows who has come to it since.
        if orphans or speaks:
            if lost.pid:
                self._end(lost.pid)
            # A successor that was here before it went takes what it had by itself; two would take each call twice.
            succeeded = self._live.workers[lost.number].run != lost.run
            self._start(self._rescue(lost, orphans, succeeded=succeeded))

    async def _rescue(self, lost: LiveWorker, orphans: list[LiveCall], *, succeeded: bool) -> None:
        log.error("worker_lost", worker=lost.number, calls=len(orphans))
        if not succeeded:
            await self._ask_somebody(Adopt(worker=lost.number, run=lost.run), orphans)
        await asyncio.sleep(PATIENCE_S)
        self._live.give_up(lost)

    async def _ask_somebody(self, order: Adopt, orphans: list[LiveCall]) -> None:
        able = [other for other in self._live.workers.values() if other.able and other.number != order.worker]
        # One that drains may be about to end; but these are no new calls, and it takes them when nobody else can.
        able.sort(key=lambda other: (not other.ready, other.state.calls if other.state else 0))
        for other in able:
            try:
                answer = await self._hub.ask(other.number, order, ADOPT_TIMEOUT_S)
            except OrderRefused as error:
                log.warning("not_adopted", by=other.number, error=str(error))
            else:
                log.info("adopted", by=other.number, what=answer.detail)
                break
        else:
            # Whoever comes next adopts them by itself; until then they hear that they are not forgotten.
            await self._music("POST", _with_us(orphans))

    async def _music(self, method: str, channels: list[str]) -> None:
        asterisk = self._settings().asterisk
        auth = aiohttp.encode_basic_auth(asterisk.username, asterisk.password.get_secret_value())
        timeout = aiohttp.ClientTimeout(total=ASTERISK_TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(headers={"Authorization": auth}, timeout=timeout) as http:
                for channel in channels:
                    async with http.request(method, f"{asterisk.url}/ari/channels/{channel}/moh"):
                        pass
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("no_music_for_orphans", error=str(error))


def _with_us(calls: Iterable[LiveCall]) -> list[str]:
    """The channels of those who hear nobody else."""
    return [call.call_id for call in calls if call.step.partition(":")[0] not in NOT_WITH_US]
