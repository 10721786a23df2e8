"""A queue on disk between the links and the database: what is in it survives a crash (the only files of the records).

Lines are appended and synced in batches; whoever appended may then tell the worker to forget them. They are read in
the order they came and taken away once the database has them. After a crash the reading begins again at the oldest
file, so the reader must know what it has seen: the database does, by the numbers of the events. A line that was
being written when the machine stopped has no end; it is cut off, since nobody was told that it is safe.

The folder holds at most `cap_bytes` and belongs to one process at a time. Nothing here is async: callers use a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from sipagent.errors import ConfigError

SEGMENT_BYTES = 4 << 20
"""A file of this size gets a successor, and goes once it has been read: what a crash reads again is bounded."""


class Spool:
    """`append` in one thread, `read` and `advance` in another."""

    def __init__(self, folder: Path, cap_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._cap, self._segment = folder, cap_bytes, segment_bytes
        self._mutex = threading.Lock()
        self._files: list[Path] = []
        self._sizes: dict[Path, int] = {}
        self._offset = 0
        """Of the first file: read and advanced over."""
        self._ahead = 0
        """Bytes that the last `read` gave."""
        self._descriptor = self._lock = -1

    @property
    def node(self) -> str:
        """A name for whoever has this folder, made once: by it a node on a shared database knows what is its own."""
        file = self._folder / "node"
        if not file.exists():
            file.write_text(uuid.uuid4().hex)
        return file.read_text().strip()

    def open(self) -> None:
        """Take the folder, and what those before us left in it.

        Raises:
            ConfigError: another process has it.
            OSError: the disk is not what it should be.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConfigError(
                f"run_dir: another control process uses {self._folder.parent}; end it, or give this one another run_dir"
            ) from None
        self._files = sorted(self._folder.glob("*.jsonl"))
        for file in self._files:
            _cut_torn_end(file)
        self._sizes = {file: file.stat().st_size for file in self._files}
        self._offset = self._ahead = 0
        self._write_to(self._files.pop() if self._files else self._folder / f"{1:012d}.jsonl")

    @property
    def size(self) -> int:
        """Bytes that wait for the database."""
        with self._mutex:
            return sum(self._sizes.values()) - self._offset

    def lines(self) -> Iterator[bytes]:
        """Everything that is in it, for a look at the start."""
        for file in list(self._files):
            yield from file.read_bytes().splitlines()

    def append(self, lines: Sequence[bytes]) -> None:
        """Keep them; when this returns they are on the disk.

        Raises:
            OSError: the disk is full or broken, or the cap is reached (ENOSPC); nothing of them was kept.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._mutex:
            if sum(self._sizes.values()) + len(data) > self._cap:
                raise OSError(errno.ENOSPC, f"the spool has reached its {self._cap >> 20} MB", str(self._folder))
            if self._sizes[self._files[-1]] > self._segment:
                self._new_file()
            file = self._files[-1]
            try:
                _write_all(self._descriptor, data)
                os.fdatasync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._sizes[file])
                raise
            self._sizes[file] += len(data)

    def read(self, most: int) -> list[bytes]:
        """The next lines, at most `most`, all of one file; again the same ones until `advance`."""
        with self._mutex:
            while len(self._files) > 1 and self._offset >= self._sizes[self._files[0]]:
                self._forget_first()
            file, end = self._files[0], self._sizes[self._files[0]]
            with file.open("rb") as data:
                data.seek(self._offset)
                lines: list[bytes] = []
                while len(lines) < most and data.tell() < end:
                    lines.append(data.readline())
                self._ahead = data.tell() - self._offset
        return [line.rstrip(b"\n") for line in lines]

    def advance(self) -> None:
        """What was read is safe elsewhere."""
        with self._mutex:
            self._offset += self._ahead
            self._ahead = 0
            if len(self._files) == 1 and self._offset >= self._sizes[self._files[0]]:
                # All is told: begin anew, so that a crash has nothing to repeat.
                os.ftruncate(self._descriptor, 0)
                self._sizes[self._files[0]] = self._offset = 0

    def close(self) -> None:
        """Twice is fine."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def _forget_first(self) -> None:
        file = self._files.pop(0)
        del self._sizes[file]
        self._offset = 0
        file.unlink(missing_ok=True)

    def _new_file(self) -> None:
        self._write_to(self._folder / f"{int(self._files[-1].stem) + 1:012d}.jsonl")

    def _write_to(self, file: Path) -> None:
        """From now on; everything is as it was when that cannot be had (OSError)."""
        # O_APPEND: after a truncation the next line begins at the new end.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            folder = os.open(self._folder, os.O_RDONLY)  # the file's name, too, must survive
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            os.close(descriptor)
            raise
        before, self._descriptor = self._descriptor, descriptor
        self._files.append(file)
        self._sizes[file] = size
        if before >= 0:
            os.close(before)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cut_torn_end(file: Path) -> None:
    data = file.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(file, data.rfind(b"\n") + 1)
