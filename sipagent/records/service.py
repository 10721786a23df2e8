"""All of the records in the control process: opened with it, running beside its hub, closed after the last event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sipagent.config import Settings
from sipagent.records import database, retention
from sipagent.records.callbacks import Callbacks
from sipagent.records.messages import Messages
from sipagent.records.recorder import Recorder
from sipagent.records.redaction import Redaction
from sipagent.records.spool import Spool
from sipagent.records.store import Store
from sipagent.records.webhooks import Webhooks

log = structlog.get_logger()

LOOK_EVERY_S = 60.0
"""For calls whose worker died without a word."""
QUIET_S = 60.0
"""A worker that was away for so long does not come back as the same process."""
SWEEP_EVERY_S = 3600.0


def store_for(settings: Settings, *, pooled: bool = True) -> Store:
    """The store that the configuration names; nothing is connected yet."""
    records = settings.records
    engine = database.engine_for(settings.records_url, records.password.get_secret_value(), pooled=pooled)
    return Store(engine, Redaction(records.redact_numbers, records.redact_transcripts))


class Records:
    """Recorder, store and their house-keeping."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        records = settings.records
        folder = settings.run_dir / "spool"
        self.store = store_for(settings)
        self.recorder = Recorder(
            self.store,
            Spool(folder, records.spool_mb << 20),
            Redaction(records.redact_numbers, records.redact_transcripts),
            settings.run_dir / "records.refused",
        )
        self.callbacks = Callbacks(self.store)
        self.messages = Messages(self.store)
        self.webhooks = Webhooks(self.store, settings.webhooks)
        self.store.reactions = [self.webhooks.react]

    @contextlib.asynccontextmanager
    async def running(self, linked: Callable[[], Collection[str]]) -> AsyncIterator[None]:
        """For the length of the block; `linked` are the runs of the workers that are there.

        Raises:
            ConfigError: the database is there and cannot be used.
        """
        await self.recorder.open()
        try:
            async with self.webhooks.running(), self.recorder.running():
                keeping = asyncio.create_task(self._keep_house(linked), name="records-house")
                try:
                    yield
                finally:
                    keeping.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await keeping
        finally:
            await self.store.aclose()

    async def _keep_house(self, linked: Callable[[], Collection[str]]) -> None:
        swept_at = float("-inf")
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = time.time()
            try:
                if lost := await self.store.lose({*linked(), self.recorder.run_id}, now - QUIET_S, now):
                    log.warning("calls_without_end", calls=lost)
                if time.monotonic() - swept_at > SWEEP_EVERY_S:
                    swept_at = time.monotonic()
                    removed = await retention.sweep(self.store, self.settings.records, now)
                    log.info("records_swept", calls=removed.calls, transcripts=removed.transcripts)
            except (*database.AWAY, SQLAlchemyError) as error:
                log.warning("records_house_keeping_failed", error=str(error).partition("\n")[0])
