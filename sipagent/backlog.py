"""What a worker has to say, numbered, and kept until the control process says that it is safe (core).

Numbers count from 1 within one run of the worker's process, which has a name of its own. What is on its way and
what waits to be sent stand in one buffer: after a broken link everything that nobody acknowledged goes again, and
whoever hears it tells by the number what is new. The buffer is bounded; when nobody listens for too long the
oldest goes first and is counted, since the newest tells more of the calls that are up.
"""

from __future__ import annotations

import uuid
from collections import deque
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """`add` at one end, `take` for the wire, `acknowledge` what has arrived."""

    def __init__(self, capacity: int) -> None:
        self.run = uuid.uuid4().hex
        """Which process this is: a number means nothing without it."""
        self.dropped = 0
        self._capacity = capacity
        self._kept: deque[T] = deque()
        self._first = 1
        """The number of the oldest that is kept."""
        self._next = 1
        """The number of the next to be sent."""

    def __len__(self) -> int:
        """Items that nobody has acknowledged, sent or not."""
        return len(self._kept)

    @property
    def waiting(self) -> bool:
        """There is something to send."""
        return self._next < self._first + len(self._kept)

    def add(self, item: T) -> None:
        """One item more."""
        if len(self._kept) >= self._capacity:
            self._kept.popleft()
            self._first += 1
            self._next = max(self._next, self._first)
            self.dropped += 1
        self._kept.append(item)

    def take(self, most: int) -> tuple[int, list[T]]:
        """What goes out next, `most` at a time, and the number of its first item."""
        first = self._next
        start = first - self._first
        items = list(islice(self._kept, start, start + most))
        self._next += len(items)
        return first, items

    def acknowledge(self, number: int) -> None:
        """Everything up to `number` is safe where it went."""
        while self._kept and self._first <= number:
            self._kept.popleft()
            self._first += 1
        self._next = max(self._next, self._first)

    def rewind(self) -> None:
        """The link broke: whatever was not acknowledged goes again."""
        self._next = self._first
