"""Which realtime endpoints are worth a try: a circuit breaker for each (core: no I/O; the time is an argument).

An endpoint that failed `FAILURES` times in a row is left alone for `PAUSE_S`, so that no caller waits for what others
have found to be away; then one call tries it, and its luck is everybody's.
"""

from __future__ import annotations

from collections import Counter

FAILURES = 3
PAUSE_S = 5.0
TRIAL_S = 15.0
"""A trial that nobody reported on by then is over: the call that made it has gone."""


class Health:
    """One worker's view of its endpoints, by their names. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        """In a row."""
        self._alone_until: dict[str, float] = {}

    def left_alone(self, name: str, now: float) -> bool:
        """It has failed too often just now, or somebody tries it for all."""
        return self._failures[name] >= FAILURES and now < self._alone_until[name]

    def dialled(self, name: str, now: float) -> None:
        """Somebody dials it, and reports how it went; after a pause this is the trial whose outcome others wait for."""
        if self._failures[name] >= FAILURES:
            self._alone_until[name] = now + TRIAL_S

    def good(self, name: str) -> None:
        """It answered."""
        del self._failures[name]

    def bad(self, name: str, now: float) -> None:
        """It gave no session."""
        self._failures[name] += 1
        self._alone_until[name] = now + PAUSE_S

    def away(self, now: float) -> list[str]:
        """Endpoints that are left alone now."""
        return [name for name in self._alone_until if self.left_alone(name, now)]
