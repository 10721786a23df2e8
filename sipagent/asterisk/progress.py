"""Says what is going on: one line that changes on a terminal, plain lines (few of them) anywhere else.

Standard error only, so that a program's own output stays clean. Holds no decision and never fails a run.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

PLAIN_EVERY_S = 5.0
"""Without a terminal a line every 5 s is enough to show life and little enough for a CI log."""


class Progress:
    """Shows steps; `step` opens one, `update` tells how far it is, `done` closes it with its time."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._text = ""
        self._opened_at = self._shown_at = 0.0
        self._open = False

    def step(self, text: str) -> None:
        """Open a step."""
        self.close()
        self._text, self._opened_at, self._open = text, time.monotonic(), True
        self._shown_at = self._opened_at
        self._show(f"{text} ...")

    def update(self, detail: str) -> None:
        """Tell how far the step is; on a terminal at most ten times a second."""
        now = time.monotonic()
        if now - self._shown_at >= (0.1 if self._terminal else PLAIN_EVERY_S):
            self._shown_at = now
            self._show(f"{self._text}: {detail}")

    def done(self, detail: str = "") -> None:
        """Close the step with what came of it and the seconds it took."""
        self._show(f"{self._text}: {detail or 'done'} ({time.monotonic() - self._opened_at:.1f} s)")
        self.close()

    def note(self, text: str) -> None:
        """A line of its own."""
        self.close()
        self._out.write(text + "\n")
        self._out.flush()

    def close(self) -> None:
        """End the changing line, if there is one."""
        if self._open and self._terminal:
            self._out.write("\n")
            self._out.flush()
        self._open = False

    def _show(self, text: str) -> None:
        self._out.write(f"\r\x1b[K{text}" if self._terminal else text + "\n")
        self._out.flush()
