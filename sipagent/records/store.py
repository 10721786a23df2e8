"""The database of the records: batches of events in, calls out. SQLite or PostgreSQL (`database`).

A batch is one transaction, with the numbers of the events it holds: what is written once is known to be, also after
a crash. Everything read is plain dictionaries, ready for JSON, so that no session outlives its answer.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Select, and_, insert, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from sipagent import model
from sipagent.errors import SipAgentError
from sipagent.records import fold
from sipagent.records.fold import Kept, Rows
from sipagent.records.redaction import Redaction
from sipagent.records.tables import (
    Base,
    Call,
    Callback,
    Event,
    Leg,
    Message,
    Moment,
    Recording,
    Source,
    ToolCall,
    Transfer,
    Turn,
    Utterance,
)

PAGE_MOST = 500
EXPORT_PAGE = 200
"""Rows that an export holds at a time: some 2 ms of the loop."""
SOURCES_KEPT_S = 30 * 86400.0
"""A worker's process that has not been heard of for so long is gone, and nothing of it comes again."""
FORGOTTEN_S = 86400.0
"""No call lasts so long: its node is gone, or has lost its run folder."""
HIDDEN = frozenset({"run", "last_at"})
"""Columns that are ours alone."""
_CHILDREN: Mapping[str, tuple[type[Base], Any]] = {
    "turns": (Turn, Turn.number),
    "transcript": (Utterance, Utterance.at),
    "tools": (ToolCall, ToolCall.number),
    "transfers": (Transfer, Transfer.number),
    "legs": (Leg, Leg.at),
    "recordings": (Recording, Recording.at),
    "messages": (Message, Message.id),
}


Reaction = Callable[[AsyncSession, Rows, float], Awaitable[None]]
"""What else happens when a batch is written, all of it or nothing: gets the session, the rows, the time."""


class BadCursor(SipAgentError):
    """A page was asked for with something that is no cursor of ours."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls; what is empty does not count. `since` and `until` are Unix seconds of the start."""

    since: float | None = None
    until: float | None = None
    state: str = ""
    direction: str = ""
    trunk: str = ""
    route: str = ""
    agent: str = ""
    result: str = ""
    reason: str = ""
    number: str = ""
    """Exactly, of either side."""

    def apply(self, query: Select[Any]) -> Select[Any]:
        """The query, narrowed."""
        if self.since is not None:
            query = query.where(Call.start >= self.since)
        if self.until is not None:
            query = query.where(Call.start < self.until)
        for name in ("state", "direction", "trunk", "route", "agent", "result", "reason"):
            if value := getattr(self, name):
                query = query.where(getattr(Call, name) == as_kept(value))
        if number := as_kept(self.number):
            query = query.where(or_(Call.src == number, Call.dst == number))
        return query


@dataclass(frozen=True, slots=True)
class Page:
    """Calls, newest first; `next` is the cursor of the page behind it, empty on the last."""

    calls: list[dict[str, Any]]
    next: str


