"""A recording while it grows: the blocks as they came, one record each, in a file that only ever gets longer.

A record is its length (4 bytes, big endian) and a block in msgpack, sealed where there is a key; before the first one
stands `PLAIN` or a seal's head. Whoever dies, this process included, leaves a file whose whole records are all there;
a torn one at its end is cut off when the journal is taken up again.

Every method may raise OSError: disks are full, folders are gone. After that the journal is as it was before.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from sipagent import tap
from sipagent.control.recordings.sealed import HEAD_BYTES, MAGIC, Seal
from sipagent.errors import RecordingUnreadable
from sipagent.tap import Block

PLAIN = b"SIPPLAIN"
_LENGTH = struct.Struct(">I")


class Journal:
    """One recording's. `begin` a new one, `take_up` one that somebody else has begun."""

    def __init__(self, path: Path, seal: Seal | None, file: int, size: int, records: int) -> None:
        self.path = path
        self._seal = seal
        self._file, self._size, self._records = file, size, records

    @classmethod
    def begin(cls, path: Path, key: bytes) -> Journal:
        """A new file, readable by us only; FileExistsError when there is one."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        seal = Seal(key) if key else None
        head = seal.head if seal else PLAIN
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        journal = cls(path, seal, file, 0, 0)
        try:
            journal._write(head)
        except OSError:
            journal.close()
            path.unlink()
            raise
        return journal

    @classmethod
    def take_up(cls, path: Path, key: bytes) -> tuple[Journal, Block | None]:
        """One that was left behind, to be continued after its last whole record; and that record.

        Raises:
            RecordingUnreadable: another key, or no journal at all.
        """
        last: Block | None = None
        with path.open("rb") as file:
            seal, size, records = _seal_of(file, key), file.tell(), 0
            for block in _blocks(file, seal):
                last, size, records = block, file.tell(), records + 1
        journal = cls(path, seal, os.open(path, os.O_RDWR | os.O_CLOEXEC), size, records)
        os.ftruncate(journal._file, size)
        return journal, last

    def append(self, message: bytes) -> None:
        """A block as it came up the link."""
        data = self._seal.close(self._records, message) if self._seal else message
        self._write(_LENGTH.pack(len(data)) + data)
        self._records += 1

    def _write(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):  # a full disk takes a part, and says so only when asked again
                written += os.pwrite(self._file, data[written:], self._size + written)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def blocks(self) -> Iterator[Block]:
        """All that was written, from the beginning."""
        with self.path.open("rb") as file:
            file.seek(HEAD_BYTES if self._seal else len(PLAIN))
            yield from _blocks(file, self._seal)

    def close(self) -> None:
        """Twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """It has been kept in a better form."""
        self.close()
        self.path.unlink(missing_ok=True)


def _seal_of(file: BinaryIO, key: bytes) -> Seal | None:
    head = file.read(len(PLAIN))
    if head == PLAIN:
        return None
    if head != MAGIC:
        raise RecordingUnreadable("this is no journal of a recording")
    return Seal.of(head + file.read(HEAD_BYTES - len(head)), key)


def _blocks(file: BinaryIO, seal: Seal | None) -> Iterator[Block]:
    """Up to the first record that is not whole; at each of them the file stands right behind it."""
    number = 0
    while len(length := file.read(_LENGTH.size)) == _LENGTH.size:
        (size,) = _LENGTH.unpack(length)
        data = file.read(size)
        if len(data) < size:
            return
        try:
            yield tap.decode(seal.open(number, data) if seal else data)
        except (RecordingUnreadable, msgspec.DecodeError):
            return
        number += 1
