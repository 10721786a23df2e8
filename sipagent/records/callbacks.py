"""Call-backs that wait for their time. Who dials takes those that are due; two that ask at once never get the same."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from sipagent.records.store import Store
from sipagent.records.tables import Callback

WAITING, DIALLING, DONE, FAILED, EXPIRED, CANCELLED = "waiting", "dialling", "done", "failed", "expired", "cancelled"


class Callbacks:
    """The queue. Times are Unix seconds; every method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(
        self,
        *,
        number: str,
        agent: str,
        trunk: str,
        not_before: float,
        not_after: float,
        now: float,
        variables: Mapping[str, Any] | None = None,
        reason: str = "",
        call_id: str = "",
        max_attempts: int = 3,
        idempotency_key: str | None = None,
        callback_id: str = "",
    ) -> Callback:
        """One more. With an `idempotency_key`, or an id, that is known already: that one, as it is."""
        row = Callback(
            id=callback_id or uuid.uuid4().hex, number=number, agent=agent, trunk=trunk,
            variables=dict(variables or {}), reason=reason, call_id=call_id, not_before=not_before,
            not_after=not_after, max_attempts=max_attempts, next_at=not_before,
            idempotency_key=idempotency_key, created_at=now,
        )  # fmt: skip
        try:
            async with self._store.writing() as session:
                if there := await _known(session, row):
                    return there
                session.add(row)
        except IntegrityError:  # somebody else was quicker by a moment
            async with self._store.reading() as session:
                if there := await _known(session, row):
                    return there
            raise
        return row

    async def due(self, now: float, limit: int) -> list[Callback]:
        """Those whose time has come, at most `limit`, the longest due first. They are `dialling` from here on.

        What has waited beyond its `not_after` expires.
        """
        async with self._store.writing() as session:
            late = update(Callback).where(Callback.state == WAITING, Callback.not_after < now).values(state=EXPIRED)
            await session.execute(late)
            query = (
                select(Callback)
                .where(Callback.state == WAITING, Callback.next_at <= now)
                .order_by(Callback.next_at, Callback.id)
                .limit(limit)
                .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writer is alone anyway
            )
            rows = list((await session.scalars(query)).all())
            for row in rows:
                row.state, row.attempts, row.node = DIALLING, row.attempts + 1, self._store.node
            return rows

    async def done(self, callback_id: str, disposition: str) -> bool:
        """The caller has been reached. False: it is not being dialled."""
        return await self._move(callback_id, DONE, disposition)

    async def fail(self, callback_id: str, disposition: str) -> bool:
        """Nobody will try again. False: it is not being dialled."""
        return await self._move(callback_id, FAILED, disposition)

    async def retry(self, callback_id: str, disposition: str, next_at: float) -> str:
        """Not reached: waiting again until `next_at`, or failed after the last attempt, or expired. The new state."""
        async with self._store.writing() as session:
            row = await session.get(Callback, callback_id, with_for_update=True)
            if row is None or row.state != DIALLING:
                return row.state if row else ""
            row.last_disposition = disposition
            if row.attempts >= row.max_attempts:
                row.state = FAILED
            elif next_at > row.not_after:
                row.state = EXPIRED
            else:
                row.state, row.next_at = WAITING, next_at
            return row.state

    async def cancel(self, callback_id: str) -> bool:
        """Take one out that waits. False: there is none, or it is being dialled, or over."""
        async with self._store.writing() as session:
            row = await session.get(Callback, callback_id, with_for_update=True)
            if row is None or row.state != WAITING:
                return False
            row.state = CANCELLED
            return True

    async def dialling(self) -> list[Callback]:
        """At the start of a control process: what this node's last one was dialling, or talking with."""
        async with self._store.reading() as session:
            query = select(Callback).where(Callback.state == DIALLING, Callback.node == self._store.node)
            return [*(await session.scalars(query)).all()]

    async def put_back(self, callback_id: str, attempt: int) -> bool:
        """This attempt was never begun: it counts as none, and is made when it can be. False: it is not that far."""
        async with self._store.writing() as session:
            row = await session.get(Callback, callback_id, with_for_update=True)
            if row is None or row.state != DIALLING or row.attempts != attempt:
                return False
            row.state, row.attempts = WAITING, attempt - 1
            return True

    async def take_back(self, callback_id: str, attempt: int) -> bool:
        """This attempt goes on, which was given up too early. False: another one has begun, or it is over."""
        async with self._store.writing() as session:
            row = await session.get(Callback, callback_id, with_for_update=True)
            if row is None or row.attempts != attempt or row.state not in {WAITING, FAILED, EXPIRED}:
                return False
            row.state = DIALLING
            return True

    async def release(self, begun: Collection[Callback], now: float) -> int:
        """Nobody makes these attempts any more: they wait again; how many."""
        attempts = {row.id: row.attempts for row in begun}
        async with self._store.writing() as session:
            query = select(Callback).where(Callback.state == DIALLING, Callback.id.in_(attempts)).with_for_update()
            # Not one that has ended meanwhile and is being tried again.
            rows = [row for row in await session.scalars(query) if row.attempts == attempts[row.id]]
            for row in rows:
                row.state, row.next_at = WAITING, now
            return len(rows)

    async def get(self, callback_id: str) -> Callback | None:
        """One of them."""
        async with self._store.reading() as session:
            return await session.get(Callback, callback_id)

    async def list(self, state: str = "", limit: int = 100) -> list[Callback]:
        """The newest, of one state or of all."""
        query = select(Callback).order_by(Callback.created_at.desc(), Callback.id).limit(limit)
        if state:
            query = query.where(Callback.state == state)
        async with self._store.reading() as session:
            return [*(await session.scalars(query)).all()]

    async def _move(self, callback_id: str, state: str, disposition: str) -> bool:
        async with self._store.writing() as session:
            row = await session.get(Callback, callback_id, with_for_update=True)
            if row is None or row.state != DIALLING:
                return False
            row.state, row.last_disposition = state, disposition
            return True


async def _known(session: AsyncSession, row: Callback) -> Callback | None:
    if there := await session.get(Callback, row.id):
        return there
    if row.idempotency_key is None:
        return None
    query = select(Callback).where(Callback.idempotency_key == row.idempotency_key)
    return (await session.scalars(query)).one_or_none()
