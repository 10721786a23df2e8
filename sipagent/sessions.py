"""A worker's end of the count of sessions: ask before one is opened, say when it is closed.

The control process counts for the whole node (`control.quota`). While it is away each worker keeps to its even share
of the quota, and tells what it has open when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping

from sipagent.orders import (
    SessionAsked,
    SessionGranted,
    SessionHeld,
    SessionLeft,
    SessionPlace,
    SessionRecalled,
    SessionTold,
    SessionWanted,
)

ANSWER_WITHIN_S = 0.3
"""The control process answers within a millisecond, or is away."""
RECALLED_WITHIN_S = 1.5
"""A session that stands by is closed for somebody: a closing handshake, and what the socket waits for it at most."""


class Sessions:
    """One worker's."""

    def __init__(self, ask: Callable[[SessionAsked], None] = lambda _asked: None, workers: int = 1) -> None:
        """`ask` brings what is asked to the control process; `workers` share the quota while it is away."""
        self.ask = ask
        self._workers = max(workers, 1)
        self._slots: dict[str, Slot] = {}
        self.recalled: Callable[[str], None] = lambda _key: None
        """Who has sessions that stand by is told which of them is to be closed."""

    def slot(self, call_id: str, quotas: Mapping[str, int], *, going_on: bool = False) -> Slot:
        """For one conversation of this call; `going_on`: it goes before those who wait for their first word."""
        return Slot(self, call_id, quotas, going_on=going_on)

    def told(self, told: SessionTold) -> None:
        """The control process's word."""
        slot = self._slots.get(told.key)
        if isinstance(told, SessionRecalled):
            self.recalled(told.key)
        elif slot is not None:
            slot.told(told)

    def linked(self) -> tuple[SessionHeld, ...]:
        """The control process is there, or is there again: what is open now; who waits asks once more."""
        for slot in self._slots.values():
            slot.ask_again()
        return tuple(
            SessionHeld(slot.key, slot.call_id, slot.endpoint) for slot in self._slots.values() if slot.endpoint
        )

    def enter(self, slot: Slot) -> None:
        """It wants to be told."""
        self._slots[slot.key] = slot

    def leave(self, slot: Slot) -> None:
        """It does not any more."""
        if self._slots.pop(slot.key, None) is not None:
            self.ask(SessionLeft(slot.key))

    def share_has_room(self, endpoint: str, quota: int) -> bool:
        """While nobody counts for all."""
        mine = sum(slot.endpoint == endpoint for slot in self._slots.values())
        return mine < max(quota // self._workers, 1)


class Slot:
    """The right of one conversation to a session, at one endpoint at a time. Endpoints without a quota are free."""

    def __init__(self, sessions: Sessions, call_id: str, quotas: Mapping[str, int], *, going_on: bool) -> None:
        self.key = uuid.uuid4().hex
        self.call_id, self.endpoint = call_id, ""
        self.place = 0
        """In line; 0: it does not wait."""
        self._sessions, self._quotas, self._going_on = sessions, quotas, going_on
        self._wanted: tuple[str, ...] = ()
        self._soon = False
        self._changed = asyncio.Event()

    async def take(self, endpoint: str) -> bool:
        """A session may be opened at this endpoint; False where all are taken."""
        quota = self._quotas.get(endpoint, 0)
        if not quota:
            self.release()
            return True
        if self.endpoint == endpoint:
            return True
        self._ask((endpoint,))
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._changed.wait()
            if self._soon:
                await self._until_recalled()
        except TimeoutError:
            if self._sessions.share_has_room(endpoint, quota):
                self.endpoint = endpoint
        except BaseException:  # who hangs up meanwhile wants none
            self.release()
            raise
        if self.endpoint:
            self._going_on = True
            return True
        self.release()
        return False

    async def _until_recalled(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECALLED_WITHIN_S):
                while not self.endpoint:
                    self._changed.clear()
                    await self._changed.wait()

    async def turn(self, on_place: Callable[[int], None]) -> None:
        """Wait in line; returns when a session may be opened. `on_place` is told the place, and each change of it."""
        if self.endpoint:
            return
        self._ask(tuple(self._quotas))
        try:
            while not self.endpoint:
                await self._changed.wait()
                self._changed.clear()
                if self.place:
                    on_place(self.place)
        except BaseException:  # who hangs up or loses patience leaves the line
            self.release()
            raise
        self._going_on = True

    def pass_to(self, call_id: str) -> None:
        """The session stood by, and is this call's from now on."""
        self.call_id, self._going_on = call_id, True
        if self.endpoint:
            self._sessions.ask(SessionWanted(self.key, call_id, (self.endpoint,), self._going_on))

    def told(self, told: SessionGranted | SessionPlace) -> None:
        """The control process's word."""
        if isinstance(told, SessionGranted):
            self.endpoint, self.place = told.endpoint, 0
        elif not self.endpoint:
            self.place, self._soon = told.place, told.soon
        self._changed.set()

    def release(self) -> None:
        """The session is closed, or not wanted any more; again is no error."""
        self.endpoint, self.place = "", 0
        self._sessions.leave(self)

    def ask_again(self) -> None:
        """Somebody has begun to count who does not know that it waits."""
        if not self.endpoint:
            self._sessions.ask(SessionWanted(self.key, self.call_id, self._wanted, self._going_on))

    def _ask(self, endpoints: tuple[str, ...]) -> None:
        self.endpoint, self.place, self._wanted, self._soon = "", 0, endpoints, False
        self._changed.clear()
        self._sessions.enter(self)
        self.ask_again()
