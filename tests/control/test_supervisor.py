"""Workers as processes: who dies is started again, and nobody else is touched."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sipagent.control import supervisor
from sipagent.control.supervisor import BACKOFF_S, Supervisor
from sipagent.orders import ABANDONED
from tests.waiting import until

TELLS = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"


async def test_a_worker_that_cannot_be_started_costs_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its program is gone while an upgrade puts the next one there; or there is no memory for it."""
    told, missing = tmp_path / "pid", tmp_path / "python"

    def command(_config: object, number: int) -> list[str]:
        return [sys.executable, "-c", TELLS, str(told)] if number == 1 else [str(missing)]

    monkeypatch.setattr(supervisor, "worker_command", command)
    workers = Supervisor(2, [])
    running = asyncio.create_task(workers.run())
    try:
        await until(lambda: workers.restarts[2] >= 2 or running.done(), "it to be tried again")
        await until(lambda: told.exists() and bool(told.read_text()), "the other one")
        pid = int(told.read_text())
        assert not running.done()
        assert workers.restarts[1] == 0
        missing.symlink_to("/bin/false")
        tried = workers.restarts[2]
        await until(lambda: workers.restarts[2] > tried, "it to run, and to die by itself")
        os.kill(pid, 0)
    finally:
        running.cancel()
        await asyncio.wait({running})
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(("status", "waits"), [(0, True), (1, True), (ABANDONED, False)])
async def test_who_ends_unasked_is_started_again_with_patience(
    monkeypatch: pytest.MonkeyPatch, status: int, *, waits: bool
) -> None:
    """Whatever its status says: only who was told to go is replaced at once, for its calls wait."""
    waited: list[float] = []
    lives = 0

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def live(_self: Supervisor, _number: int) -> int:
        nonlocal lives
        lives += 1
        if lives > len(BACKOFF_S):
            await asyncio.Event().wait()
        return status

    monkeypatch.setattr(supervisor.asyncio, "sleep", sleep)
    monkeypatch.setattr(Supervisor, "_live", live)
    workers = Supervisor(1, [])
    running = asyncio.create_task(workers._keep(1))
    while lives <= len(BACKOFF_S):
        await asyncio.wait({running}, timeout=0)
    running.cancel()
    await asyncio.wait({running})
    assert waited == ([*BACKOFF_S[1:], BACKOFF_S[-1]] if waits else [])
    assert workers.restarts[1] == len(waited)  # nobody is called for what was asked for
