"""A realtime endpoint in a process of its own that misbehaves when it is told to: the stand-in, steered over stdin.

One line in is one `Order`. The process prints its address once it listens, and ends with its stdin, so that none is
left behind by whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

import msgspec

from sipagent.errors import ToolError
from sipagent.standin.config import Burst, Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.server import StandinServer

THINK_MS = 300
SILENCE_MS = 500
"""`silence_duration_ms`, the default: with THINK_MS what a caller waits for a healthy answer."""
ANSWER_MS = 12_000
"""So long that whoever listens when the fault comes would have gone on listening."""
SPEED = 1.2
"""A little faster than it is heard: what the node holds of an answer when its model goes is a second at most."""
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 3.0


class Order(msgspec.Struct, frozen=True):
    """Faults, as the stand-in's command line has them."""

    live: list[str]
    """What the sessions that are open do wrong from now on."""
    new: list[str]
    """And those to come."""


class Model:
    """The process, from outside. `start`, orders, perhaps `kill` and `start` again, `stop`."""

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/v1/realtime"
        self._port = port
        self._process: Process | None = None

    async def start(self) -> None:
        """At the same address as before."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.chaos.model", str(self._port), stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if self._process.stdout is None or not (await self._process.stdout.readline()).startswith(b"ws"):
                    raise ToolError("a stand-in did not start")
        except TimeoutError:
            raise ToolError(f"a stand-in did not start in {START_TIMEOUT_S:g} s") from None

    def order(self, live: str = "", new: str = "") -> None:
        """Faults for the sessions that are open and for those to come, each in words with blanks between."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(Order(live.split(), new.split())) + b"\n")

    async def kill(self) -> None:
        """As a host that goes: every connection is reset, nobody listens."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def stop(self) -> None:
        """Twice is fine."""
        if self._process is not None and self._process.returncode is None and self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
        await self.kill()


async def _serve(port: int) -> None:
    config = StandinConfig(
        port=port, mode=Mode.DETERMINISTIC, think_ms=THINK_MS, answer_ms=ANSWER_MS, burst=Burst(speed=SPEED),
        record_bytes=0, seed=os.getpid(),
    )  # fmt: skip
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with StandinServer(config) as server:
        print(server.url, flush=True)
        async for line in lines:
            order = msgspec.json.decode(line, type=Order)
            server.faults = parse_faults(order.new)
            server.misbehave(parse_faults(order.live))


if __name__ == "__main__":
    import structlog
    import uvloop

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
