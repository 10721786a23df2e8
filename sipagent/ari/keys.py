"""Keys that Asterisk tells of twice (core: keys and times in, yes or no out).

While Asterisk is busy with a key, or within its gap after one, it puts the next back into its own queue, and tells of
it again when it takes it from there (main/channel.c, `__ast_read`, AST_FRAME_DTMF_END). Keys come so close when the
line has held their packets back and then brings them all at once. Its rule is followed here, so that a key counts once:
a card number is right, and a menu is not left by the key for the one before.

Keys by SIP INFO come out of that queue from the first, and are told of once.
"""

from __future__ import annotations

from collections import deque

GAP_MS = 45.0
"""AST_MIN_DTMF_GAP: a key that begins sooner after the end of another waits."""
EARLY_MS = 2.0
"""Times are told in milliseconds, and two of them are rounded."""
SURE_MS, UNSURE_MS = 1000.0, 60.0
"""How late Asterisk may tell again of what is surely in its queue, and of what may be there."""


class Keys:
    """One channel's, where `mindtmfduration` is 0 (asterisk.conf): no key that was held shorter is stretched.

    What we cannot see is whether Asterisk took note of a key's beginning. If not, since it came too soon after another,
    it plays the key out after its end, and is busy for as long again.
    """

    def __init__(self) -> None:
        self._queued: deque[tuple[str, float]] = deque()
        """In Asterisk's queue: it will tell of them again, in this order."""
        self._sure = True
        """They are in there, or they may be."""
        self._busy_ms = self._free_ms = float("-inf")
        """Until then at least it takes no key, and from then on it does: the first in its queue before others."""

    def is_new(self, key: str, duration_ms: float, at_ms: float) -> bool:
        """False: this one was told of before. `at_ms` is Asterisk's time of telling, the end of the key."""
        if self._queued and at_ms > self._free_ms + (SURE_MS if self._sure else UNSURE_MS):
            self._queued.clear()
        taken_ms = self._busy_ms if self._sure else self._free_ms
        if self._queued and self._queued[0] == (key, duration_ms) and at_ms >= taken_ms - EARLY_MS:
            self._queued.popleft()
            self._sure = True
            self._busy_ms = self._free_ms = at_ms + duration_ms + GAP_MS
            return False
        if self._queued or at_ms < self._free_ms:
            self._sure = self._sure if self._queued else at_ms < self._busy_ms
            self._queued.append((key, duration_ms))
        else:
            self._busy_ms, self._free_ms = at_ms + GAP_MS, at_ms + GAP_MS + duration_ms
        return True
