"""Keys that Asterisk tells of twice (core: keys and times in, yes or no out).

While Asterisk is busy with a key, or within its gap after one, it puts the next back into its own queue, and tells of
it again when it takes it from there (main/channel.c, `__ast_read`, AST_FRAME_DTMF_END). Keys come so close when the
line has held their packets back and then brings them all at once. Its rule is followed here, so that a key counts once:
a card number is right, and a menu is not left by the key for the one before.
"""

from __future__ import annotations

from collections import deque

GAP_MS = 45.0
"""AST_MIN_DTMF_GAP: a key that begins sooner after the end of another waits."""
EARLY_MS = 2.0
"""Times are told in milliseconds, and two of them are rounded."""
PACKET_MS = 20.0
"""The first packet of a key is sent, and comes, so long after the key was pressed: a usual ptime."""
SURE_MS, GUESSED_MS = 1000.0, 60.0
"""How late Asterisk may tell again of what is surely in its queue, and of what is there if we have guessed right."""


class Keys:
    """One channel's, where `mindtmfduration` is 0 (asterisk.conf): no key that was held shorter is stretched."""

    def __init__(self) -> None:
        self._queued: deque[tuple[str, float]] = deque()
        """In Asterisk's queue: it will tell of them again, in this order."""
        self._late_ms = SURE_MS
        """How late the first of them may be."""
        self._free_ms = self._surely_busy_ms = float("-inf")
        """From then on it takes the next key, the first in its queue before one from the line; until then at least
        not."""

    def is_new(self, key: str, duration_ms: float, at_ms: float) -> bool:
        """False: this one was told of before. `at_ms` is Asterisk's time of telling, the end of the key."""
        if self._queued and at_ms > self._free_ms + self._late_ms:
            self._queued.clear()
        if self._queued and self._queued[0] == (key, duration_ms) and at_ms >= self._free_ms - EARLY_MS:
            self._queued.popleft()
            self._late_ms = SURE_MS
            self._free_ms = self._surely_busy_ms = at_ms + duration_ms + GAP_MS
            return False
        if self._queued or at_ms < self._free_ms:
            if not self._queued:
                self._late_ms = SURE_MS if at_ms < self._surely_busy_ms else GUESSED_MS
            self._queued.append((key, duration_ms))
            return True
        # A beginning that came too soon was passed over, and the key is played out after its end. When it began is
        # not told: a line that holds packets back makes it later, or the end.
        began_ms = at_ms - duration_ms + PACKET_MS
        self._surely_busy_ms = at_ms + GAP_MS
        self._free_ms = at_ms + GAP_MS + (duration_ms if began_ms < self._free_ms else 0.0)
        return True
