"""The worker under a flood: foreign packets at the RTP ports of its live calls, beside the load of those calls.

Runs in turn: as it is, under random bytes, under well-formed foreign RTP. Nothing of the flood may reach a caller or
the model (a frame that does is garbled or crosstalk there: no frame of ours looks like it), and what calls lose in
punctuality is the difference to the run without. Each packet must be found again in the worker's own count of
foreign packets, which is how one sees that the flood took place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench import build
from bench.processes import process
from bench.results import Case, Run
from bench.rig import measure

KINDS = ("random", "rtp")
_AROUND_S = 1.0
"""A flood begins so long before the window and ends so long after it."""


@dataclass(slots=True)
class Flood:
    """One flood, to be run beside a measurement (`rig.measure(beside=...)`)."""

    how: str
    per_second: int
    sent: int = 0
    seconds: float = 0.0

    @contextlib.asynccontextmanager
    async def beside(self, ports: Sequence[int], core: int, window_s: float) -> AsyncIterator[None]:
        """From now until a moment after the window: at these ports, on the load's core."""
        seconds = window_s + 2 * _AROUND_S
        command = [str(build.program("flood")), self.how, str(self.per_second), str(seconds), *map(str, ports)]
        async with process(command, core) as started:
            await asyncio.sleep(_AROUND_S)
            yield
            if started.stdout is not None:
                said: dict[str, Any] = json.loads(await started.stdout.readline())
                self.sent, self.seconds = said["sent"], said["seconds"]


@dataclass(frozen=True, slots=True)
class Flooded:
    """A run, and what was thrown at it."""

    how: str
    """`none`, `random` or `rtp`."""
    sent_per_second: int
    sent: int
    foreign: int
    """Packets that the worker counted as foreign, over all calls."""
    run: Run
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sitting:
    """Without and with."""

    started_at: str
    machine: str
    flooded: list[Flooded]
    kind: Literal["flood"] = "flood"


async def compare(case: Case, per_second: int, say: Callable[[str], None]) -> list[Flooded]:
    """The case without a flood, then under each kind."""
    found = [Flooded("none", 0, 0, (calm := await measure(case)).counters.get("rtp_foreign", 0), calm, calm.faults)]
    say(describe(found[-1]))
    for how in KINDS:
        flood = Flood(how, per_second)
        run = await measure(replace(case), flood.beside)
        foreign = run.counters.get("rtp_foreign", 0)
        faults = list(run.faults)
        if foreign < flood.sent:
            faults.append(f"{flood.sent - foreign} packets of the flood are not in the worker's count")
        rate = round(flood.sent / flood.seconds) if flood.seconds else 0
        found.append(Flooded(how, rate, flood.sent, foreign, run, faults))
        say(describe(found[-1]))
    return found


def describe(flooded: Flooded) -> str:
    """One line."""
    run, up, down = flooded.run, flooded.run.figures.up, flooded.run.figures.down
    return (
        f"{flooded.how}: {flooded.sent_per_second} packets/s beside {run.case.calls} calls: "
        f"{'pass' if not flooded.faults else 'FAIL ' + ', '.join(flooded.faults)}; {flooded.foreign} of {flooded.sent} "
        f"counted as foreign; uplink {up.delay_ms.p50:.2f}/{up.delay_ms.p99:.2f}, pacing {down.pacing_ms.p50:.2f}/"
        f"{down.pacing_ms.p99:.2f}, first audio {down.first_audio_ms.p99:.1f} ms; worker {run.cpu_ms_per_cs:.2f} ms/cs"
    )
