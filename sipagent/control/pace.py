"""How often somebody may: a bucket of tokens for each name, as one moment in time (GCRA; core, no clock).

`limits` and its like read the clock themselves and sweep with a thread of their own; this is a subtraction.
"""

from __future__ import annotations

from collections import OrderedDict

MOST_NAMES = 4096
"""Whoever was silent longest is forgotten first: addresses are anybody's choice, and memory is not."""


class Pace:
    """`per_s` in the long run, `burst` at once."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._every_s, self._ahead_s = 1 / per_s, burst / per_s
        self._due: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def wait_s(self, name: str, now: float) -> float:
        """0: go on, and it is counted. Otherwise how long to wait, and nothing is."""
        due = max(self._due.get(name, now), now) + self._every_s
        if (early_s := due - self._ahead_s - now) > 1e-9:
            return early_s
        self._due[name] = due
        self._due.move_to_end(name)
        if len(self._due) > MOST_NAMES:
            self._due.popitem(last=False)
        return 0.0
