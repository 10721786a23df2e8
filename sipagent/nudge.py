"""After we cut the agent on our own: does the model notice that somebody speaks? If not, it must be asked to go on.

It believes otherwise that it was heard out, and would wait for the caller for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

MODEL_WORD_S = 2.0
"""So long after the caller's last sound the model is given to notice."""


class Nudge:
    """One talk's. `voiced_at` gives the caller's last sound (monotonic seconds)."""

    def __init__(self, voiced_at: Callable[[], float | None]) -> None:
        self._voiced_at = voiced_at
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, move: Callable[[], None]) -> None:
        """The agent has been cut, and `move` is called if the model does not notice; begun before, it begins anew.

        Only the timer knows of `move`: so nothing here points back to who points to us.
        """
        self.settle()
        self._timer = asyncio.get_running_loop().call_later(MODEL_WORD_S, self._look, move)

    def settle(self) -> None:
        """The model has noticed, or there is none any more; twice is fine."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self, move: Callable[[], None]) -> None:
        self._timer = None
        voiced_at = self._voiced_at()
        if voiced_at is not None and time.monotonic() - voiced_at < MODEL_WORD_S:
            self._timer = asyncio.get_running_loop().call_at(voiced_at + MODEL_WORD_S, self._look, move)
        else:
            move()
