"""What the caller says, to the session that there is; and kept for the next one, as long as it may be needed.

While nobody hears it all of it is kept, up to `KEPT_MS`, and sent when there is a session, so a caller need not say it
twice; so are the words during which a session is lost, from their first sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sipagent.audio import FRAME_BYTES, SAMPLE_RATE_HZ
from sipagent.ring import Ring

KEPT_MS = 10_000
"""Of the caller's voice, while there is nobody to hear it, or nobody has heard it out; older is dropped and counted."""
HEARD_MS = 300
"""Kept of what the model hears: its word that somebody speaks comes so much later than their first sound. Less than its
own wait for the end of a turn, or the last sound of one would be taken for another."""
_BYTES_A_MS = SAMPLE_RATE_HZ // 1000
_KEPT_BYTES = KEPT_MS * _BYTES_A_MS


class Kept:
    """One conversation's."""

    def __init__(self) -> None:
        self.hears = False
        """There is a session that hears the caller; what was kept has been sent to it already."""
        self.caller_speaks = False
        """As the model hears it: it is in the middle of their words."""
        self.to: Callable[[bytes], None] | None = None
        """The session that is there, heard or not."""
        self.dropped = 0
        """Frames for which older ones had to go that nobody has heard."""
        self._lately = Ring(HEARD_MS * _BYTES_A_MS)
        self._words = bytearray()
        """From the first sound that somebody may have to hear again; empty while there is none."""

    def take(self, payload: bytes) -> None:
        """One frame of the caller."""
        self._lately.append(payload)
        if not self.hears or self.caller_speaks:
            self._keep(payload)
        elif self._words:
            self._words.clear()
        if self.to is not None:
            self.to(payload)

    def _keep(self, payload: bytes) -> None:
        words = self._words
        words += payload if words else bytes(self._lately)
        if len(words) > _KEPT_BYTES:
            del words[: len(words) - _KEPT_BYTES]
            self.dropped += not self.hears

    def frames(self) -> Iterator[bytes]:
        """What a new session must be sent, in order."""
        kept = bytes(self._words or self._lately)
        return (kept[at : at + FRAME_BYTES] for at in range(0, len(kept), FRAME_BYTES))

    def clear(self) -> None:
        """Nobody is to hear it any more."""
        self._lately.clear()
        self._words.clear()
