"""Whether callers feel those who look things up: a year of calls is exported beside a crowd, over and over.

The same crowd (`crowd`) on two fresh nodes whose records hold that year: one is left alone, from the other somebody
takes export after export, CSV and JSON in turn, as fast as they come. What callers and the model get later by it is
the difference. The export is made by the control process; the worker has no part in it but the machine they share.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import aiohttp

from bench import crowd
from bench.whole import HOST, Node
from sipagent.errors import ToolError

Say = Callable[[str], None]


@dataclass(slots=True)
class Exports:
    """What was taken in a window."""

    calls: int = 0
    megabytes: float = 0.0
    whole: int = 0
    """Exports that came to their end in it."""

    @contextlib.asynccontextmanager
    async def beside(self, node: Node) -> AsyncIterator[None]:
        """For the length of the block."""
        taking = asyncio.create_task(self._take(f"http://{HOST}:{node.settings.control.port}/v1/calls/export"))
        try:
            yield
            if taking.done():
                taking.result()
        finally:
            taking.cancel()
            await asyncio.wait({taking})

    async def _take(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout()) as session:
            while True:
                for kind in ("csv", "json"):
                    async with session.get(url, params={"format": kind}) as answer:
                        if answer.status != 200:
                            raise ToolError(f"the export was refused: {answer.status} {await answer.text()}")
                        async for chunk in answer.content.iter_any():
                            self.megabytes += len(chunk) / 1e6
                            self.calls += chunk.count(b"\n")
                    self.whole += 1


@dataclass(frozen=True, slots=True)
class Beside:
    """A crowd, and what was taken beside it."""

    calls_a_second: float
    """Exported; 0: nobody asked."""
    megabytes_a_second: float
    control_cores: float
    run: crowd.Run


@dataclass(frozen=True, slots=True)
class Sitting:
    """Without and with."""

    started_at: str
    machine: str
    records: int
    """Calls that the records held."""
    runs: list[Beside] = field(default_factory=list)
    kind: Literal["export"] = "export"


async def compare(case: crowd.Case, say: Say) -> list[Beside]:
    """The crowd alone, then beside exports."""
    alone = await crowd.measure(case, say)
    found = [_beside(alone, Exports())]
    say(describe(found[-1]))
    exports = Exports()
    found.append(_beside(await crowd.measure(replace(case), say, exports.beside), exports))
    say(describe(found[-1]))
    return found


def _beside(run: crowd.Run, exports: Exports) -> Beside:
    seconds = run.case.seconds
    cores = run.cpu_percent_a_call["control"] * run.case.calls / 100
    return Beside(round(exports.calls / seconds), round(exports.megabytes / seconds, 2), round(cores, 2), run)


def describe(beside: Beside) -> str:
    """One line."""
    asked = f"{beside.calls_a_second:g} calls a second exported" if beside.calls_a_second else "nothing exported"
    return f"{asked}, control process {beside.control_cores:.2f} cores: {crowd.describe(beside.run)}"
