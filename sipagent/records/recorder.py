"""Events on their way into the database: masked, spooled, written in batches, in order, each once.

Two loops. One puts what has come in the spool, syncs it, and says that it is safe: from there on no crash of ours and
no database that is away can lose it. The other brings the spool's lines to the store, batch by batch, for as long as
it takes. What comes while the spool cannot be written waits in memory, bounded; beyond that it is dropped and
counted. A row that no database takes is put aside in a file, so that it does not hold up the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec
import stamina
import structlog
from sqlalchemy.exc import SQLAlchemyError

from sipagent import model
from sipagent.errors import ConfigError
from sipagent.records import database
from sipagent.records.fold import Kept
from sipagent.records.redaction import Redaction
from sipagent.records.spool import Spool
from sipagent.records.store import Store
from sipagent.tasks import told_if_failed

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")

MOST_PENDING = 20_000
"""Events in memory while the spool cannot be written: a minute of two hundred busy calls, 10 MB."""
BATCH = 500
LINGER_S = 0.25
"""Events that come within it share a sync and a transaction."""
SPOOL_RETRY_S = 1.0
WAIT_MAX_S = 10.0
"""Longest wait between two attempts to reach the database."""
FLUSH_S = 3.0
"""At the end: what is not in the database by then stays in the spool for the next start."""
NUL = b"\\u0000"
"""PostgreSQL takes it neither in text nor in JSON."""

_KEPT: msgspec.json.Decoder[Kept] = msgspec.json.Decoder(Kept)


class Recorder:
    """The keeper of events (`control.hub.Keeper`)."""

    def __init__(self, store: Store, spool: Spool, redaction: Redaction, aside: Path) -> None:
        """`aside` is the file for rows that the database refuses."""
        self.counts: Counter[str] = Counter()
        """dropped, refused, written, failures: for the metrics."""
        self.database_is_away = False
        self.on_safe: Callable[[str, int], None] = lambda _run, _number: None
        """Told when everything up to a number of a run is safe."""
        self.run_id = uuid.uuid4().hex
        """For what this process tells itself."""
        self._own = 0
        self._store, self._spool, self._redaction, self._aside = store, spool, redaction, aside
        self._safe: dict[str, int] = {}
        self._left: dict[str, int] = {}
        """What the spool held at the start."""
        self._pending: deque[Kept] = deque()
        self._came, self._spooled = asyncio.Event(), asyncio.Event()
        self._idle = asyncio.Event()
        self._tables_are_there = False

    async def open(self) -> None:
        """Make the tables, and find out what has been kept by those before us.

        A database that is away is no reason not to start; one that is wrong is.

        Raises:
            ConfigError: the tables are not ours, or of a later version; another process has the spool.
        """
        await asyncio.to_thread(self._open_spool)
        # For `database.migrate`, which may come to it much later, with workers that want to be heard.
        await asyncio.to_thread(importlib.import_module, "alembic.command")
        try:
            async with asyncio.timeout(database.CONNECT_TIMEOUT_S * 2):
                await self._make_tables()
                self._safe = await self._store.last_numbers()
        except ConfigError:
            raise
        except (*database.AWAY, SQLAlchemyError) as error:
            self._away(error)
        for run, number in self._left.items():
            self._safe[run] = max(self._safe.get(run, 0), number)
        self._spooled.set()

    def _open_spool(self) -> None:
        self._spool.open()
        self._store.node = self._spool.node
        for line in self._spool.lines():
            with contextlib.suppress(msgspec.DecodeError):
                kept = _KEPT.decode(line)
                self._left[kept.run] = max(self._left.get(kept.run, 0), kept.number)

    async def _make_tables(self) -> None:
        if not self._tables_are_there:
            await database.migrate(self._store.engine)
            self._tables_are_there = True

    # --- the keeper

    def kept(self, run: str) -> int:
        """The number up to which the events of this run of a worker are safe."""
        return self._safe.get(run, 0)

    def take(self, event: model.CallEvent, run: str = "", number: int = 0) -> None:
        """One event; returns at once."""
        if not run:
            self._own += 1
            run, number = self.run_id, self._own
        if len(self._pending) >= MOST_PENDING:
            self.counts["dropped"] += 1
            return
        self._pending.append(Kept(run, number, self._redaction.for_disk(event)))
        self._came.set()

    # --- the loops

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep events for the length of the block; at its end what has come is made safe, and written if that goes."""
        loops = [asyncio.create_task(self._keep(), name="spool"), asyncio.create_task(self._deliver(), name="records")]
        for task in loops:
            task.add_done_callback(told_if_failed)
        try:
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self.settled()
            for task in loops:
                task.cancel()
            await asyncio.wait(loops)
            self._spool.close()
            if left := self._spool.size + len(self._pending):
                log.warning("records_unwritten", bytes=left)

    async def settled(self) -> None:
        """Wait until nothing is on its way to the database."""
        while self._pending or self._spool.size:
            self._idle.clear()
            await self._idle.wait()

    async def _keep(self) -> None:
        while True:
            await self._came.wait()
            await asyncio.sleep(LINGER_S)
            self._came.clear()
            most = BATCH
            while self._pending:
                batch = list(islice(self._pending, most))
                lines = [msgspec.json.encode(kept).replace(NUL, b"\\ufffd") for kept in batch]
                try:
                    await asyncio.to_thread(self._spool.append, lines)
                except OSError as error:
                    most = max(1, most // 2)  # what room there is may do for fewer
                    await self._spool_failed(error)
                    continue
                for kept in batch:
                    self._pending.popleft()
                    self._safe[kept.run] = kept.number
                self._spooled.set()
                for run in {kept.run for kept in batch}:
                    self.on_safe(run, self._safe[run])

    async def _deliver(self) -> None:
        while True:
            await self._spooled.wait()
            self._spooled.clear()
            while lines := await self._when_it_goes(self._spool.read, BATCH):
                batch = [kept for line in lines if (kept := self._decoded(line))]
                await self._write(batch)
                await self._when_it_goes(self._spool.advance)
            self._idle.set()

    async def _when_it_goes(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A step of the spool, again and again while the disk has its troubles."""
        while True:
            try:
                return await asyncio.to_thread(step, *args, **kwargs)
            except OSError as error:
                await self._spool_failed(error)

    async def _spool_failed(self, error: OSError) -> None:
        self.counts["spool_failures"] += 1
        log.error("spool_failed", error=str(error), waiting=len(self._pending))
        await asyncio.sleep(SPOOL_RETRY_S)

    def _decoded(self, line: bytes) -> Kept | None:
        try:
            return _KEPT.decode(line)
        except msgspec.DecodeError as error:
            self._put_aside(line, str(error))
            return None

    async def _write(self, batch: Sequence[Kept]) -> None:
        """Until it is done, however long the database is away."""
        retries = stamina.retry_context(
            on=self._worth_a_try, attempts=None, timeout=None, wait_initial=0.2, wait_max=WAIT_MAX_S
        )
        try:
            async for attempt in retries:
                with attempt:
                    await self._make_tables()
                    new = await self._store.apply(batch, time.time())
                    if self.database_is_away:
                        self.database_is_away = False
                        log.info("records_database_is_back")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one row must not hold up the rest
            await self._one_by_one(batch, error)
        else:
            self.counts["written"] += len(new)

    def _worth_a_try(self, error: Exception) -> bool:
        if not database.is_away(error) and not isinstance(error, ConfigError):
            return False
        self._away(error)
        return True

    async def _one_by_one(self, batch: Sequence[Kept], error: Exception) -> None:
        if len(batch) == 1:
            self._put_aside(msgspec.json.encode(batch[0]), str(error))
            return
        for kept in batch:
            await self._write([kept])

    def _put_aside(self, line: bytes, error: str) -> None:
        self.counts["refused"] += 1
        log.error("record_refused", error=error[:500], kept_in=str(self._aside))
        with contextlib.suppress(OSError), self._aside.open("ab") as file:
            file.write(line + b"\n")

    def _away(self, error: Exception) -> None:
        self.counts["failures"] += 1
        self._tables_are_there = False  # it may come back empty
        if not self.database_is_away:
            self.database_is_away = True
            log.error("records_database_is_away", error=str(error).partition("\n")[0][:300])
