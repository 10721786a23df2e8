"""What has been kept for long enough goes: transcripts first, then events, then the calls themselves.

A little at a time, each bit a transaction of its own, so that the writer never waits for long. Webhooks hold the whole
call, so they go with its words, delivered or dead. One that is still to be delivered stays as long as somebody tries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Update, delete, select, update

from sipagent.config import RecordsSettings
from sipagent.records.store import SOURCES_KEPT_S, Store
from sipagent.records.tables import Call, Callback, Delivery, Event, Source, ToolCall, Transfer, Utterance

AT_ONCE = 500
"""Rows a transaction: some 10 ms."""
DAY_S = 86400.0
UNTRIED_S = DAY_S
"""What waits was tried within hours (webhooks.LONGEST_WAIT_S); what was not has no receiver in the configuration."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows went."""

    calls: int
    transcripts: int
    events: int


async def sweep(store: Store, settings: RecordsSettings, now: float) -> Removed:
    """Remove what is older than the operator wants it; `now` in Unix seconds."""
    calls_until = now - settings.keep_days * DAY_S
    speech_until = now - settings.keep_transcripts_days * DAY_S
    events_until = now - settings.keep_events_days * DAY_S
    old_calls = select(Call.id).where(Call.start < calls_until, Call.state != "live")
    calls = await _all(store, lambda ids: delete(Call).where(Call.id.in_(ids)), old_calls)
    old_events = select(Event.id).where(Event.at < events_until)
    events = await _all(store, lambda ids: delete(Event).where(Event.id.in_(ids)), old_events)
    # Events hold the words as well.
    old_words = select(Event.id).where(
        Event.at < speech_until, Event.type.in_(("transcript", "tool_called", "tool_returned", "transfer_started"))
    )
    await _all(store, lambda ids: delete(Event).where(Event.id.in_(ids)), old_words)
    transcripts = await _words(store, speech_until)
    told = (Delivery.state != "pending") | (Delivery.next_at < now - UNTRIED_S)
    old_news = select(Delivery.id).where(Delivery.created_at < max(calls_until, speech_until), told)
    await _all(store, lambda ids: delete(Delivery).where(Delivery.id.in_(ids)), old_news)
    async with store.writing() as session:
        await session.execute(delete(Source).where(Source.at < now - SOURCES_KEPT_S))
        over = Callback.state.not_in(("waiting", "dialling"))
        await session.execute(delete(Callback).where(Callback.not_after < calls_until, over))
    return Removed(calls, transcripts, events)


async def _words(store: Store, until: float) -> int:
    said = 0
    while True:
        async with store.writing() as session:
            keys = select(Utterance).where(Utterance.at < until).limit(AT_ONCE)
            rows = list((await session.scalars(keys)).all())
            for row in rows:
                await session.delete(row)
            said += len(rows)
        if len(rows) < AT_ONCE:
            break
    async with store.writing() as session:
        told = (ToolCall.arguments != "") | (ToolCall.result != "")
        await session.execute(update(ToolCall).where(ToolCall.at < until, told).values(arguments="", result=""))
        await session.execute(update(Transfer).where(Transfer.at < until, Transfer.summary != "").values(summary=""))
    return said


async def _all(store: Store, statement: Any, query: Any) -> int:
    """Run `statement(ids)` over everything the query finds."""
    done = 0
    while True:
        async with store.writing() as session:
            ids = list((await session.scalars(query.limit(AT_ONCE))).all())
            if not ids:
                return done
            change: Delete | Update = statement(ids)
            await session.execute(change)
            done += len(ids)