class Store:
    """All access to the records. Methods raise what SQLAlchemy raises when the database is away."""

    def __init__(self, engine: AsyncEngine, redaction: Redaction | None = None) -> None:
        self.engine = engine
        self._redaction = redaction or Redaction()
        self._reader = async_sessionmaker(engine, expire_on_commit=False)
        self._writer = async_sessionmaker(engine.execution_options(writes=True), expire_on_commit=False)
        self.node = ""
        """Which node we are, where several share a database."""
        self.reactions: Sequence[Reaction] = ()
        """Called within the transaction of every batch."""

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for looking."""
        async with self._reader() as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction that takes the writer's lock at once; committed at the end of the block."""
        async with self._writer.begin() as session:
            yield session

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    # --- events in

    async def last_numbers(self) -> dict[str, int]:
        """How far each run of a worker's process has been written."""
        async with self.reading() as session:
            return {source.run: source.number for source in await _all(session, select(Source))}

    async def apply(self, batch: Sequence[Kept], now: float) -> list[Kept]:
        """Write events, in order, in one transaction; those that were written before are left out. The new ones."""
        async with self.writing() as session:
            sources = {s.run: s for s in await _all(session, select(Source).where(Source.run.in_(_runs(batch))))}
            fresh = []
            for kept in batch:
                source = sources.get(kept.run)
                if source is None:
                    source = sources[kept.run] = Source(run=kept.run, number=0, at=now, node=self.node)
                    session.add(source)
                if kept.number > source.number:
                    source.number, source.at = kept.number, now
                    fresh.append(kept)
            rows = await _rows(session, fresh)
            for kept in fresh:
                rows.take(kept, self._redaction.for_history(kept.event))
            session.add_all(rows.new)
            if rows.events:
                await session.flush()  # the calls they belong to
                await session.execute(insert(Event), rows.events)
            await self._react(session, rows, now)
        return fresh

    async def _react(self, session: AsyncSession, rows: Rows, now: float) -> None:
        for reaction in self.reactions:
            await session.flush()
            await reaction(session, rows, now)

    async def lose(self, runs: Collection[str], quiet_since: float, now: float) -> int:
        """End the calls of this node's other runs that have said nothing since; how many. Their processes are gone.

        And those of any node that have said nothing for a day.
        """
        async with self.writing() as session:
            ours = Call.run.in_(select(Source.run).where(Source.node == self.node))
            silent = and_(ours, Call.run.not_in(runs), Call.last_at < quiet_since)
            query = select(Call).where(Call.state == "live", or_(silent, Call.last_at < now - FORGOTTEN_S))
            calls = await _all(session, query)
            for call in calls:
                fold.lost(call)
            if calls:
                await self._react(session, Rows(ended=calls), now)
            return len(calls)

    # --- calls out

    async def page(self, wanted: Filter, limit: int = 50, cursor: str = "") -> Page:
        """Calls newest first.

        Raises:
            BadCursor: it is none of ours.
        """
        async with self.reading() as session:
            rows = await _all(session, _newest(wanted, cursor).limit(limit + 1))
        more = len(rows) > limit
        calls = [as_dict(call, HIDDEN) for call in rows[:limit]]
        return Page(calls, _cursor(rows[limit - 1]) if more else "")

    async def export(self, wanted: Filter) -> AsyncIterator[dict[str, Any]]:
        """All calls that fit, newest first, a few in memory at a time and no transaction held between them."""
        cursor = ""
        while True:
            page = await self.page(wanted, EXPORT_PAGE, cursor)
            for call in page.calls:
                yield call
            if not (cursor := page.next):
                return

    async def call(self, call_id: str, *, events: bool = True) -> dict[str, Any] | None:
        """Everything of one call; None: nobody knows it."""
        async with self.reading() as session:
            return await whole_call(session, as_kept(call_id), events=events)


async def whole_call(session: AsyncSession, call_id: str, *, events: bool) -> dict[str, Any] | None:
    """What a list says of a call, and its `history`: turns, transcript, tools, transfers, legs, recordings, events."""
    call = await session.get(Call, call_id)
    if call is None:
        return None
    history: dict[str, Any] = {}
    for name, (table, order) in _CHILDREN.items():
        column: Any = table.call_id  # type: ignore[attr-defined]
        found = await _all(session, select(table).where(column == call_id).order_by(order))
        history[name] = [as_dict(row, frozenset({"call_id"})) for row in found]
    if events:
        found_events = await _all(session, select(Event).where(Event.call_id == call_id).order_by(Event.id))
        history["events"] = [event.data for event in found_events]
    return as_dict(call, HIDDEN) | {"history": history}


def as_dict(row: Base, without: frozenset[str]) -> dict[str, Any]:
    """A row's columns by name; times as ISO 8601 in UTC."""
    out = {}
    for column in row.__table__.columns:
        if column.key not in without:
            value = getattr(row, column.key)
            out[column.key] = iso(value) if column.key in _TIMES and value is not None else value
    return out


