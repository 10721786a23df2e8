"""Hears the workers' blocks and has them written: the loop's end of it, and the two threads that touch the disk.

`take` only puts a block in line. One thread writes the journals, as the blocks come; another one, of low priority,
makes files of those that are over, one at a time. A disk that is full, slow or gone costs recordings, never calls: what
cannot be written is counted and becomes silence of that length.

A recording is over when its last block says so. One that says nothing any more for `ABANDONED_S` has lost its worker
(blocks come every 0.8 s, in a pause too) and is over as well, its `cut` set; time in which we did not listen, since the
disk or the whole process stood still, is not counted. Journals that are found at the start are
taken up: their workers may live, and go on sending what they kept while nobody was here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import soundfile
import structlog

from sipagent import model, tap
from sipagent.config import Settings
from sipagent.control.recordings.journal import Journal
from sipagent.control.recordings.shelf import OPEN, Interrupted, Kept, Shelf
from sipagent.errors import RecordingUnreadable
from sipagent.tap import Block

log = structlog.get_logger()

ABANDONED_S = 5.0
"""A worker whose loop stood still for so long has no calls any more, and its link is up again within 0.5 s."""
WAITING_BYTES = 64 << 20
"""Blocks in line for a disk that does not answer: a minute of 65 recorded calls."""
LOOK_EVERY_S = 1.0
RETRY_S = 60.0
"""A file that could not be made, since the disk is full, is tried again."""
EXPIRE_EVERY_S = 3600.0
CLOSE_S = 2.0
"""At the end: most files are made by then, and the journals of the others are as good."""
FINISHER_NICE = 10
"""Encoding an hour takes up to a minute of a core: calls go first."""


@dataclass(slots=True)
class _Open:
    """A recording that is not on the shelf yet. The writer's thread has it until `over`, then the finisher's."""

    recording_id: str
    call_id: str
    quiet_s: float = 0.0
    """So long we have listened since its last block."""
    journal: Journal | None = None
    """None: the disk has not taken any of it so far."""
    over: bool = False
    cut: bool = False
    told: bool = False
    """That it cannot be written has been logged."""
    retry_at: float = 0.0
    finishing: bool = False


class Recorder:
    """All recordings of this node. `run` until cancelled, then `aclose`."""

    def __init__(
        self, settings: Settings, emit: Callable[[model.CallEvent], None], *, abandoned_s: float = ABANDONED_S
    ) -> None:
        """`emit` hears of every recording that is whole."""
        self.shelf = Shelf(settings)
        self.counts: Counter[str] = Counter()
        """Blocks that were no blocks, came too late, or were not written."""
        self._emit, self._abandoned_s = emit, abandoned_s
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._listened_at = 0.0
        self._open: dict[str, _Open] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._stopping = threading.Event()
        self._writer = ThreadPoolExecutor(1, "recordings")
        self._finisher = ThreadPoolExecutor(1, "recordings-finish", _be_nice)

    def follow(self, settings: Settings) -> None:
        """New settings, for recordings that end from now on."""
        self.shelf.follow(settings)

    def take(self, message: bytes) -> None:
        """One block of a worker's; returns at once."""
        if self._waiting_bytes + len(message) > WAITING_BYTES:
            self.counts["blocks_dropped"] += 1
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        self._wake.set()

    async def run(self) -> None:
        """Write what comes; look after what does not come any more."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self._take_up)
        expire_at, self._listened_at = loop.time(), time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            await self._write_waiting()
            if loop.time() >= expire_at:
                expire_at = loop.time() + EXPIRE_EVERY_S
                self._beside(self._expired())

    async def aclose(self) -> None:
        """Write what has come and keep what can be kept at once; the rest is taken up at the next start."""
        if self._stopping.is_set():
            return
        # Whatever `run` was at when it was cancelled is written when this is.
        await asyncio.get_running_loop().run_in_executor(self._writer, self._write, [])
        await self._write_waiting()
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=CLOSE_S)
        self._stopping.set()
        if self._finishing:
            await asyncio.wait(self._finishing)
        self._writer.shutdown()
        self._finisher.shutdown()
        for recording in self._open.values():
            if recording.journal is not None:
                recording.journal.close()
        self._open.clear()

    async def _write_waiting(self) -> None:
        self._wake.clear()
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if batch:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, self._write, batch))
        now = time.monotonic()
        listened_s, self._listened_at = min(now - self._listened_at, LOOK_EVERY_S), now
        for recording in list(self._open.values()):
            recording.quiet_s += listened_s
            if not recording.over and recording.quiet_s > self._abandoned_s:
                recording.over = recording.cut = True
            if recording.over and not recording.finishing and now >= recording.retry_at:
                recording.finishing = True
                self._beside(self._finish(recording))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """What the finisher's thread does takes its time; the journals do not wait for it."""
        task = asyncio.create_task(work, name="recordings-finish")
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    # --- in the writer's thread

    def _take_up(self) -> None:
        """What a control process before us left behind."""
        for path in sorted((self.shelf.folder / OPEN).glob("*.journal")):
            try:
                if not path.stat().st_size:  # a machine that lost power as it began
                    path.unlink()
                    continue
                journal, last = Journal.take_up(path, self.shelf.key)
            except (OSError, RecordingUnreadable) as error:
                log.error("recording_left_behind", file=path.name, error=str(error))
                self.counts["journals_unreadable"] += 1
                continue
            if last is None:
                journal.remove()
                continue
            found = _Open(last.recording_id, last.call_id, journal=journal, over=last.last)
            self._open[last.recording_id] = found

    def _write(self, batch: list[bytes]) -> None:
        for message in batch:
            try:
                block = tap.decode(message)
                path = self.shelf.journal_path(block.recording_id)
            except (msgspec.DecodeError, KeyError) as error:
                self.counts["blocks_malformed"] += 1
                log.error("recording_garbage", error=str(error))
                continue
            recording = self._open.get(block.recording_id)
            if recording is None:
                if self._is_kept(block):
                    self.counts["blocks_late"] += 1
                    continue
                recording = self._open[block.recording_id] = _Open(block.recording_id, block.call_id)
            if recording.over:
                self.counts["blocks_late"] += 1
                continue
            recording.quiet_s, recording.over = 0.0, block.last
            try:
                self._append(recording, path, message)
            except OSError as error:
                self.counts["blocks_unwritten"] += 1
                if not recording.told:
                    recording.told = True
                    log.error("recording_unwritten", recording_id=block.recording_id, error=str(error))

    def _append(self, recording: _Open, path: Path, message: bytes) -> None:
        """OSError: none of it is on the disk; nor is there a journal, if it would have been the first block of one."""
        if recording.journal is not None:
            recording.journal.append(message)
            return
        journal = Journal.begin(path, self.shelf.key)
        try:
            journal.append(message)
        except OSError:
            journal.remove()
            raise
        recording.journal = journal

    def _is_kept(self, block: Block) -> bool:
        try:
            self.shelf.get(block.recording_id)
        except KeyError:
            return False
        return True

    # --- in the finisher's

    async def _finish(self, recording: _Open) -> None:
        """Onto the shelf, or later."""
        kept: Kept | None = None
        try:
            if recording.journal is not None:
                kept = await asyncio.get_running_loop().run_in_executor(
                    self._finisher, self._keep, recording.journal, recording.cut
                )
        except Interrupted:
            recording.finishing = False
            return
        except (OSError, soundfile.SoundFileError) as error:
            self.counts["files_unwritten"] += 1
            log.error("recording_not_kept", recording_id=recording.recording_id, error=str(error), retry_in_s=RETRY_S)
            recording.finishing, recording.retry_at = False, time.monotonic() + RETRY_S
            return
        del self._open[recording.recording_id]
        event = model.RecordingEnded(
            call_id=recording.call_id,
            at=time.time(),
            recording_id=recording.recording_id,
            path=str(self.shelf.path(kept)) if kept else "",
            format=kept.format if kept else "",
            seconds=kept.seconds if kept else 0.0,
            bytes=kept.bytes if kept else 0,
            sha256=kept.sha256 if kept else "",
            lost_ms=kept.lost_ms if kept else 0,
            cut=recording.cut,
        )
        log.info(
            "recording_ended",
            call_id=event.call_id,
            recording_id=event.recording_id,
            path=event.path,
            seconds=event.seconds,
            bytes=event.bytes,
            lost_ms=event.lost_ms,
            cut=event.cut,
        )
        self._emit(event)

    def _keep(self, journal: Journal, cut: bool) -> Kept:
        return self.shelf.keep(journal, cut=cut, stopping=self._stopping.is_set)

    async def _expired(self) -> None:
        today = dt.datetime.now(dt.UTC).date()
        try:
            gone = await asyncio.get_running_loop().run_in_executor(self._finisher, self.shelf.expire, today)
        except OSError as error:
            self.counts["files_undeleted"] += 1
            log.error("recordings_not_deleted", error=str(error))
            return
        if gone:
            self.counts["expired"] += gone
            log.info("recordings_expired", recordings=gone)


def _be_nice() -> None:
    """This thread alone: on Linux a thread has a priority of its own."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), FINISHER_NICE)
