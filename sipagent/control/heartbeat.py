"""Watches over the workers, and tells the service manager how the node does: started, its state in a line, alive.

A worker that dies is back within seconds, and its calls go on elsewhere; one that hangs would keep its callers in
silence for good. When it is mute they hear music instead; when it stays so it is killed. Alive, to the manager, is more
than that this loop turns: every worker has been heard of lately. When even new processes do not help, it starts
everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from sipagent import tuning
from sipagent.control.live import Live
from sipagent.notify import ServiceManager
from sipagent.orders import WorkerState

log = structlog.get_logger()

EVERY_S = 0.05
AWAKE_S = 0.15
"""Beats that are further apart tell of ourselves (a machine that was halted): what workers have said meanwhile is still
to be read, and no more than this counts as their silence."""
MUTE_S = 0.4
"""Workers speak every 0.2 s (`link.STATE_EVERY_S`), and their loop turns every 20 ms. Time in which one waits for a
core does not count: that is the machine, and its callers hear the agent all the same, if late."""
HANGS_S = 2.0
"""One that says nothing for so long is not busy. The callers of one that was only halted would be better off if it were
left alone, hence not sooner."""


def kill(pid: int) -> None:
    """For good, since a process that hangs does not hear anything milder."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(slots=True)
class _Heard:
    """Of one worker: what it said last, and its silence since."""

    state: WorkerState
    waited_s: float
    """For a core, since its start."""
    silent_s: float = 0.0
    mute_s: float = 0.0
    """Without the time in which it waited for a core."""
    is_mute: bool = False
    ended: bool = False


class Heartbeat:
    """`beat` now and then."""

    def __init__(
        self,
        manager: ServiceManager,
        live: Live,
        *,
        on_mute: Callable[[int], None],
        on_voice: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], None] = kill,
        waited_s: Callable[[int], float] = tuning.waited_s,
    ) -> None:
        """`on_mute` hears the number of a worker that is mute, `on_voice` that it speaks again."""
        self._manager, self._live, self._clock, self._end, self._waited_s = manager, live, clock, end, waited_s
        self._on_mute, self._on_voice = on_mute, on_voice
        self._patience_s = manager.watchdog_s / 2
        """A worker that died waits 10 s at most before it is started again, and needs two more."""
        self._heard: dict[int, _Heard] = {}
        self._beat_at = clock()
        self._started = False
        self._status = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(EVERY_S)

    def beat(self) -> None:
        """End who hangs, tell what is new, feed the watchdog if all is well."""
        now = self._clock()
        passed_s = min(now - self._beat_at, AWAKE_S)
        self._beat_at = now
        for number in self._live.workers:
            self._listen(number, passed_s)
        if not self._started and len(self._heard) == len(self._live.workers):
            # Not "takes calls": an Asterisk that is away is no reason to be started anew, over and over.
            self._started = True
            self._manager.tell(READY=1)
        if self._status != (status := self._line()):
            self._status = status
            self._manager.tell(STATUS=status)
        if self._started and all(worker.silent_s <= self._patience_s for worker in self._heard.values()):
            self._manager.tell(WATCHDOG=1)

    def _listen(self, number: int, passed_s: float) -> None:
        worker, heard = self._live.workers[number], self._heard.get(number)
        state, waited_s = worker.state, self._waited_s(worker.pid) if worker.pid else 0.0
        # Each message brings a state of its own, also when nothing in it has changed.
        if state is not None and (heard is None or heard.state is not state):
            self._heard[number] = _Heard(state, waited_s)
            if heard and heard.is_mute:
                self._on_voice(number)
        elif heard is not None:
            heard.silent_s += passed_s
            heard.mute_s += max(passed_s - max(waited_s - heard.waited_s, 0.0), 0.0)
            heard.waited_s = waited_s
            if state is not None and worker.pid:
                self._judge(number, worker.pid, heard)

    def _judge(self, number: int, pid: int, heard: _Heard) -> None:
        if heard.mute_s > MUTE_S and not heard.is_mute:
            heard.is_mute = True
            self._on_mute(number)
        if heard.silent_s > HANGS_S and not heard.ended:
            heard.ended = True
            log.error("worker_hangs", worker=number, pid=pid)
            self._end(pid)

    def _line(self) -> str:
        reasons = self._live.why_not_ready()
        return f"{len(self._live.calls)} calls; " + (f"takes none: {'; '.join(reasons)}" if reasons else "takes calls")
