"""Tells the service manager how the node does: started, its state in a line, and alive for as long as it is.

Alive is more than that this loop turns: every worker has been heard of lately. A worker that dies is back within
seconds by itself, and its calls with it; one that hangs is not, and then the manager starts everything anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sipagent.control.live import Live
from sipagent.notify import ServiceManager
from sipagent.orders import WorkerState

EVERY_S = 1.0
"""As often as workers speak."""


class Heartbeat:
    """`beat` once a second."""

    def __init__(self, manager: ServiceManager, live: Live, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager, self._live, self._clock = manager, live, clock
        self._patience_s = manager.watchdog_s / 2
        """A worker that died waits 10 s at most before it is started again, and needs two more."""
        self._heard: dict[int, tuple[WorkerState, float]] = {}
        """What each worker said last, and when that was new."""
        self._started = False
        self._status = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(min(EVERY_S, self._patience_s or EVERY_S))

    def beat(self) -> None:
        """Tell what is new; feed the watchdog if all is well."""
        now = self._clock()
        for number, worker in self._live.workers.items():
            state = worker.state
            # Each message brings a state of its own, also when nothing in it has changed.
            if state is not None and (number not in self._heard or self._heard[number][0] is not state):
                self._heard[number] = state, now
        if not self._started and len(self._heard) == len(self._live.workers):
            # Not "takes calls": an Asterisk that is away is no reason to be started anew, over and over.
            self._started = True
            self._manager.tell(READY=1)
        if self._status != (status := self._line()):
            self._status = status
            self._manager.tell(STATUS=status)
        if self._started and all(now - at <= self._patience_s for _, at in self._heard.values()):
            self._manager.tell(WATCHDOG=1)

    def _line(self) -> str:
        reasons = self._live.why_not_ready()
        return f"{len(self._live.calls)} calls; " + (f"takes none: {'; '.join(reasons)}" if reasons else "takes calls")
