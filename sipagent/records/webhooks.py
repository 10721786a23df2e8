"""Who wants to know is told: signed, again and again, and what nobody takes is kept.

A delivery is written in the transaction that ends its call, body and all, so that none is forgotten and each attempt
says the same. It is signed as Standard Webhooks has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`:
HMAC-SHA256 over all three), so receivers can check it with a library they have. The time of the next attempt is in the
database, not in a loop of ours: a restart changes nothing, and two nodes on one database do not tell things twice.
Each receiver has a task of its own; a slow one holds up nobody else.

Answers are not trusted: no redirect is followed, and little is read.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec
import structlog
from sqlalchemy import event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from sipagent import __version__, model
from sipagent.config.webhooks import Webhook, key_of
from sipagent.records import database
from sipagent.records.fold import Rows
from sipagent.records.store import Store, as_dict, iso, whole_call
from sipagent.records.tables import Base, Callback, Delivery, Message

log = structlog.get_logger()

VERSION = 1
"""Of the body; fields may be added, none changes its meaning."""
DELAYS_S = (5, 30, 120, 600, 1800, 7200, 21600)
"""Between attempts, a fifth more or less by chance; the last repeats."""
LONGEST_WAIT_S = 6 * 3600.0
"""However long a receiver asks us to wait."""
AT_ONCE = 4
"""Of one receiver."""
LOOK_EVERY_S = 5.0
LEASE_S = 120.0
"""Who has taken a delivery and died is not waited for longer than this."""
READ_BYTES = 300
GONE = 410
PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"


def signature(secret: str, message_id: str, at: int, body: bytes) -> str:
    """The header `webhook-signature`: what only somebody who knows the secret can write."""
    signed = f"{message_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, hashlib.sha256)).decode()


def body_of(kind: str, at: float, data: dict[str, Any]) -> str:
    """What a receiver reads; the same data is the same text."""
    message = {"version": VERSION, "type": kind, "timestamp": iso(at), "data": data}
    return msgspec.json.encode(message, order="sorted").decode()


class Webhooks:
    """The deliveries, and the tasks that make them."""

    def __init__(self, store: Store, receivers: Mapping[str, Webhook]) -> None:
        self.counts: Counter[str] = Counter()
        """delivered, failed (attempts), dead: for the metrics."""
        self._store, self._receivers = store, receivers
        self._wake = {name: asyncio.Event() for name in receivers}

    # --- written with the records

    async def react(self, session: AsyncSession, rows: Rows, now: float) -> None:
        """Within the transaction of a batch: what of it somebody wants to know."""
        if not self._receivers:
            return
        for call in rows.ended:
            if self._wanted("call.ended") and not (call.destination or "").startswith(model.PROBE):
                whole = await whole_call(session, call.id, events=False)
                self._add(session, "call.ended", call.id, call.end or now, whole or {}, now)
        for row in rows.new:
            if isinstance(row, Message):
                self._add(session, "message.taken", row.call_id, row.at, _data(row), now)
            elif isinstance(row, Callback):
                self._add(session, "callback.requested", row.call_id, row.created_at, _data(row), now)
        for recording in rows.recorded:
            self._add(session, "recording.ended", recording.call_id, recording.ended_at or now, _data(recording), now)

    def _wanted(self, kind: str) -> list[str]:
        return [name for name, receiver in self._receivers.items() if kind in receiver.events]

    def _add(self, session: AsyncSession, kind: str, call_id: str, at: float, data: dict[str, Any], now: float) -> None:
        for name in self._wanted(kind):
            session.add(
                Delivery(
                    id=f"msg_{uuid.uuid4().hex}", webhook=name, type=kind, call_id=call_id,
                    body=body_of(kind, at, data), created_at=now, next_at=now,
                )
            )  # fmt: skip
            # Not before it is there to be seen.
            event.listen(session.sync_session, "after_commit", lambda _session, name=name: self._wake[name].set())

    # --- for the operator

    async def deliveries(self, state: str = "", webhook: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """The newest deliveries; their bodies are the records'."""
        query = select(Delivery).order_by(Delivery.created_at.desc(), Delivery.id).limit(limit)
        if state:
            query = query.where(Delivery.state == state)
        if webhook:
            query = query.where(Delivery.webhook == webhook)
        async with self._store.reading() as session:
            return [as_dict(row, frozenset({"body"})) for row in await session.scalars(query)]

    async def by_state(self) -> dict[str, int]:
        """How many there are: pending, delivered, dead."""
        async with self._store.reading() as session:
            rows = await session.execute(select(Delivery.state, func.count()).group_by(Delivery.state))
            return {row[0]: row[1] for row in rows}

    async def resend(self, delivery_id: str, now: float) -> bool:
        """Once more from the beginning, delivered or dead. False: there is none, or its receiver is gone."""
        async with self._store.writing() as session:
            row = await session.get(Delivery, delivery_id, with_for_update=True)
            if row is None or row.webhook not in self._receivers:
                return False
            row.state, row.attempts, row.next_at = PENDING, 0, now
        self._wake[row.webhook].set()
        return True

    # --- delivering

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver for the length of the block; an attempt that is under way at its end is made again later."""
        if not self._receivers:
            yield
            return
        # No proxy, no cookies, nothing remembered from one receiver for another.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            tasks = [asyncio.create_task(self._serve(name, http), name=f"webhook-{name}") for name in self._receivers]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _serve(self, name: str, http: aiohttp.ClientSession) -> None:
        wake = self._wake[name]
        while True:
            wake.clear()
            try:
                while due := await self._due(name, time.time()):
                    await asyncio.gather(*(self._attempt(row, http) for row in due))
            except (*database.AWAY, SQLAlchemyError) as error:
                log.warning("webhooks_wait_for_the_database", webhook=name, error=str(error).partition("\n")[0])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await wake.wait()

    async def _due(self, name: str, now: float) -> list[Delivery]:
        """Those whose time has come, taken for as long as an attempt may last."""
        async with self._store.writing() as session:
            query = (
                select(Delivery)
                .where(Delivery.webhook == name, Delivery.state == PENDING, Delivery.next_at <= now)
                .order_by(Delivery.next_at, Delivery.id)
                .limit(AT_ONCE)
                .with_for_update(skip_locked=True)
            )
            rows = [*(await session.scalars(query)).all()]
            for row in rows:
                row.next_at = now + LEASE_S
            return rows

    async def _attempt(self, row: Delivery, http: aiohttp.ClientSession) -> None:
        receiver = self._receivers[row.webhook]
        status, error, asked_s = None, "", 0.0
        body, at = row.body.encode(), int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"sipagent/{__version__}",
            "webhook-id": row.id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(receiver.secret.get_secret_value(), row.id, at, body),
        }
        timeout = aiohttp.ClientTimeout(total=receiver.timeout_s)
        try:
            async with http.post(
                receiver.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                status = answer.status
                if not 200 <= status < 300:
                    error = (await answer.content.read(READ_BYTES)).decode(errors="replace")
                    asked_s = _seconds(answer.headers.get("retry-after", ""))
        except TimeoutError:
            error = f"no answer within {receiver.timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            error = f"{type(problem).__name__}: {problem}"
        await self._settle(row.id, status, error.replace("\0", "")[:READ_BYTES], asked_s, receiver)

    async def _settle(
        self, delivery_id: str, status: int | None, error: str, asked_s: float, receiver: Webhook
    ) -> None:
        now = time.time()
        async with self._store.writing() as session:
            row = await session.get(Delivery, delivery_id, with_for_update=True)
            if row is None:
                return  # swept away meanwhile
            row.attempts += 1
            row.last_status, row.last_error = status, error
            if status is not None and 200 <= status < 300:
                row.state, row.delivered_at = DELIVERED, now
            elif status == GONE or row.attempts >= receiver.max_attempts:
                row.state = DEAD
                log.error("webhook_dead", webhook=row.webhook, id=row.id, status=status, error=error)
            else:
                delay = DELAYS_S[min(row.attempts, len(DELAYS_S)) - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                row.next_at = now + max(delay, min(asked_s, LONGEST_WAIT_S))
            self.counts["failed" if row.state == PENDING else row.state] += 1


def _data(row: Base) -> dict[str, Any]:
    return as_dict(row, frozenset())


def _seconds(retry_after: str) -> float:
    """The header's seconds; a date in it is not worth the trouble, our own delays do."""
    return float(retry_after) if retry_after.isdecimal() and len(retry_after) < 9 else 0.0
