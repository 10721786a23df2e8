"""From the hub into the database: in order, each event once, whatever is away."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from sqlalchemy import select

from sipagent import model
from sipagent.records import database, recorder
from sipagent.records.recorder import Recorder
from sipagent.records.redaction import Redaction
from sipagent.records.spool import Spool
from sipagent.records.store import Store
from sipagent.records.tables import Event
from tests.records.postgres import server
from tests.records.talk import call
from tests.waiting import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LINGER_S", 0.001)
    monkeypatch.setattr(recorder, "SPOOL_RETRY_S", 0.01)
    monkeypatch.setattr(recorder, "WAIT_MAX_S", 0.1)
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_S", 1)


def recorder_in(folder: Path, url: str, cap_bytes: int = 1 << 20) -> Recorder:
    store = Store(database.engine_for(url))
    return Recorder(store, Spool(folder / "spool", cap_bytes), Redaction(), folder / "refused")


@asynccontextmanager
async def running(folder: Path, url: str, cap_bytes: int = 1 << 20) -> AsyncIterator[Recorder]:
    made = recorder_in(folder, url, cap_bytes)
    await made.open()
    async with made.running():
        yield made
    await made._store.aclose()


async def written(url: str) -> list[str]:
    """The call ids of all events, in their order."""
    engine = database.engine_for(url)
    async with engine.connect() as connection:
        rows = (await connection.execute(select(Event.call_id).order_by(Event.id))).scalars().all()
    await engine.dispose()
    return list(rows)


def ping(name: str) -> model.CallEvent:
    return model.NoInputStep(call_id=name, at=1.0, step=1)


async def test_events_come_in_order_and_what_is_safe_is_told(tmp_path: Path, url: str) -> None:
    safe: list[tuple[str, int]] = []
    async with running(tmp_path, url) as keeper:
        keeper.on_safe = lambda run, number: safe.append((run, number))
        for number in range(1, 1201):
            keeper.take(ping(f"e{number}"), "run", number)
        await keeper.settled()
        assert safe[-1] == ("run", 1200)
        assert keeper.kept("run") == 1200
        assert keeper.kept("another") == 0
        for event in call():  # of this process itself
            keeper.take(event)
        await keeper.settled()
    assert await written(url) == [f"e{number}" for number in range(1, 1201)] + ["c1"] * len(call())
    assert keeper.counts["written"] == 1200 + len(call())
    async with running(tmp_path, url) as again:
        assert again.kept("run") == 1200


async def test_what_was_spooled_and_not_written_comes_after_a_crash_once(tmp_path: Path, url: str) -> None:
    """Killed between the database's commit and the spool's advance, and before the commit."""
    dead = recorder_in(tmp_path, url)
    await dead.open()
    for number in range(1, 11):
        dead.take(ping(f"e{number}"), "run", number)
    keeping = asyncio.create_task(dead._keep())
    await until(lambda: dead.kept("run") == 10, "the spool")
    keeping.cancel()
    lines = dead._spool.read(4)
    await dead._store.apply([kept for line in lines if (kept := dead._decoded(line))], 0)
    dead._spool.close()  # the lock goes with the process
    async with running(tmp_path, url) as keeper:
        assert keeper.kept("run") == 10
        await keeper.settled()
    await dead._store.aclose()
    assert await written(url) == [f"e{number}" for number in range(1, 11)]


async def test_a_database_that_goes_and_comes_back(tmp_path: Path) -> None:
    with server() as postgres:
        url = postgres.new_url()
        async with running(tmp_path, url) as keeper:
            keeper.take(ping("before"), "run", 1)
            await keeper.settled()
            postgres.stop()
            for number in range(2, 30):
                keeper.take(ping(f"e{number}"), "run", number)
            await until(lambda: keeper.kept("run") == 29 and keeper.database_is_away, "the spool to hold them")
            await asyncio.to_thread(postgres.start)
            await keeper.settled()
            assert not keeper.database_is_away
        assert await written(url) == ["before", *(f"e{number}" for number in range(2, 30))]


async def test_a_database_that_is_away_at_the_start(tmp_path: Path) -> None:
    with server() as postgres:
        url = postgres.new_url()
        postgres.stop()
        async with running(tmp_path, url) as keeper:
            assert keeper.database_is_away
            keeper.take(ping("e1"), "run", 1)
            await until(lambda: keeper.kept("run") == 1, "the spool")
            await asyncio.to_thread(postgres.start)
            await keeper.settled()  # the tables were made on the way
        assert await written(url) == ["e1"]


async def test_a_database_file_that_somebody_removed(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/records.db"
    async with running(tmp_path, url) as keeper:
        keeper.take(ping("e1"), "run", 1)
        await keeper.settled()
        for file in tmp_path.glob("records.db*"):
            file.unlink()
        await keeper._store.engine.dispose()
        keeper.take(ping("e2"), "run", 2)
        await keeper.settled()
    assert await written(url) == ["e2"]


async def test_a_database_file_that_is_damaged_holds_things_up_until_it_is_mended(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    file.write_bytes(b"no database" * 1000)
    url = f"sqlite+aiosqlite:///{file}"
    async with running(tmp_path, url) as keeper:
        keeper.take(ping("e1"), "run", 1)
        await until(lambda: keeper.counts["failures"] > 2, "attempts")
        assert keeper.counts["refused"] == 0
        file.unlink()
        await keeper.settled()
    assert await written(url) == ["e1"]


async def test_a_full_disk_costs_nothing_until_memory_is_full_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/records.db"
    monkeypatch.setattr(recorder, "MOST_PENDING", 10)
    async with running(tmp_path, url) as keeper:
        real = os.fdatasync

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fdatasync", full)
        for number in range(1, 13):
            keeper.take(ping(f"e{number}"), "run", number)
        await until(lambda: keeper.counts["spool_failures"] > 1, "the disk to be full")
        assert keeper.kept("run") == 0  # nobody is told that it is safe
        assert keeper.counts["dropped"] == 2
        monkeypatch.setattr(os, "fdatasync", real)
        await keeper.settled()
    assert await written(url) == [f"e{number}" for number in range(1, 11)]


@pytest.mark.parametrize("step", ["read", "advance"])
async def test_a_spool_that_cannot_be_read_for_a_moment_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/records.db"
    async with running(tmp_path, url) as keeper:
        real, failed = getattr(keeper._spool, step), threading.Event()

        def once(*given: int) -> object:
            if failed.is_set():
                return real(*given)
            failed.set()
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(keeper._spool, step, once)
        for number in (1, 2):
            keeper.take(ping(f"e{number}"), "run", number)
        await asyncio.wait_for(keeper.settled(), 10)
        assert failed.is_set()
        assert keeper.counts["spool_failures"] == 1
    assert await written(url) == ["e1", "e2"]


async def test_a_loop_that_has_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was, somebody must know that nothing is written any more."""
    url = f"sqlite+aiosqlite:///{tmp_path}/records.db"

    def broken(_lines: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(recorder, "FLUSH_S", 0.01)
    with structlog.testing.capture_logs() as logs:
        async with running(tmp_path, url) as keeper:
            monkeypatch.setattr(keeper._spool, "append", broken)
            keeper.take(ping("e1"), "run", 1)
            await until(lambda: any(entry["event"] == "task_failed" for entry in logs), "the log")
    assert [entry["task"] for entry in logs if entry["event"] == "task_failed"] == ["spool"]


async def test_the_cap_of_the_spool_holds_while_the_database_is_away(tmp_path: Path) -> None:
    with server() as postgres:
        url = postgres.new_url()
        async with running(tmp_path, url, cap_bytes=1500) as keeper:
            keeper.take(ping("e0"), "run", 1)
            await keeper.settled()
            postgres.stop()
            for number in range(2, 60):
                keeper.take(ping(f"e{number}"), "run", number)
            await until(lambda: keeper.counts["spool_failures"] > 5 and keeper.kept("run") > 1, "the cap")
            assert keeper._spool.size <= 1500
            await asyncio.to_thread(postgres.start)
            await keeper.settled()
        assert len(await written(url)) == 59


async def test_a_row_that_no_database_takes_is_put_aside(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, url) as keeper:
        real = keeper._store.apply

        async def picky(batch: list[recorder.Kept], now: float) -> list[recorder.Kept]:
            if any(kept.event.call_id == "bad" for kept in batch):
                raise ValueError("no")
            return await real(batch, now)

        keeper._store.apply = picky  # type: ignore[method-assign, assignment]
        for number, name in enumerate(("good", "bad", "better"), 1):
            keeper.take(ping(name), "run", number)
        await keeper.settled()
        assert keeper.counts["refused"] == 1
    assert await written(url) == ["good", "better"]
    assert b'"bad"' in (tmp_path / "refused").read_bytes()


async def test_text_that_databases_dislike_is_kept_as_well_as_it_can_be(tmp_path: Path, url: str) -> None:
    odd = model.Transcript(
        call_id="odd", at=1.0, role=model.Role.CALLER, item_id="i", text="nul \x00, 🚲, \u2028, '; DROP TABLE calls",
    )  # fmt: skip
    async with running(tmp_path, url) as keeper:
        keeper.take(odd, "run", 1)
        await keeper.settled()
        record = await keeper._store.call("odd")
    assert record is not None
    [said] = record["history"]["transcript"]
    assert said["text"] == "nul \ufffd, 🚲, \u2028, '; DROP TABLE calls"


async def test_garbage_in_the_spool_holds_nothing_up(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/records.db"
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.open()
    spool.append([b"garbage", b'{"run":"run","number":1,"event":{"type":"no_input","call_id":"c","at":1,"step":1}}'])
    spool.close()
    async with running(tmp_path, url) as keeper:
        await keeper.settled()
        assert keeper.counts["refused"] == 1
    assert await written(url) == ["c"]
