"""The records under load: `python -m bench.records`. Events a second that the control process takes, from link to disk.

Then ten thousand calls in the store: how long a page, a filtered page, one call and an export take. SQLite by
default; another database by URL as the first argument (its tables are filled, so give it an empty one).
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, select

from sipagent import model
from sipagent.records import database, picture, report, tables
from sipagent.records.recorder import Recorder
from sipagent.records.redaction import Redaction
from sipagent.records.spool import Spool
from sipagent.records.store import Filter, Store
from tests.records.talk import call

CALLS = 10_000
RATE_EVENTS_PER_S = 400
"""Two hundred calls, two events a second each: more than they make."""
RATE_S = 5.0


def of(call_id: str, events: list[model.CallEvent], at: float) -> list[model.CallEvent]:
    """The same call under another name, begun at another time."""
    return [msgspec.structs.replace(event, call_id=call_id, at=event.at + at) for event in events]


async def fill(url: str, calls: int) -> None:
    """Make records at this URL that hold so many calls, a minute between each two; only the calls themselves.

    A few come as workers tell of them, the others are their likes.
    """
    store = Store(database.engine_for(url))
    with tempfile.TemporaryDirectory() as folder:
        keeper = Recorder(store, Spool(Path(folder) / "spool", 1 << 28), Redaction(), Path(folder) / "refused")
        await keeper.open()
        async with keeper.running():
            for event in of("call-0", call(at=1_790_000_000.0), 0.0):
                keeper.take(event)
            await keeper.settled()
    async with store.writing() as session:
        like = dict((await session.execute(select(tables.Call.__table__))).mappings().one())
        for first in range(1, calls, 1000):
            numbers = range(first, min(first + 1000, calls))
            rows = [like | {"id": f"call-{number}", "start": like["start"] + number * 60.0} for number in numbers]
            await session.execute(insert(tables.Call), rows)
    await store.aclose()


async def told(keeper: Recorder) -> None:
    """Ten thousand calls as fast as they go."""
    template = call(at=1_790_000_000.0)
    events = 0
    started = time.perf_counter()
    for number in range(CALLS):
        for event in of(f"call-{number}", template, number * 60.0):
            keeper.take(event)
            events += 1
        if number % 100 == 99:
            await keeper.settled()
    took = time.perf_counter() - started
    print(f"{events} events of {CALLS} calls written in {took:.1f} s: {events / took:.0f} events/s")


async def steady(keeper: Recorder) -> None:
    """What two hundred calls make, and what it costs."""
    template = call(at=1_690_000_000.0)
    calls = [of(f"steady-{number}", template, number * 60.0) for number in range(200)]
    # All calls at once, each a step further in turn.
    stream = [events[step] for step in range(len(template)) for events in calls]
    cpu, started = time.process_time(), time.perf_counter()
    count = lag = 0
    while (now := time.perf_counter() - started) < RATE_S:
        while count < now * RATE_EVENTS_PER_S:
            keeper.take(stream[count])
            count += 1
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        lag = max(lag, round((time.perf_counter() - before - 0.005) * 1000))
    await keeper.settled()
    share = (time.process_time() - cpu) / RATE_S * 100
    print(f"{RATE_EVENTS_PER_S} events/s for {RATE_S:g} s: {share:.0f} % of a core, the loop {lag} ms late at most")


async def measured(name: str, work: Callable[[], Awaitable[Any]], times: int = 20) -> None:
    """The median and the worst of some runs."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        took.append((time.perf_counter() - started) * 1000)
    took.sort()
    print(f"{name:32} p50 {took[len(took) // 2]:7.1f} ms   worst {took[-1]:7.1f} ms")


async def look(store: Store) -> None:
    """What people ask for."""

    async def drawn() -> None:
        record = await store.call("call-5000")
        picture.svg(report.timeline(record or {}))

    async def export() -> None:
        async for _ in store.export(Filter()):
            pass

    await measured("list, 50 newest", lambda: store.page(Filter()))
    middle = (await store.page(Filter(until=1_790_000_000.0 + 5000 * 60))).next
    await measured("list, a page in the middle", lambda: store.page(Filter(), 50, middle))
    await measured("list by number (all fit)", lambda: store.page(Filter(number="100")))
    await measured("list by trunk and reason (none)", lambda: store.page(Filter(trunk="none", reason="internal_error")))
    await measured("list by agent (all fit)", lambda: store.page(Filter(agent="reception")))
    await measured("one call, all of it", lambda: store.call("call-5000"))
    await measured("one call's report as SVG", drawn)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await measured("export of all", export, 1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"the export took {grown / 1024:.1f} MB more at its peak")


async def main(url: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(database.engine_for(url or f"sqlite+aiosqlite:///{folder}/records.db"))
        keeper = Recorder(store, Spool(Path(folder) / "spool", 1 << 28), Redaction(), Path(folder) / "refused")
        await keeper.open()
        async with keeper.running():
            await steady(keeper)
            await told(keeper)
        await look(store)
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ""))
