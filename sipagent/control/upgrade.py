"""Taking workers out of service without losing a call: drain, conclude, and restart one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.rescue import NOT_WITH_US
from sipagent.errors import OrderRefused
from sipagent.orders import Abandon, Conclude, Drain

log = structlog.get_logger()

ORDER_TIMEOUT_S = 5.0
BACK_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.1
FAREWELL_S = 15.0
"""For a last sentence, and a mailbox' greeting after it."""


class Upgrade:
    """What an operator does before new code or a reboot."""

    def __init__(self, hub: Hub, live: Live) -> None:
        self._hub, self._live = hub, live
        self._one = asyncio.Lock()

    async def drain(self, *, on: bool) -> None:
        """All workers take no new calls, or take them again; so do those that are started meanwhile.

        Raises:
            OrderRefused: one does not answer.
        """
        self._hub.standing = (Drain(),) if on else ()
        # All are asked, whatever one of them says.
        asked = [self._hub.ask(number, Drain(on=on), ORDER_TIMEOUT_S) for number in self._there()]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    def _there(self) -> list[int]:
        return [number for number, worker in self._live.workers.items() if worker.state]

    @property
    def with_us(self) -> int:
        """How many callers are with no one but us."""
        return sum(call.step.partition(":")[0] not in NOT_WITH_US for call in self._live.calls.values())

    async def until_empty(self, at_most_s: float) -> int:
        """Wait until no call is up; how many are left after `at_most_s`."""
        await _until(lambda: not self._live.calls, at_most_s)
        return len(self._live.calls)

    async def conclude(self) -> int:
        """Who is still with us goes on to [control] drain_to, or is told goodbye; how many that has not done.

        Raises:
            OrderRefused: a worker does not answer; the others have done it all the same.
        """
        patience_s = FAREWELL_S + ORDER_TIMEOUT_S
        asked = [self._hub.ask(number, Conclude(within_s=FAREWELL_S), patience_s) for number in self._there()]
        left = 0
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            left += int(answer.detail)
        return left

    async def restart_workers(self, wait_s: float) -> None:
        """One after the other: no new calls, `wait_s` for those that are up to end; the rest goes on elsewhere.

        With one worker its calls hear music until it is back, two seconds later.

        Raises:
            OrderRefused: a worker does not answer, or does not come back; the others are left as they are.
        """
        async with self._one:
            for number in self._live.workers:
                await self._restart(number, wait_s)

    async def _restart(self, number: int, wait_s: float) -> None:
        mine = self._live.workers[number]
        if len(self._live.workers) > 1:  # with nobody else to take them, new calls would be turned away for nothing
            await self._hub.ask(number, Drain(), ORDER_TIMEOUT_S)
            if not await _until(lambda: all(call.worker != number for call in self._live.calls.values()), wait_s):
                log.info("calls_go_on_elsewhere", worker=number)
        old = mine.pid
        await self._hub.ask(number, Abandon(), ORDER_TIMEOUT_S)
        if not await _until(lambda: mine.able and mine.pid != old, BACK_TIMEOUT_S):
            raise OrderRefused(f"worker {number} is not back after {BACK_TIMEOUT_S:g} s")
        log.info("worker_restarted", worker=number)


async def _until(holds: Callable[[], bool], at_most_s: float) -> bool:
    """Looks now and then: whoever waits here is a person, and what they wait for happens in many places."""
    deadline = asyncio.get_running_loop().time() + at_most_s
    while not holds():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True
