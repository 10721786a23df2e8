"""Call-backs and messages, and what goes when it has been kept for long enough; on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from sipagent import model
from sipagent.config import RecordsSettings
from sipagent.records import retention
from sipagent.records.callbacks import Callbacks
from sipagent.records.messages import Messages
from sipagent.records.store import Filter, Store
from sipagent.records.tables import Base, Call, Callback, Delivery, Event, Source, ToolCall, Turn, Utterance
from tests.records.talk import call, kept

DAY = 86400.0


async def add(queue: Callbacks, **changes: Any) -> Callback:
    values: dict[str, Any] = {"number": "+442079460123", "agent": "a", "trunk": "t", "not_before": 100.0,
                              "not_after": 1000.0, "now": 50.0}  # fmt: skip
    return await queue.add(**(values | changes))


class TestCallbacks:
    async def test_one_is_dialled_when_its_time_has_come_and_by_one_only(self, store: Store) -> None:
        queue = Callbacks(store)
        added = await add(queue, variables={"order": "4711"}, reason="wants a bike", call_id="c1")
        assert await queue.due(99.0, 10) == []
        taken = await asyncio.gather(*(queue.due(100.0, 10) for _ in range(5)))
        [row] = [row for rows in taken for row in rows]
        assert (row.id, row.state, row.attempts, row.variables) == (added.id, "dialling", 1, {"order": "4711"})
        assert await queue.done(row.id, "human")
        assert not await queue.done(row.id, "human")
        [over] = await queue.list(state="done")
        assert over.last_disposition == "human"

    async def test_the_longest_due_goes_first_and_no_more_than_asked_for(self, store: Store) -> None:
        queue = Callbacks(store)
        for number in (3, 1, 2):
            await add(queue, callback_id=f"cb{number}", not_before=100.0 + number)
        assert [row.id for row in await queue.due(200.0, 2)] == ["cb1", "cb2"]
        assert [row.id for row in await queue.due(200.0, 2)] == ["cb3"]

    async def test_not_reached_is_tried_again_until_there_is_no_sense_in_it(self, store: Store) -> None:
        queue = Callbacks(store)
        row = await add(queue, max_attempts=2)
        await queue.due(100.0, 1)
        assert await queue.retry(row.id, "busy", next_at=200.0) == "waiting"
        assert await queue.due(199.0, 1) == []
        [again] = await queue.due(200.0, 1)
        assert (again.attempts, again.last_disposition) == (2, "busy")
        assert await queue.retry(row.id, "no_answer", next_at=300.0) == "failed"
        late = await add(queue, callback_id="late")
        await queue.due(100.0, 1)
        assert await queue.retry(late.id, "busy", next_at=2000.0) == "expired"
        assert await queue.retry("nobody", "busy", next_at=1.0) == ""
        refused = await add(queue, callback_id="refused")
        await queue.due(100.0, 1)
        assert await queue.fail(refused.id, "failed")

    async def test_what_waited_too_long_expires(self, store: Store) -> None:
        queue = Callbacks(store)
        row = await add(queue)
        assert await queue.due(1001.0, 1) == []
        found = await queue.get(row.id)
        assert found is not None
        assert found.state == "expired"

    async def test_asked_for_twice_is_one(self, store: Store) -> None:
        queue = Callbacks(store)
        rows = await asyncio.gather(*(add(queue, idempotency_key="k") for _ in range(4)))
        assert len({row.id for row in rows}) == 1
        assert len(await queue.list()) == 1
        await add(queue, callback_id="own")
        await add(queue, callback_id="own")
        assert len(await queue.list()) == 2

    async def test_cancelled_while_it_waits_and_not_while_it_rings(self, store: Store) -> None:
        queue = Callbacks(store)
        row = await add(queue)
        assert await queue.cancel(row.id)
        assert not await queue.cancel(row.id)
        assert await queue.due(200.0, 1) == []
        ringing = await add(queue)
        await queue.due(200.0, 1)
        assert not await queue.cancel(ringing.id)
        store.node = "another"
        assert await queue.dialling() == []
        store.node = ""
        # Whoever dialled it died: it waits again.
        begun = await queue.dialling()
        assert [row.id for row in begun] == [ringing.id]
        assert await queue.release(begun, 300.0) == 1
        assert [row.id for row in await queue.due(300.0, 1)] == [ringing.id]
        assert await queue.release(begun, 300.0) == 0  # it is the next attempt that is made now

    async def test_a_callers_wish_is_queued_with_its_event_and_once(self, store: Store) -> None:
        wish = model.CallbackRequested(
            call_id="c1", at=50.0, callback_id="cb", number="+442079460123", agent="a", trunk="t", not_before=100.0,
            reason="wants a bike",
        )  # fmt: skip
        await store.apply(kept([wish]), 0)
        await store.apply(kept([wish], "another run"), 0)  # adopted, told again
        [row] = await Callbacks(store).due(100.0, 5)
        assert (row.id, row.call_id, row.not_after, row.reason) == ("cb", "c1", 100.0 + DAY, "wants a bike")


async def test_messages(store: Store) -> None:
    box = Messages(store)
    taken = model.MessageTaken(call_id="c1", at=9.0, mailbox="office", text="Hi", number="+442079460123")
    await store.apply(kept([taken]), 0)
    await box.add(mailbox="sales", text="Ho", number="", call_id="", at=10.0)
    assert [(m.mailbox, m.text, m.call_id) for m in await box.list()] == [("sales", "Ho", ""), ("office", "Hi", "c1")]
    [first] = await box.list("office")
    assert await box.heard(first.id, 20.0)
    assert await box.heard(first.id, 30.0)
    assert [m.heard_at for m in await box.list("office")] == [20.0]
    assert await box.list("office", only_new=True) == []
    assert await box.remove(first.id)
    assert not await box.remove(first.id)
    assert not await box.heard(first.id, 1.0)


SPOKEN = model.Transcript | model.ToolCalled | model.ToolReturned | model.TransferStarted


async def count(store: Store, table: type[Base]) -> int:
    async with store.reading() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def test_what_was_kept_for_long_enough_goes(store: Store) -> None:
    settings = RecordsSettings(keep_days=100, keep_transcripts_days=10, keep_events_days=20)
    now = 1_790_000_000.0
    ages = {"new": 1, "words-old": 15, "events-old": 25, "old": 101}
    for name, days in ages.items():
        await store.apply(kept(call(name, now - days * DAY), name), now - days * DAY)
    await store.apply(kept(call("live", now - 200 * DAY)[:3], "live"), now)
    async with store.writing() as session:
        session.add(Source(run="forgotten", number=1, at=now - 60 * DAY))
    removed = await retention.sweep(store, settings, now)
    assert removed.calls == 1
    assert [entry["id"] async for entry in store.export(Filter())] == ["new", "words-old", "events-old", "live"]

    async def left(name: str) -> tuple[int, int, int, str]:
        record = await store.call(name)
        assert record is not None
        history = record["history"]
        [tool], [transfer] = history["tools"], history["transfers"]
        assert bool(transfer["summary"]) == bool(tool["arguments"])
        return len(history["turns"]), len(history["transcript"]), len(history["events"]), tool["arguments"]

    everything = len(call())
    spoken = sum(isinstance(event, SPOKEN) for event in call())
    assert await left("new") == (3, 4, everything, '{"order":"4711"}')
    assert await left("words-old") == (3, 0, everything - spoken, "")
    assert await left("events-old") == (3, 0, 0, "")
    assert await count(store, Turn) == 9  # those of the old call went with it
    assert "forgotten" not in await store.last_numbers()
    again = await retention.sweep(store, settings, now)
    assert (again.calls, again.transcripts, again.events) == (0, 0, 0)


@pytest.mark.parametrize(
    ("state", "days", "untried_days", "stays"),
    [
        ("delivered", 9, 9, True),
        ("delivered", 11, 11, False),
        ("dead", 9, 9, True),
        ("dead", 11, 11, False),
        ("pending", 200, 0.25, True),  # somebody waits for it: sent again by hand
        ("pending", 9, 9, True),
        ("pending", 11, 11, False),  # its receiver is no longer configured
    ],
)
async def test_a_webhook_holds_words_no_longer_than_the_call(
    store: Store, state: str, days: float, untried_days: float, stays: bool
) -> None:
    now = 1_790_000_000.0
    async with store.writing() as session:
        session.add(Delivery(id="d", webhook="w", type="call.ended", call_id="c", body="", created_at=now - days * DAY,
                             next_at=now - untried_days * DAY, state=state))  # fmt: skip
    await retention.sweep(store, RecordsSettings(keep_days=100, keep_transcripts_days=10), now)
    assert await count(store, Delivery) == stays


async def test_many_go_a_few_at_a_time(store: Store) -> None:
    retention_at_once, retention.AT_ONCE = retention.AT_ONCE, 3
    try:
        for number in range(8):
            await store.apply(kept(call(f"c{number}", 1000.0), f"r{number}"), 0)
        assert (await retention.sweep(store, RecordsSettings(), 1e9)).calls == 8
        assert await count(store, Call) == await count(store, Event) == await count(store, Utterance) == 0
        assert await count(store, ToolCall) == 0
    finally:
        retention.AT_ONCE = retention_at_once
