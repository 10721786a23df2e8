"""The store, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, inspect, select

from sipagent import model
from sipagent.errors import ConfigError
from sipagent.model import Disposition
from sipagent.outcome import CallOutcome, Reason
from sipagent.records import database, fold
from sipagent.records.redaction import Redaction
from sipagent.records.store import BadCursor, Filter, Store
from sipagent.records.tables import Base, Call, Event
from tests.records.talk import call, kept


async def count(store: Store, table: type[Base]) -> int:
    async with store.reading() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def test_a_call_is_what_its_events_say(store: Store) -> None:
    events = call()
    await store.apply(kept(events), now=0)
    record = await store.call("c1")
    assert record is not None
    told = {
        "id": "c1", "uniqueid": "c1", "linkedid": "c1", "src": "+442079460123", "dst": "100",
        "start": "2026-09-21T14:13:20.000000Z", "answer": "2026-09-21T14:13:20.200000Z",
        "end": "2026-09-21T14:13:50.000000Z", "duration": 30.0, "billsec": 29.8, "disposition": "ANSWERED",
        "state": "ended", "direction": "in", "trunk": "vonage", "route": "main", "agent": "reception",
        "result": "success", "reason": "caller_hangup", "fault": "none", "cause": 16, "barge_ins": 1,
        "tool_errors": 0, "setup_ms": 200.0, "first_audio_ms": 500.0, "mos": 4.2,
        "latency_avg_ms": 1100.0, "latency_max_ms": 1500.0, "realtime_model": "grok", "conversation_id": "conv",
        "counters": {"frames_in": 1500},
    }  # fmt: skip
    assert {name: record[name] for name in told} == told
    history = record["history"]
    assert [(turn["number"], turn["latency_ms"], turn["played_ms"], turn["cut_by"]) for turn in history["turns"]] == [
        (1, None, None, ""),
        (2, 1500.0, 1500, "speech"),
        (3, 700.0, None, ""),
    ]
    assert [(said["role"], said["text"], said["cut"]) for said in history["transcript"]] == [
        ("agent", "Hello, how can I help you?", False),
        ("caller", "Where is my order 4711?", False),
        ("agent", "It is on its way", True),
        ("caller", "Give me your boss.", False),
    ]
    [tool] = history["tools"]
    assert (tool["name"], tool["ok"], tool["duration_ms"], tool["result"]) == (
        "order_status",
        True,
        500.0,
        "on its way",
    )
    assert [(t["target"], t["result"]) for t in history["transfers"]] == [("boss", "no answer")]
    assert [(leg["to"], leg["cause"], leg["answered"]) for leg in history["legs"]] == [("+442079460999", 19, False)]
    assert len(history["events"]) == len(events)
    assert history["events"][0]["type"] == "call_started"


async def test_it_does_not_matter_how_the_events_are_cut_into_batches(store: Store) -> None:
    whole, apart = kept(call("whole")), kept(call("apart"), "other")
    await store.apply(whole, now=0)
    for one in apart:
        await store.apply([one], now=0)
    first, second = await store.call("whole"), await store.call("apart")
    assert first is not None
    assert second is not None
    text = str(first).replace("'whole'", "'apart'")
    assert text == str(second)


async def test_what_was_written_is_not_written_again(store: Store) -> None:
    events = kept(call())
    assert await store.apply(events[:10], now=0) == events[:10]
    assert await store.apply(events[5:], now=0) == events[10:]
    assert await store.apply(events, now=0) == []
    assert await store.last_numbers() == {"run": len(events)}
    assert await count(store, Event) == len(events)


async def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("half-way")

    store.reactions = [fails]
    with pytest.raises(RuntimeError):
        await store.apply(kept(call()), now=0)
    assert await count(store, Call) == await count(store, Event) == 0
    assert await store.last_numbers() == {}


async def test_a_call_whose_beginning_was_lost_is_kept_all_the_same(store: Store) -> None:
    await store.apply(kept(call()[-1:]), now=0)
    record = await store.call("c1")
    assert record is not None
    assert (record["state"], record["disposition"], record["src"]) == ("ended", "ANSWERED", "")


async def test_a_call_without_an_end_is_lost_and_found_again(store: Store) -> None:
    events = kept(call())
    await store.apply(events[:8], now=0)
    assert await store.lose({"run"}, quiet_since=2e9, now=0) == 0  # its worker is there
    assert await store.lose({"another"}, quiet_since=1e9, now=0) == 0  # it spoke a moment ago
    assert await store.lose({"another"}, quiet_since=2e9, now=0) == 1
    record = await store.call("c1")
    assert record is not None
    assert (record["state"], record["duration"], record["disposition"]) == ("lost", 5.0, "ANSWERED")
    await store.apply(events[8:], now=0)
    record = await store.call("c1")
    assert record is not None
    assert (record["state"], record["duration"]) == ("ended", 30.0)


async def test_a_node_lets_the_calls_of_another_be_unless_they_are_long_gone(store: Store) -> None:
    store.node = "another"
    await store.apply(kept(call(at=1000.0)[:8]), now=0)
    store.node = "ours"
    assert await store.lose(set(), quiet_since=2000.0, now=2000.0) == 0
    assert await store.lose(set(), quiet_since=2000.0, now=1000.0 + 2 * 86400) == 1


async def test_pages_are_whole_without_gaps_while_calls_come(store: Store) -> None:
    for number in range(7):
        # Two at each moment: the id decides.
        await store.apply(kept(call(f"c{number}", 1e9 + number // 2), f"r{number}"), now=0)
    seen, cursor = [], ""
    while True:
        page = await store.page(Filter(), 3, cursor)
        seen += [entry["id"] for entry in page.calls]
        await store.apply(kept(call(f"new{len(seen)}", 2e9), f"n{len(seen)}"), now=0)
        if not (cursor := page.next):
            break
    assert seen == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]
    assert [entry["id"] async for entry in store.export(Filter(until=1.5e9))] == seen
    for bad in ("nonsense", "%%%", "bm9uc2Vuc2U"):
        with pytest.raises(BadCursor):
            await store.page(Filter(), 3, bad)


async def test_filters_narrow(store: Store) -> None:
    await store.apply(kept(call("a", 1000.0)), now=0)
    failed = model.CallEnded(
        call_id="b", at=2000.0, outcome=CallOutcome(Reason.REALTIME_LOST), duration_s=1, answered=False, turns=0,
        counters={},
    )  # fmt: skip
    started = model.CallStarted(
        call_id="b", at=1999.0, caller="+4930123456", called="200", endpoint="office", codec="ulaw", worker=1,
        direction=model.Direction.OUT,
    )  # fmt: skip
    await store.apply(kept([started, failed], "r2"), now=0)

    async def found(**wanted: object) -> list[str]:
        return [entry["id"] for entry in (await store.page(Filter(**wanted))).calls]  # type: ignore[arg-type]

    assert await found() == ["b", "a"]
    assert await found(since=1500.0) == ["b"]
    assert await found(until=1999.0) == ["a"]
    assert await found(direction="out", trunk="office", result="failure", reason="realtime_lost") == ["b"]
    assert await found(route="main", agent="reception", state="ended") == ["a"]
    assert await found(number="+4930123456") == await found(number="200") == ["b"]
    assert await found(number="20") == []


@pytest.mark.parametrize(
    ("outcome", "answered", "disposition", "word"),
    [
        (CallOutcome(Reason.CALLER_HANGUP), True, None, "ANSWERED"),
        (CallOutcome(Reason.CALLER_CANCELLED), False, None, "NO ANSWER"),
        (CallOutcome(Reason.UNKNOWN_NUMBER), False, None, "FAILED"),
        (CallOutcome(Reason.REJECTED, q850=17), False, None, "BUSY"),
        (CallOutcome(Reason.NO_MEDIA_PORT), False, None, "CONGESTION"),
        (CallOutcome(Reason.COMPLETED), False, Disposition.BUSY, "BUSY"),
        (CallOutcome(Reason.COMPLETED), False, Disposition.NO_ANSWER, "NO ANSWER"),
        (CallOutcome(Reason.COMPLETED), False, Disposition.FAILED, "FAILED"),
    ],
)
def test_the_end_in_the_words_of_a_cdr(
    outcome: CallOutcome, answered: bool, disposition: Disposition | None, word: str
) -> None:
    end = model.CallEnded(
        call_id="c", at=1, outcome=outcome, duration_s=1, answered=answered, turns=0, counters={},
        disposition=disposition,
    )  # fmt: skip
    assert fold.cdr_disposition(end) == word


async def test_what_is_redacted_is_nowhere_in_the_database(url: str) -> None:
    redaction = Redaction("last_two", "drop")
    store = Store(database.engine_for(url), redaction)
    await database.migrate(store.engine)
    message = model.MessageTaken(call_id="c1", at=1.0, mailbox="office", text="Call me, 4111 1111 1111 1111",
                                 number="+442079460555")  # fmt: skip
    events = [redaction.for_disk(event) for event in [*call(), message]]
    await store.apply(kept(events), now=0)
    record = await store.call("c1")
    assert record is not None
    messages = record["history"].pop("messages")
    text = str(record)
    assert "4711" not in text
    assert "0123" not in text
    assert record["src"] == "***********23"
    [left] = messages  # it can be served
    assert (left["number"], left["text"]) == ("+442079460555", "Call me, **** **** **** 1111")
    await store.aclose()


class TestMigrations:
    async def test_they_make_what_the_tables_say_and_take_it_away_again(self, url: str) -> None:
        engine = database.engine_for(url)
        await asyncio.gather(*(database.migrate(engine) for _ in range(3)))  # who comes second finds it done

        def differences(connection: Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, Base.metadata))

        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
        await database.migrate(engine, "base")
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert set(names) <= {"alembic_version"}
        await database.migrate(engine)
        await engine.dispose()

    async def test_tables_of_a_later_version_are_left_alone(self, url: str) -> None:
        engine = database.engine_for(url)
        await database.migrate(engine)
        async with engine.begin() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(ConfigError, match="later sipagent"):
            await database.migrate(engine)
        await engine.dispose()

    @pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "sqlite:///x.db"])
    async def test_an_address_that_is_none_is_named(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"records\.url"):
            database.engine_for(url)
