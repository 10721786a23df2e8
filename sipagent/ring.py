"""The last of one voice, in one piece of memory (core).

To keep packets themselves would keep their memory out of use: each new one would get some that has not been touched for
as long as they are kept, and among hundreds of calls that is no longer in any cache.
"""

from __future__ import annotations

from sipagent import native


class Ring:
    """The last `size` bytes of what was appended."""

    def __init__(self, size: int) -> None:
        self._memory = bytearray(size)
        self._size = size
        self._at = 0
        """Where the next byte goes."""
        self._full = False

    def append(self, piece: bytes) -> None:
        """More of it."""
        length = len(piece)
        if length > self._size:
            piece = piece[length - self._size :]
            length = self._size
        room = self._size - self._at
        if length < room:
            native.put(self._memory, self._at, piece)
            self._at += length
        else:
            native.put(self._memory, self._at, piece[:room])
            native.put(self._memory, 0, piece[room:])
            self._at = length - room
            self._full = True

    def __len__(self) -> int:
        return self._size if self._full else self._at

    def __bytes__(self) -> bytes:
        """Oldest first."""
        lately = bytes(self._memory[: self._at])
        return bytes(self._memory[self._at :]) + lately if self._full else lately

    def clear(self) -> None:
        """Nothing was appended."""
        self._at, self._full = 0, False
