"""Watches over the workers, and tells the service manager how the node does: started, its state in a line, alive.

A worker that dies is back within seconds, and its calls go on elsewhere; one that hangs would keep its callers in
silence for good, so it is killed. Alive, to the manager, is more than that this loop turns: every worker has been heard
of lately. When even new processes do not help, it starts everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable

import structlog

from sipagent.control.live import Live
from sipagent.notify import ServiceManager
from sipagent.orders import WorkerState

log = structlog.get_logger()

EVERY_S = 0.25
"""Half as long as workers are silent (`link.STATE_EVERY_S`)."""
MUTE_S = 2.5
"""A worker's loop turns every 20 ms: one that says nothing for so long is not busy, it hangs, and its callers hear
nothing. Those of one that was only halted would be better off if it were left alone, hence not sooner."""


def kill(pid: int) -> None:
    """For good, since a process that hangs does not hear anything milder."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Heartbeat:
    """`beat` now and then."""

    def __init__(
        self,
        manager: ServiceManager,
        live: Live,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], None] = kill,
    ) -> None:
        self._manager, self._live, self._clock, self._end = manager, live, clock, end
        self._patience_s = manager.watchdog_s / 2
        """A worker that died waits 10 s at most before it is started again, and needs two more."""
        self._heard: dict[int, tuple[WorkerState, float]] = {}
        """What each worker said last, and when that was new."""
        self._beat_at = clock()
        self._started = False
        self._status = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(min(EVERY_S, self._patience_s or EVERY_S))

    def beat(self) -> None:
        """End who hangs, tell what is new, feed the watchdog if all is well."""
        now = self._clock()
        if now - self._beat_at > MUTE_S / 2:
            # We were away ourselves (a machine that was halted): what workers have said since then is still to be read.
            self._heard = {number: (state, now) for number, (state, _) in self._heard.items()}
        self._beat_at = now
        for number, worker in self._live.workers.items():
            state = worker.state
            # Each message brings a state of its own, also when nothing in it has changed.
            if state is not None and (number not in self._heard or self._heard[number][0] is not state):
                self._heard[number] = state, now
            elif state is not None and worker.pid and now - self._heard[number][1] > MUTE_S:
                log.error("worker_hangs", worker=number, pid=worker.pid)
                self._end(worker.pid)
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
