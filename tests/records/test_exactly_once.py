"""Two workers talk, the control process is killed again and again: every event is written, none twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select

from sipagent import model
from sipagent.link import WorkerLink
from sipagent.orders import WorkerState
from sipagent.records import database
from sipagent.records.tables import Event
from tests.waiting import until

EVENTS = 1500
DEATHS = 2


def state(dropped: int) -> WorkerState:
    return WorkerState(asterisk_connected=True, asterisk_version="22", accepting=True, calls=0, events_dropped=dropped)


async def start(run_dir: Path, url: str) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIPAGENT_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.records.control", str(run_dir), url, stdout=asyncio.subprocess.PIPE, env=inherited
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"up\n"
    return process


async def talk(link: WorkerLink, worker: int) -> None:
    """A few at a time, as calls do."""
    for number in range(EVENTS):
        link.send(model.NoInputStep(call_id=f"w{worker}", at=float(number), step=number))
        if number % 7 == 0:
            await asyncio.sleep(0.001)


async def steps(url: str, worker: int) -> Sequence[int]:
    engine = database.engine_for(url, pooled=False)
    async with engine.connect() as connection:
        query = select(Event.data).where(Event.call_id == f"w{worker}").order_by(Event.id)
        found = [data["step"] for data in (await connection.execute(query)).scalars()]
    await engine.dispose()
    return found


async def test_killed_in_the_middle_and_nothing_is_lost_or_told_twice(tmp_path: Path, url: str) -> None:
    links = [WorkerLink(tmp_path / "control.sock", worker) for worker in (1, 2)]
    running = [asyncio.create_task(link.run(state, lambda _order: None)) for link in links]
    process = await start(tmp_path, url)
    talking = [asyncio.create_task(talk(link, worker)) for worker, link in enumerate(links, 1)]
    for _ in range(DEATHS):
        before = len(await steps(url, 1))
        target = before + random.randrange(1, 200)

        async def has_come_so_far(target: int = target) -> bool:
            return len(await steps(url, 1)) >= min(target, EVENTS) or talking[0].done()

        await until(has_come_so_far, "events to be written")
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process = await start(tmp_path, url)
    await asyncio.gather(*talking)
    async with asyncio.timeout(20):
        await asyncio.gather(*(link.drain(20) for link in links))
    assert [link.dropped for link in links] == [0, 0]

    async def all_are_there() -> bool:
        return len(await steps(url, 1)) >= EVENTS and len(await steps(url, 2)) >= EVENTS

    await until(all_are_there, "all events")
    process.terminate()
    await process.wait()
    for worker in (1, 2):
        assert await steps(url, worker) == list(range(EVENTS))
    for task in running:
        task.cancel()
    await asyncio.wait(running)
