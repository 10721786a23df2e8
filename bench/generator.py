"""The load generator (`bench/load`) from our side: its command line, its two pipes, what it says and takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from bench import build
from bench.processes import process
from bench.results import Figures
from sipagent.errors import ToolError

PATIENCE_S = 15.0
"""For anything that it should say at once."""


class NotUp(ToolError):
    """The calls of a run did not come up: more than the bridge can take."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """A caller heard the agent for the first time in a call."""

    caller: int
    at: float
    """Unix time."""
    frame: int
    """Which frame it was, from the greeting's first on: 0, or the beginning of the agent's words was lost."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A caller heard somebody who is not the model, before they heard it: an announcement."""

    caller: int
    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A caller has heard nothing more since then: they have hung up, or were left in silence."""

    caller: int
    at: float
    """Unix time."""


class Generator:
    """A load generator that runs."""

    def __init__(self, started: asyncio.subprocess.Process) -> None:
        self.pid = started.pid
        self.model_port = 0
        self.caller_ports: list[int] = []
        self.bridge_ports: dict[int, int] = {}
        """Where the bridge hears each call."""
        self.greeted: list[Greeted] = []
        """In the order of hearing; with `--by-order` only, as the two below."""
        self.voices: list[Voice] = []
        self.silent: list[Silent] = []
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        # Pipes, since `process` was not given a log.
        self._orders = cast("asyncio.StreamWriter", started.stdin)
        self._said = cast("asyncio.StreamReader", started.stdout)

    def on_media(self, call: int, port: int) -> None:
        """The bridge hears this call there."""
        self.bridge_ports[call] = port
        self.order(f"call {call} {port}")

    def order(self, line: str) -> None:
        """One of the orders of `bench/load/main.c`."""
        self._orders.write(f"{line}\n".encode())

    async def listen(self) -> None:
        """Take in what it says, to its end: it would wait for whoever does not, and all its calls with it."""
        while line := await self._said.readline():
            said: dict[str, Any] = json.loads(line)
            match said["event"]:
                case "greeted":
                    self.greeted.append(Greeted(said["call"], said["at"], said["frame"]))
                case "voice":
                    self.voices.append(Voice(said["call"], said["at"]))
                case "silent":
                    self.silent.append(Silent(said["call"], said["at"]))
                case _:
                    self._events.put_nowait(said)
        self._events.put_nowait({})

    async def hear(self, event: str, timeout_s: float) -> dict[str, Any]:
        """The next thing it says beside what callers hear, which must be this."""
        try:
            async with asyncio.timeout(timeout_s):
                said = await self._events.get()
        except TimeoutError:
            raise NotUp(f"no {event!r} of the load generator in {timeout_s:g} s") from None
        if said.get("event") != event:
            raise ToolError(f"the load generator ended before {event!r}: its words are above")
        return said

    async def catch_up(self) -> None:
        """Until `greeted`, `voices` and `silent` hold all that was heard so far."""
        self.order("mark")
        await self.hear("mark", PATIENCE_S)

    async def figures(self) -> Figures:
        """What the window, which has ended, brought."""
        return msgspec.convert(await self.hear("figures", PATIENCE_S), Figures)


@contextlib.asynccontextmanager
async def generator(
    calls: int, core: int | None, *, tls: bool, options: tuple[str, ...] = ()
) -> AsyncIterator[Generator]:
    """Run one until the end of the block; its model listens and its callers have their ports."""
    command = [str(build.program("load")), "--calls", str(calls), *options]
    if tls:
        certificate, key = build.certificate()
        command += ["--certificate", str(certificate), "--key", str(key)]
    async with process(command, core) as started:
        load = Generator(started)
        listening = asyncio.create_task(load.listen(), name="generator")
        try:
            where = await load.hear("listening", PATIENCE_S)
            load.model_port, load.caller_ports = where["model_port"], where["caller_ports"]
            yield load
        finally:
            listening.cancel()
            await asyncio.wait({listening})