_TIMES = frozenset(
    column.key for table in Base.metadata.tables.values() for column in table.columns if isinstance(column.type, Moment)
)


def as_kept(text: str) -> str:
    """PostgreSQL has no NUL, so the recorder keeps another sign for it; and who asks for one may ask."""
    return text.replace("\0", "\ufffd")


def iso(at: float) -> str:
    """A moment as the API writes it: 2026-11-26T18:30:18.123456Z."""
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _runs(batch: Iterable[Kept]) -> set[str]:
    return {kept.run for kept in batch}


async def _all(session: AsyncSession, query: Select[Any]) -> list[Any]:
    return list((await session.scalars(query)).all())


async def _rows(session: AsyncSession, batch: Sequence[Kept]) -> Rows:
    """The rows that these events may change; nothing is asked for that no event needs."""
    events = [kept.event for kept in batch]
    calls = {event.call_id for event in events}
    rows = Rows(calls={call.id: call for call in await _all(session, select(Call).where(Call.id.in_(calls)))})

    def of(*kinds: type[msgspec.Struct]) -> list[Any]:
        return [event for event in events if isinstance(event, kinds)]

    if cut := of(model.BargeIn):
        keys = {(event.call_id, event.item_id) for event in cut}
        query: Select[Any] = select(Turn).where(tuple_(Turn.call_id, Turn.item_id).in_(keys)).order_by(Turn.number)
        rows.turns = {(turn.call_id, turn.item_id): turn for turn in await _all(session, query)}
    if said := of(model.Transcript):
        keys = {(event.call_id, event.item_id) for event in said}
        query = select(Utterance).where(tuple_(Utterance.call_id, Utterance.item_id).in_(keys))
        rows.utterances = {(row.call_id, row.item_id): row for row in await _all(session, query)}
    if returned := of(model.ToolReturned):
        ids = {event.call_id for event in returned}
        query = select(ToolCall).where(ToolCall.call_id.in_(ids), ToolCall.returned_at.is_(None))
        rows.tools = await _all(session, query.order_by(ToolCall.call_id, ToolCall.number))
    if ended := of(model.TransferEnded):
        ids = {event.call_id for event in ended}
        query = select(Transfer).where(Transfer.call_id.in_(ids), Transfer.ended_at.is_(None))
        rows.transfers = await _all(session, query.order_by(Transfer.call_id, Transfer.number))
    if legs := of(model.LegDialled, model.LegEnded):
        ids = {event.call_id for event in legs}
        found = await _all(session, select(Leg).where(Leg.call_id.in_(ids)))
        rows.legs = {(leg.call_id, leg.leg): leg for leg in found}
    kinds = (model.RecordingStarted, model.RecordingPaused, model.RecordingResumed, model.RecordingEnded)
    if recorded := of(*kinds):
        ids = {event.recording_id for event in recorded}
        found = await _all(session, select(Recording).where(Recording.id.in_(ids)))
        rows.recordings = {recording.id: recording for recording in found}
    if wanted := of(model.CallbackRequested):
        ids = {event.callback_id for event in wanted}
        rows.callbacks = set(await _all(session, select(Callback.id).where(Callback.id.in_(ids))))
    return rows


def _newest(wanted: Filter, cursor: str) -> Select[Any]:
    query = wanted.apply(select(Call)).order_by(Call.start.desc(), Call.id.desc())
    if cursor:
        query = query.where(tuple_(Call.start, Call.id) < tuple_(*_place(cursor)))
    return query


def _cursor(call: Call) -> str:
    """Where a page ended. Opaque: whoever pages need not know, and nothing else may be built on it."""
    return base64.urlsafe_b64encode(f"{call.start!r} {call.id}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[Any, Any]:
    try:
        start, _, call_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        return literal(float(start), Moment), literal(call_id)
    except (ValueError, binascii.Error, UnicodeDecodeError):
        raise BadCursor("cursor: it is not one that this API gave") from None
