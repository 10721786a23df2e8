"""Where log lines go: to a thread that writes them, so that no call waits for a disk, a pipe or a terminal.

Whoever reads the log may stop (Ctrl-S, a journal that is restarted, a container engine whose disk is full), and a
write to a file waits for a disk that is busy: a loop that wrote its lines itself would be silent for as long, and all
its calls with it.
"""

from __future__ import annotations

import atexit
import io
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

ROOM_LINES = 10_000
"""Some 3 MB; what comes when so many wait is dropped, and counted."""
LEAVE_S = 1.0
"""The program's end waits so long for lines that nobody takes."""


class LogWriter(io.TextIOBase):
    """A text stream onto a descriptor, whose `write` returns at once. Each text is one write to the kernel."""

    def __init__(self, descriptor: int, on_room: Callable[[int], None], room_lines: int = ROOM_LINES) -> None:
        """`on_room(dropped)`: lines are taken again; so many were not."""
        self.dropped = 0
        """Lines that nobody will read."""
        self._descriptor, self._on_room, self._room = descriptor, on_room, room_lines
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.leave)

    def write(self, text: str) -> int:
        """Queue it, or drop it."""
        if self._lines.qsize() < self._room:
            self._lines.put(text)
        else:
            self.dropped += 1
        return len(text)

    def isatty(self) -> bool:
        """Somebody looks on."""
        return os.isatty(self._descriptor)

    def leave(self) -> None:
        """Write what waits, for a moment at most."""
        self._lines.put(None)
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        told = 0
        while (text := self._lines.get()) is not None:
            if not self._written(text.encode(errors="backslashreplace")):
                self.dropped += 1
            elif self.dropped != told:
                missed, told = self.dropped - told, self.dropped
                self._on_room(missed)

    def _written(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # whoever read them has gone, or the disk is full
            return False
        return True
