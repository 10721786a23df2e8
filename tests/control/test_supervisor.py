"""Workers as processes: who dies is started again, and nobody else is touched."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sipagent.control import supervisor
from sipagent.control.supervisor import Supervisor
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
