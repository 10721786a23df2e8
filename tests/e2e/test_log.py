"""A log that nobody takes: whoever reads it has stopped, and the calls go on."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from tests.e2e.test_processes import config_file, on, phone_on, ready

__all__ = ["config_file"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROOM_BYTES = 4096
"""A page, the smallest pipe; it is full before a call comes."""


async def test_a_log_that_nobody_reads_stops_no_call(
    asterisk: Asterisk, root: Root, tmp_path: Path, config_file: Path
) -> None:
    env = on(asterisk, tmp_path / "run", LOG__FORMAT="json", LOG__LEVEL="debug")
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, ROOM_BYTES)
    os.write(writes, b"\n" * ROOM_BYTES)
    command = [sys.executable, "-m", "sipagent", "run", "--standin", "--config", str(config_file)]
    node = await asyncio.create_subprocess_exec(*command, env=env, stdout=writes, stderr=writes, start_new_session=True)
    os.close(writes)
    try:
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()
            await phone.hang_up()
        node.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            assert await node.wait() == 0
    finally:
        if node.returncode is None:
            os.killpg(node.pid, signal.SIGKILL)
            await node.wait()
        os.close(reads)
