"""What the caller says, to the session that there is; and kept for the next one, as long as it may be needed.

While nobody hears it all of it is kept, up to `KEPT_MS`, and sent when there is a session, so a caller need not say it
twice; so are the words during which a session is lost, from their first sound.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from sipagent.audio import PTIME_MS

KEPT_MS = 10_000
"""Of the caller's voice, while there is nobody to hear it, or nobody has heard it out; older is dropped and counted."""
HEARD_MS = 300
"""Kept of what the model hears: its word that somebody speaks comes so much later than their first sound. Less than its
own wait for the end of a turn, or the last sound of one would be taken for another."""
_KEPT_FRAMES, _HEARD_FRAMES = KEPT_MS // PTIME_MS, HEARD_MS // PTIME_MS


class Talk(Protocol):
    """Who knows whether the model is in the middle of the caller's words."""

    caller_speaks: bool


class Kept:
    """One conversation's. It counts under `kept_dropped` what was too much."""

    def __init__(self, talk: Talk, counters: Counter[str]) -> None:
        self.frames: deque[bytes] = deque(maxlen=_KEPT_FRAMES)
        self.hears = False
        """There is a session that hears the caller; `frames` have been sent to it already."""
        self.to: Callable[[bytes], None] | None = None
        """The session that is there, heard or not."""
        self._talk, self._counters = talk, counters

    def take(self, payload: bytes) -> None:
        """One frame of the caller."""
        frames = self.frames
        if not self.hears:
            self._counters["kept_dropped"] += len(frames) == _KEPT_FRAMES
        elif not self._talk.caller_speaks:
            while len(frames) >= _HEARD_FRAMES:
                frames.popleft()
        frames.append(payload)
        if self.to is not None:
            self.to(payload)
