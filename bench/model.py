"""The stand-in in deterministic mode as a process of its own: the model of `bench/node.py`. Prints its address."""

from __future__ import annotations

import asyncio
import contextlib

import uvloop

from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.server import StandinServer

THINK_MS = 300
ANSWER_MS = 4000


async def _serve() -> None:
    config = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=THINK_MS, answer_ms=ANSWER_MS, record_bytes=0)
    async with StandinServer(config) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
