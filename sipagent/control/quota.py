"""Who may have a session with the model, and who waits for one: first come, first served (core: no I/O, no clock).

A provider gives a team so many sessions at once (xAI: about ten), whichever worker opens them. So they are counted
here, for the whole node: by the key that each conversation has, and under the worker that holds it. What a worker held
when it died is kept for its calls, since whoever adopts them needs it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sipagent.orders import SessionGranted, SessionHeld, SessionPlace, SessionWanted

Told = tuple[int, SessionGranted | SessionPlace]
"""To which worker, and what."""


@dataclass(slots=True)
class _Held:
    worker: int
    """0: it has died, and its call is not adopted yet."""
    call_id: str
    endpoint: str


@dataclass(slots=True)
class _Waiting:
    worker: int
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

    def follow(self, limits: Mapping[str, int]) -> None:
        """A reload: who has a session keeps it."""
        self._limits = dict(limits)
        self._serve()

    def want(self, worker: int, wanted: SessionWanted) -> None:
        """A session at the first of these endpoints that has room, or a place in line."""
        held = self._held.get(wanted.key)
        if held and held.endpoint in wanted.endpoints:  # asked again, since somebody else counts now
            self.told.append((worker, SessionGranted(wanted.key, held.endpoint)))
            return
        self._forget(wanted.key)
        self._forget_orphans(wanted.call_id)  # what a dead worker held for this call is this session's
        waiting = _Waiting(worker, wanted)
        if wanted.first:
            self._line.appendleft(waiting)
        else:
            self._line.append(waiting)
        self._serve()

    def left(self, key: str) -> None:
        """A session is closed, or nobody waits for it any more."""
        self._forget(key)
        self._serve()

    def here(self, worker: int, held: Iterable[SessionHeld]) -> None:
        """A worker is there, with these sessions: also those that it opened while nobody counted."""
        for one in held:
            self._held[one.key] = _Held(worker, one.call_id, one.endpoint)

    def gone(self, worker: int, orphans: Iterable[str]) -> None:
        """A worker has died. The sessions of these calls are kept for whoever adopts them."""
        kept = set(orphans)
        for key, held in list(self._held.items()):
            if held.worker == worker:
                held.worker = 0
                if held.call_id not in kept:
                    del self._held[key]
        self._line = deque(one for one in self._line if one.worker != worker)
        self._serve()

    def lost(self, call_id: str) -> None:
        """Nobody has adopted this call."""
        self._forget_orphans(call_id)
        self._serve()

    def _forget_orphans(self, call_id: str) -> None:
        for key in [key for key, held in self._held.items() if not held.worker and held.call_id == call_id]:
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
            self._held[one.wanted.key] = _Held(one.worker, one.wanted.call_id, endpoint)
            self.told.append((one.worker, SessionGranted(one.wanted.key, endpoint)))
        self._line = left
        for place, one in enumerate(left, 1):
            if one.place != place:
                one.place = place
                self.told.append((one.worker, SessionPlace(one.wanted.key, place)))

    def _has_room(self, endpoint: str) -> bool:
        limit = self._limits.get(endpoint, 0)
        return not limit or self.open(endpoint) < limit
