"""Which realtime endpoints are worth a try: a circuit breaker for each (core: no I/O; the time is an argument).

An endpoint that failed `FAILURES` times in a row is left alone for `PAUSE_S`, so that no caller waits for what others
have found to be away; then one call tries it, and its luck is everybody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FAILURES = 3
PAUSE_S = 5.0
TRIAL_S = 15.0
"""A trial that nobody reported on by then is over: the call that made it has gone."""


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    open_until: float = 0.0
    """While the circuit is open; 0: it is closed."""


class Health:
    """One worker's view of its endpoints, by their names. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._breakers: dict[str, _Breaker] = {}

    def worth_trying(self, names: Iterable[str], now: float) -> list[str]:
        """Those of the endpoints that may be dialled now, in their order; the caller reports how each went."""
        return [name for name in names if self._may(self._breakers.setdefault(name, _Breaker()), now)]

    def _may(self, breaker: _Breaker, now: float) -> bool:
        if breaker.failures < FAILURES:
            return True
        if now < breaker.open_until:
            return False
        breaker.open_until = now + TRIAL_S  # ours is the trial; others wait for its outcome
        return True

    def good(self, name: str) -> None:
        """It gave a session."""
        self._breakers[name] = _Breaker()

    def bad(self, name: str, now: float) -> None:
        """It gave none."""
        breaker = self._breakers.setdefault(name, _Breaker())
        breaker.failures += 1
        breaker.open_until = now + PAUSE_S if breaker.failures >= FAILURES else 0.0

    def away(self, now: float) -> list[str]:
        """Endpoints that are left alone now."""
        return [name for name, one in self._breakers.items() if one.failures >= FAILURES and now < one.open_until]
