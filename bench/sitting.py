"""One full sitting: everything that RESULTS.md tells, in one go of some forty minutes, and the tables anew.

What cannot be measured is said and left out; the rest goes on, and RESULTS.md keeps its older table of that kind.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench import alone, arrivals, build, crowd, export, flood, node, overload, report, results
from bench.results import Case
from sipagent.errors import SipAgentError

RESULTS = build.HERE / "RESULTS.md"
PICTURE = build.HERE / "latency.svg"
NAMES = (
    *("alone-100", "alone-300", "alone-300-awake", "alone-curve", "alone-capacity", "alone-capacity-awake"),
    *("crowd", "setup", "flood", "export", "overload", "node", "churn"),
)
RATES = (5.0, 10.0, 20.0, 30.0, 40.0, 60.0)
CROWDS = (50, 100, 150, 200)
EXPORT = crowd.Case(20, seconds=10.0, records=100_000)

Say = Callable[[str], None]


async def hold(names: Sequence[str], churn_minutes: float, fifo: bool, say: Say) -> bool:
    """Measure, save each as it is found, write tables and picture; False when something could not be measured."""
    well = True
    for name in names:
        began = time.monotonic()
        say(f"== {name}")
        try:
            results.save(await _parts(churn_minutes, fifo, say)[name](), build.BUILD / f"{name}.json")
        except SipAgentError as error:
            well = False
            say(f"{name} could not be measured: {error}")
        say(f"== {name} took {time.monotonic() - began:.0f} s")
    write(say)
    return well


def write(say: Say) -> None:
    """Tables and picture of whatever sittings there are."""
    files = [file for name in NAMES if (file := build.BUILD / f"{name}.json").exists()]
    sittings = [report.read(file) for file in files]
    RESULTS.write_text(report.put_into(RESULTS.read_text(), report.tables(sittings)))
    PICTURE.write_text(report.draw(sittings))
    say(f"wrote {_name(RESULTS)} and {_name(PICTURE)} from {', '.join(file.stem for file in files) or 'nothing'}")


def _name(path: Path) -> str:
    return f"bench/{path.name}"


def _parts(churn_minutes: float, fifo: bool, say: Say) -> dict[str, Callable[[], Awaitable[object]]]:
    case = Case("worker", 100, fifo=fifo)

    async def compared(calls: int, bridges: Sequence[str], rounds: int, *, awake: bool = False) -> results.Sitting:
        cases = [replace(case, bridge=name, calls=calls, awake=awake) for name in bridges]
        table = await alone.interleave(cases, rounds, say)
        runs = [run for round_ in table for run in round_]
        return results.Sitting(*results.stamp(), runs, results.compare(table), [])

    async def curve() -> results.Sitting:
        table = await alone.interleave([replace(case, calls=calls) for calls in (50, 200)], 1, say)
        return results.Sitting(*results.stamp(), table[0], results.compare(table), [])

    async def capacity(*, awake: bool = False) -> results.Sitting:
        found = await alone.search(replace(case, calls=150, awake=awake), 50, 600, say)
        return results.Sitting(*results.stamp(), [one.run for one in found.attempts if one.run], [], [found])

    async def crowds() -> crowd.Sitting:
        return crowd.Sitting(*results.stamp(), await crowd.rise(crowd.Case(0, fifo=fifo), CROWDS, say))

    async def flooded() -> flood.Sitting:
        return flood.Sitting(*results.stamp(), await flood.compare(case, 100_000, say))

    async def exported() -> export.Sitting:
        found = await export.compare(replace(EXPORT, fifo=fifo), say)
        return export.Sitting(*results.stamp(), EXPORT.records, found)

    return {
        "alone-100": lambda: compared(100, ("worker", "floor", "naive"), 2),
        "alone-300": lambda: compared(300, ("worker", "floor"), 3),
        "alone-300-awake": lambda: compared(300, ("worker", "floor"), 3, awake=True),
        "alone-curve": curve,
        "alone-capacity": capacity,
        "alone-capacity-awake": lambda: capacity(awake=True),
        "crowd": crowds,
        "setup": lambda: arrivals.set_up(RATES, 8.0, 2.0, fifo, say),
        "flood": flooded,
        "export": exported,
        "overload": lambda: overload.overload(overload.Case(fifo=fifo), say),
        "node": lambda: node.run(50, 4.0, say),
        "churn": lambda: arrivals.churn(5.0, churn_minutes, 4.0, fifo, say),
    }
