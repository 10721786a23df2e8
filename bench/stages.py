"""Where a frame's time goes in a worker under load: each stage of its way, as it is there and not with warm caches.

`parts` tells what the same code costs in a loop of its own; the difference is what the machine makes of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from bench.alone import describe
from bench.results import Case
from bench.rig import measure
from bench.staged import Staged


async def stages(case: Case, say: Callable[[str], None]) -> Staged:
    """One run of the worker with clocks in it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "stages.json"
        say(describe(await measure(replace(case, bridge="worker", pure=True, stages=str(file)))))
        return msgspec.json.decode(file.read_bytes(), type=Staged)


def table(found: Staged) -> str:
    """Markdown."""
    named = sum(found.stages_us.values())
    rows = [
        *((name, f"{us:.1f}", f"{found.each_us[name]:.1f}") for name, us in found.stages_us.items()),
        ("the loop (epoll, uvloop, timers), turns, events, clocks", f"{found.cpu_us - named:.1f}", ""),
        ("all of it", f"{found.cpu_us:.1f}", ""),
    ]
    head = ("stage", "us a frame each way", "us each time")
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * 3, *rows))
