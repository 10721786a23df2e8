"""Keeps the worker processes running: started as children, restarted with backoff, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from sipagent.orders import ABANDONED

log = structlog.get_logger()

BACKOFF_S = (0.2, 1.0, 3.0, 10.0)
"""Waits before a restart; the last repeats. A worker that ran `STEADY_S` starts again at the first."""
STEADY_S = 30.0
STOP_TIMEOUT_S = 4.5
"""SIGTERM to SIGKILL: a worker ends its calls within two times its own 2 s."""


def worker_command(config: Sequence[str], number: int) -> list[str]:
    """How a worker is started; `config` are the options that name the configuration."""
    return [sys.executable, "-m", "sipagent", "worker", str(number), *config]


class Supervisor:
    """The children. `run` until cancelled; cancelling stops them."""

    def __init__(self, workers: int, config: Sequence[str], log_file: Path | None = None) -> None:
        self.restarts = dict.fromkeys(range(1, workers + 1), 0)
        """How often each worker died and was started again; who was told to go did not die."""
        self._workers, self._config, self._log_file = workers, config, log_file

    async def run(self) -> None:
        """Keep every worker running."""
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._workers + 1):
                group.create_task(self._keep(number))

    async def _keep(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        quick_deaths = 0
        while True:
            started = loop.time()
            status = await self._live(number)
            if status == ABANDONED:  # its calls wait for whoever comes
                log.info("worker_restarts", worker=number)
                continue
            self.restarts[number] += 1
            quick_deaths = 0 if loop.time() - started > STEADY_S else quick_deaths + 1
            wait_s = BACKOFF_S[min(quick_deaths, len(BACKOFF_S) - 1)]
            log.error("worker_died", worker=number, status=status, restart_in_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _live(self, number: int) -> int | str:
        """Start it and wait for its end: its exit status, or why there was no process (no memory, no program)."""
        try:
            process = await self._start(number)
        except OSError as error:
            return str(error)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        with contextlib.ExitStack() as stack:
            log_file = stack.enter_context(self._log_file.open("ab")) if self._log_file else None
            # A group of its own: Ctrl-C reaches us, and we tell the workers in our own order.
            return await asyncio.create_subprocess_exec(
                *worker_command(self._config, number),
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
            )


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.error("worker_killed", pid=process.pid)
            process.kill()
            await process.wait()
