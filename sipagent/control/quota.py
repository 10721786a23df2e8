"""Who may have a session with the model, and who waits for one: first come, first served (core: no I/O, no clock).

A provider gives a team so many sessions at once (xAI: about ten), whichever worker opens them. So they are counted
here, for the whole node: by the key that each conversation has, and under the worker's process that holds it (its run:
a number is its successor's as well). What a worker held when it died is kept for its calls, since whoever adopts them
needs it again. A session of no call stands by: it counts, and is called back when a caller would have to wait.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sipagent.orders import SessionGranted, SessionHeld, SessionPlace, SessionRecalled, SessionWanted

Told = tuple[str, SessionGranted | SessionPlace | SessionRecalled]
"""To which run of a worker, and what."""


@dataclass(slots=True)
class _Held:
    run: str | None
    """None: it has died, and its call is not adopted yet."""
    call_id: str
    endpoint: str
    recalled: bool = False


@dataclass(slots=True)
class _Waiting:
    run: str
    wanted: SessionWanted
    place: int = 0


class Quota:
    """The node's sessions. What the workers are to be told is in `told`, for somebody to bring and empty."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """`limits` by endpoint; one that is 0 or not there is without limit."""
        self.told: list[Told] = []
        self._limits = dict(limits)
        self._held: dict[str, _Held] = {}
        self._line: deque[_Waiting] = deque()

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._line)

    def open(self, endpoint: str) -> int:
        """Sessions at this endpoint now."""
        return sum(held.endpoint == endpoint for held in self._held.values())

    def taken(self) -> dict[str, int]:
        """Sessions that calls have now, by endpoint with a limit. Those that stand by make room, and are none of them.

        For a scrape in another thread: what is looked at is copied in one step.
        """
        held = Counter(one.endpoint for one in list(self._held.values()) if one.call_id)
        return {endpoint: held[endpoint] for endpoint, limit in self._limits.items() if limit}

    def follow(self, limits: Mapping[str, int]) -> None:
        """A reload: who has a session keeps it."""
        self._limits = dict(limits)
        self._serve()

    def want(self, run: str, wanted: SessionWanted) -> None:
        """A session at the first of these endpoints that has room, or a place in line."""
        held = self._held.get(wanted.key)
        if held and held.endpoint in wanted.endpoints:  # asked again, since somebody else counts now, or a call has it
            held.call_id = wanted.call_id
            self.told.append((run, SessionGranted(wanted.key, held.endpoint)))
            self._serve()
            return
        self._forget(wanted.key)
        self._forget_held(wanted.call_id, but_by=run)  # what another worker held for this call is this session's
        waiting = _Waiting(run, wanted)
        ahead = sum(one.wanted.first for one in self._line) if wanted.first else len(self._line)
        self._line.insert(ahead, waiting)
        self._serve()

    def left(self, key: str) -> None:
        """A session is closed, or nobody waits for it any more."""
        self._forget(key)
        self._serve()

    def here(self, run: str, held: Iterable[SessionHeld]) -> None:
        """A worker is there, with these sessions: also those that it opened while nobody counted."""
        for one in held:
            self._held[one.key] = _Held(run, one.call_id, one.endpoint)

    def gone(self, run: str, orphans: Iterable[str]) -> None:
        """A worker has died. The sessions of these calls are kept for whoever adopts them."""
        kept = set(orphans)
        for key, held in list(self._held.items()):
            if held.run == run:
                held.run = None
                if held.call_id not in kept:
                    del self._held[key]
        self._line = deque(one for one in self._line if one.run != run)
        self._serve()

    def lost(self, call_id: str) -> None:
        """Nobody has adopted this call, or who has does not need the session that it had."""
        self._held = {key: held for key, held in self._held.items() if held.run is not None or held.call_id != call_id}
        self._serve()

    def _forget_held(self, call_id: str, but_by: str) -> None:
        """A call is with one worker: what others held for it, dead or on their way out, is free."""
        if not call_id:
            return
        for key, held in list(self._held.items()):
            if held.call_id == call_id and held.run != but_by:
                del self._held[key]

    def _forget(self, key: str) -> None:
        self._held.pop(key, None)
        self._line = deque(one for one in self._line if one.wanted.key != key)

    def _serve(self) -> None:
        """Whoever can be served is; the others are told their place when it is another one."""
        left: deque[_Waiting] = deque()
        for one in self._line:
            endpoint = next((name for name in one.wanted.endpoints if self._has_room(name)), None)
            if endpoint is None:
                left.append(one)
                continue
            self._held[one.wanted.key] = _Held(one.run, one.wanted.call_id, endpoint)
            self.told.append((one.run, SessionGranted(one.wanted.key, endpoint)))
        self._line = left
        soon = self._recall([one.wanted for one in left if one.wanted.call_id])
        for place, one in enumerate(left, 1):
            if one.place != place:
                one.place = place
                self.told.append((one.run, SessionPlace(one.wanted.key, place, soon=place <= soon)))

    def _recall(self, waiting: list[SessionWanted]) -> int:
        """What stands by is called back, one for each who waits; how many of them that will serve."""
        idle = [(key, held) for key, held in self._held.items() if not held.call_id and held.run]
        coming = sum(held.recalled for _, held in idle)
        for key, held in idle:
            if coming < len(waiting) and not held.recalled and held.endpoint in waiting[coming].endpoints:
                held.recalled = True
                coming += 1
                self.told.append((held.run or "", SessionRecalled(key)))
        return coming

    def _has_room(self, endpoint: str) -> bool:
        limit = self._limits.get(endpoint, 0)
        return not limit or self.open(endpoint) < limit
