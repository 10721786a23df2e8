"""Promised calls are made when their time has come, and again when nobody answered."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from sipagent import model, orders
from sipagent.config import Settings
from sipagent.control import callbacks, operator
from sipagent.control.callbacks import CallbackDialler
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.operator import Operator
from sipagent.model import Disposition
from sipagent.outcome import CallOutcome, Reason
from sipagent.records import database
from sipagent.records.callbacks import Callbacks
from sipagent.records.store import Store
from sipagent.records.tables import Callback
from tests.waiting import until

MONDAY_10 = dt.datetime(2026, 11, 30, 10, 0, tzinfo=dt.UTC)


class Node:
    """A dialler whose worker takes orders and does nothing but remember them."""

    def __init__(self, folder: Path, **outbound: Any) -> None:
        self.settings = Settings(
            agents={"reception": {"instructions": "x"}},
            numbers={"100": "reception"},
            hours={"office": {"timezone": "Europe/London", "week": {"mon-fri": "09:00-17:30"}}},
            dial_policy={"allow": ["+44*"]},
            trunks={"vonage": {"preset": "generic-ip", "hosts": ["192.0.2.1"]}},
            outbound={"trunks": ["vonage"], **outbound},
        )  # fmt: skip
        self.store = Store(database.engine_for(f"sqlite+aiosqlite:///{folder / 'r.db'}"))
        self.callbacks = Callbacks(self.store)
        self.live, self.dialled = Live(1), []
        self.hub = hub = Hub(folder / "c.sock", self.live)

        def obey(order: orders.Order) -> None:
            assert isinstance(order, orders.Originate)
            self.dialled.append(order)
            hub.take(orders.Answer(order.id))

        hub.attach(1, obey)
        self.live.worker_state(
            1,
            orders.WorkerState(
                asterisk_connected=True, asterisk_version="22", accepting=True, calls=0, events_dropped=0
            ),
        )
        self.dialler = CallbackDialler(
            self.callbacks, Operator(hub, self.live, lambda: self.settings), self.live, lambda: self.settings
        )

    async def promise(self, number: str = "+442079460123", **changes: Any) -> Callback:
        at = MONDAY_10.timestamp()
        return await self.callbacks.add(
            **{"number": number, "agent": "reception", "trunk": "vonage", "not_before": at, "not_after": at + 7200,
               "now": at, "reason": "the bicycle", "max_attempts": 2} | changes
        )  # fmt: skip

    def begins(self) -> None:
        """The call that was ordered last rings."""
        self.live.take(
            model.CallStarted(
                call_id=self.dialled[-1].call_id, at=0, caller="", called="", endpoint="vonage", codec="alaw", worker=1
            )
        )

    def ends(self, disposition: Disposition | None, *, answered: bool, because: Reason | None = None) -> None:
        """The call that was begun last is over."""
        call_id = self.dialled[-1].call_id
        if call_id not in self.live.calls:
            self.begins()
        reason = because or (Reason.CALLER_HANGUP if answered else Reason.NOT_REACHED)
        self.live.take(
            model.CallEnded(
                call_id=call_id, at=9, outcome=CallOutcome(reason), duration_s=9, answered=answered, turns=1,
                counters={}, disposition=disposition,
            )
        )  # fmt: skip

    async def state(self, row: Callback) -> str:
        await self.dialler.settle_waiting()
        found = await self.callbacks.get(row.id)
        assert found
        return found.state


@pytest.fixture
async def node(tmp_path: Path) -> Any:
    made: list[Node] = []

    async def make(**outbound: Any) -> Node:
        node = Node(tmp_path, **outbound)
        await database.migrate(node.store.engine)
        made.append(node)
        return node

    yield make
    for one in made:
        await one.store.aclose()


async def test_a_promise_is_kept_when_its_time_has_come(node: Any) -> None:
    one = await node()
    row = await one.promise()
    await one.dialler.look(MONDAY_10 - dt.timedelta(minutes=1))
    assert one.dialled == []
    await one.dialler.look(MONDAY_10)
    (order,) = one.dialled
    assert (order.to, order.agent, order.trunks, order.variables) == (
        "+442079460123", "reception", ("vonage",), {"reason": "the bicycle"},
    )  # fmt: skip
    await one.dialler.look(MONDAY_10)
    assert len(one.dialled) == 1  # it is being dialled
    one.ends(Disposition.HUMAN, answered=True)
    assert await one.state(row) == "done"


@pytest.mark.parametrize("disposition", [Disposition.BUSY, Disposition.NO_ANSWER, Disposition.MACHINE])
async def test_who_is_not_reached_is_tried_again_and_then_not_any_more(node: Any, disposition: Disposition) -> None:
    one = await node(retry_after_s=600)
    row = await one.promise(not_after=MONDAY_10.timestamp() + 10**9)
    for attempt, state in ((1, "waiting"), (2, "failed")):
        await one.dialler.look(MONDAY_10 + dt.timedelta(days=attempt))
        assert len(one.dialled) == attempt
        one.ends(disposition, answered=disposition is Disposition.MACHINE)
        assert await one.state(row) == state
    assert len({order.call_id for order in one.dialled}) == 2


async def test_a_message_on_a_machine_is_a_promise_kept(node: Any) -> None:
    one = await node(machine="message", message="We called.")
    row = await one.promise()
    await one.dialler.look(MONDAY_10)
    one.ends(Disposition.MACHINE, answered=True, because=Reason.COMPLETED)
    assert await one.state(row) == "done"


@pytest.mark.parametrize(
    ("disposition", "because"),
    [
        (Disposition.MACHINE, Reason.REALTIME_SILENT),  # nothing was said to it
        (Disposition.MACHINE, Reason.CALLER_HANGUP),  # it hung up before its tone
        (Disposition.HUMAN, Reason.REALTIME_UNREACHABLE),  # they heard our apology
        (None, Reason.INTERNAL_ERROR),
    ],
)
async def test_who_got_nothing_is_called_again(node: Any, disposition: Disposition | None, because: Reason) -> None:
    one = await node(machine="message", message="We called.", retry_after_s=600)
    row = await one.promise(not_after=MONDAY_10.timestamp() + 10**9)
    await one.dialler.look(MONDAY_10)
    one.ends(disposition, answered=True, because=because)
    assert await one.state(row) == "waiting"


async def test_nobody_is_called_at_night(node: Any) -> None:
    one = await node(hours="office")
    await one.promise(not_after=MONDAY_10.timestamp() + 2 * 86400)
    await one.dialler.look(MONDAY_10.replace(hour=20))
    assert one.dialled == []
    await one.dialler.look(MONDAY_10 + dt.timedelta(days=1))
    assert len(one.dialled) == 1


async def test_a_number_that_may_not_be_called_any_more_is_not(node: Any) -> None:
    one = await node()
    row = await one.promise("+33142345678")
    await one.dialler.look(MONDAY_10)
    assert one.dialled == []
    assert await one.state(row) == "waiting"
    found = await one.callbacks.get(row.id)
    assert "dial_policy.allow" in found.last_disposition


def away(*_: Any) -> Any:
    raise OperationalError("UPDATE callbacks", {}, Exception("database is locked"))


async def test_a_database_that_is_away_when_a_call_ends_is_told_later(node: Any, monkeypatch: Any) -> None:
    one = await node()
    row = await one.promise()
    await one.dialler.look(MONDAY_10)
    one.ends(Disposition.HUMAN, answered=True)
    with monkeypatch.context() as patched:
        patched.setattr(one.callbacks, "done", away)
        with pytest.raises(OperationalError):
            await one.dialler.settle_waiting()
    assert await one.state(row) == "done"


async def test_the_dialler_lives_on_while_the_database_is_away(node: Any, monkeypatch: Any) -> None:
    """It looks again and again, and writes down what ended meanwhile."""
    monkeypatch.setattr(callbacks, "LOOK_EVERY_S", 0.01)
    one = await node()
    row = await one.promise()
    await one.dialler.look(MONDAY_10)
    one.ends(Disposition.HUMAN, answered=True)
    tries: list[str] = []

    def fails_twice(callback_id: str, disposition: str) -> Any:
        tries.append(disposition)
        return away() if len(tries) < 3 else Callbacks.done(one.callbacks, callback_id, disposition)

    monkeypatch.setattr(one.callbacks, "done", fails_twice)
    running = asyncio.create_task(one.dialler.run())

    async def is_done() -> bool:
        found = await one.callbacks.get(row.id)
        return bool(found and found.state == "done")

    await until(is_done, "the third attempt")
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_who_ends_the_dialler_while_it_writes_takes_nothing_from_it(node: Any, monkeypatch: Any) -> None:
    """A transaction that was cut short is made again, or somebody who was reached would be called once more."""
    one = await node()
    row = await one.promise()
    await one.dialler.look(MONDAY_10)
    one.ends(Disposition.HUMAN, answered=True)
    writing = asyncio.Event()

    async def never(*_: str) -> bool:
        writing.set()
        await asyncio.Event().wait()
        return True

    with monkeypatch.context() as patched:
        patched.setattr(one.callbacks, "done", never)
        settling = asyncio.create_task(one.dialler.settle_waiting())
        await asyncio.wait_for(writing.wait(), 10)
        settling.cancel()
        await asyncio.wait({settling})
    assert await one.state(row) == "done"


async def test_a_call_back_whose_worker_dies_is_tried_again(node: Any) -> None:
    one = await node()
    row = await one.promise(not_after=MONDAY_10.timestamp() + 10**9)
    await one.dialler.look(MONDAY_10)
    one.begins()
    one.live.worker_lost(1, 0, "")  # nobody adopts what it had
    assert await one.state(row) == "waiting"


async def test_a_call_back_that_is_up_is_not_made_again_by_the_next_control_process(node: Any) -> None:
    """The one before was killed; its worker lives, or another one has adopted the call."""
    one = await node()
    up, gone = await one.promise(), await one.promise("+442079460999")
    await one.dialler.look(MONDAY_10)
    (call_id,) = [order.call_id for order in one.dialled if order.to == up.number]
    after = await node()
    await after.dialler.look_back()
    after.dialled = [order for order in one.dialled if order.call_id == call_id]
    after.live.take(
        model.CallAdopted(
            call_id=call_id, at=1, worker=1, step="agent:reception", caller="", called=up.number, endpoint="vonage",
            codec="alaw", direction=model.Direction.OUT, answered=True, started_at=0,
        )
    )  # fmt: skip
    await after.dialler.give_back()
    assert (await after.state(up), await after.state(gone)) == ("dialling", "waiting")
    after.ends(Disposition.HUMAN, answered=True)
    assert await after.state(up) == "done"


async def test_what_falls_due_before_a_worker_is_there_waits_and_uses_up_no_attempt(node: Any) -> None:
    one = await node()
    row = await one.promise()
    there = one.live.workers[1].state
    one.live.worker_state(1, None)
    await one.dialler.look(MONDAY_10)
    found = await one.callbacks.get(row.id)
    assert (one.dialled, found.state, found.attempts) == ([], "waiting", 0)
    one.live.worker_state(1, there)
    await one.dialler.look(MONDAY_10)
    assert len(one.dialled) == 1


async def test_a_worker_that_goes_at_that_moment_uses_up_no_attempt(node: Any, monkeypatch: Any) -> None:
    one = await node()
    row = await one.promise()
    with monkeypatch.context() as patched:
        patched.setattr(Live, "takes_calls", True)
        there = one.live.workers[1].state
        one.live.worker_state(1, None)
        await one.dialler.look(MONDAY_10)
        one.live.worker_state(1, there)
    found = await one.callbacks.get(row.id)
    assert (found.state, found.attempts) == ("waiting", 0)
    await one.dialler.look(MONDAY_10)
    assert [order.call_id for order in one.dialled] == [f"callback-{row.id}-1"]


class Mute(Node):
    """Its worker reads orders, and its answers do not come."""

    def __init__(self, folder: Path, **outbound: Any) -> None:
        super().__init__(folder, **outbound)
        self.hub.attach(1, self.dialled.append)


@pytest.fixture
async def mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(operator, "ORDER_TIMEOUT_S", 0.01)
    one = Mute(tmp_path)
    await database.migrate(one.store.engine)
    yield one
    await one.store.aclose()


async def test_a_call_that_nobody_answered_for_and_that_begins_is_the_only_one(mute: Mute) -> None:
    """It is neither refused nor made again while it may begin."""
    row = await mute.promise()
    await mute.dialler.look(MONDAY_10)
    assert await mute.state(row) == "dialling"
    mute.begins()
    await mute.dialler.look(MONDAY_10 + dt.timedelta(hours=1))
    assert (await mute.state(row), len(mute.dialled)) == ("dialling", 1)
    mute.ends(Disposition.HUMAN, answered=True)
    assert await mute.state(row) == "done"


async def test_a_call_that_nobody_answered_for_is_made_again_when_it_cannot_begin_any_more(
    mute: Mute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if it has begun all the same, it is the one: nobody is called beside it."""
    monkeypatch.setattr(callbacks, "PATIENCE_S", 0.0)
    row = await mute.promise()
    await mute.dialler.look(MONDAY_10)
    await mute.dialler.look(MONDAY_10)
    assert await mute.state(row) == "waiting"
    (order,) = mute.dialled
    assert 0 < order.expires_at <= time.time() + 5
    mute.begins()
    assert await mute.state(row) == "dialling"
    mute.ends(Disposition.HUMAN, answered=True)
    assert await mute.state(row) == "done"
