"""Is anything of the caller's voice coming at all (core: no I/O; time is an argument)?

One-way audio is a NAT, a firewall or a lost media channel, and the caller who talks to nobody cannot know. A phone that
is muted may send nothing for minutes, so only who was never heard is given up; a line that falls silent later gets a
new media channel, which harms nobody, and the ladder for silent callers does the rest.
"""

from __future__ import annotations

from enum import Enum, auto

LOOK_EVERY_S = 1.0
FIRST_S = 3.0
"""From the answer on; after a repair as long again."""
LATER_S = 20.0
"""Of silence on a line that was heard: longer than any pause between two packets of comfort noise."""


class Verdict(Enum):
    """What to do about it."""

    WELL = auto()
    REPAIR = auto()
    """A new media channel."""
    DEAF = auto()
    """It did not help: they cannot be heard."""


class Hearing:
    """One stay of one caller with us. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._packets = 0
        self._since = now
        self._repaired = False

    def look(self, packets: int, now: float, *, held: bool) -> Verdict:
        """`packets` received so far in this stay; `held`: they have put us on hold, and send nothing."""
        if packets > self._packets or held:
            self._packets, self._since, self._repaired = packets, now, False
            return Verdict.WELL
        if now - self._since < (LATER_S if self._packets else FIRST_S):
            return Verdict.WELL
        self._since = now
        if not self._repaired:
            self._repaired = True
            return Verdict.REPAIR
        return Verdict.WELL if self._packets else Verdict.DEAF
