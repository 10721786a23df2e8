"""What a session sends, in order, and what it does later. Core: time is told, never read.

All that is sent goes into the record. After `end` nothing is timed any more.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from sipagent.standin.outputs import Close, Drop, Freeze, Output, Send
from sipagent.standin.record import Record
from sipagent.standin.wire import Event


class Line:
    """One session's way out."""

    def __init__(self, record: Record, now: float) -> None:
        self.now = now
        """The time of what happens now; the session sets it at every call from outside."""
        self.ended = False
        self._record = record
        self._out: list[Output] = []
        self._later: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()

    @property
    def has_output(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self._out)

    def take(self) -> list[Output]:
        """All that is to be done now, in order; it is handed out once."""
        out, self._out = self._out, []
        return out

    def send(self, frame: Event | str | bytes) -> None:
        """Send an event as it is, or garbage."""
        self._record.on_sent(self.now, frame)
        self._out.append(Send(frame))

    def do(self, output: Output) -> None:
        """Ask something of the shell."""
        self._out.append(output)

    def at(self, when: float, action: Callable[[float], None]) -> None:
        """Call `action(now)` at that time, or at once when it has come."""
        if when <= self.now:
            action(self.now)
        else:
            heapq.heappush(self._later, (when, next(self._order), action))

    def due(self) -> float | None:
        """When `run` has something to do."""
        return self._later[0][0] if self._later else None

    def run(self, now: float) -> None:
        """Do what is due."""
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2](now)

    def end(self, output: Close | Drop | Freeze) -> None:
        """The last output."""
        self._out.append(output)
        self.ended = True
        self._later.clear()
