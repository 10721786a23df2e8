"""A worker is lost: who takes its calls, and in which order that happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import AsyncMock

import msgspec
import pytest

from sipagent import model, orders
from sipagent.config import Settings
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.rescue import Rescue

CALL = model.CallStarted(call_id="c", at=0, caller="1", called="100", endpoint="e", codec="ulaw", worker=1)
ADOPTED = model.CallAdopted(call_id="c", at=1, worker=1, step="agent:reception")


class Node:
    """Three workers; the first has a call, and is lost. What happens then, in its order."""

    def __init__(self, folder: Path) -> None:
        self.live, self.happened = Live(3), asyncio.Queue[tuple[str, object]]()
        self.hub = Hub(folder / "c.sock", self.live)
        settings = Settings(agents={"reception": {"instructions": "x"}}, numbers={"100": "reception"})
        self.rescue = Rescue(self.hub, self.live, lambda: settings, lambda pid: self.happened.put_nowait(("end", pid)))
        for number in (2, 3):
            self.hub.attach(number, lambda order, number=number: self.obey(number, order))
        self.live.worker_here(1, 4711, "run-of-1")
        self.live.take(CALL)

    def obey(self, number: int, order: orders.Order | orders.SessionTold) -> None:
        assert isinstance(order, orders.Adopt)
        self.happened.put_nowait((f"worker {number}", (order.worker, order.run)))
        self.hub.take(orders.Answer(order.id, detail="1 calls"))

    def says(self, number: int, *, accepting: bool, calls: int = 0) -> None:
        state = orders.WorkerState(
            asterisk_connected=True, asterisk_version="22", accepting=accepting, calls=calls, events_dropped=0
        )
        self.live.worker_state(number, state)

    async def next(self) -> tuple[str, object]:
        return await asyncio.wait_for(self.happened.get(), 10)


@pytest.fixture
async def node(tmp_path: Path):  # type: ignore[no-untyped-def]
    node = Node(tmp_path)
    yield node
    await node.rescue.aclose()


async def test_whoever_lost_its_link_is_ended_before_its_calls_are_taken(node: Node) -> None:
    """It may live, and serve them: then they would be hung up under whoever takes them."""
    node.says(2, accepting=True, calls=1)
    node.live.worker_lost(1, 4711, "run-of-1")
    assert await node.next() == ("end", 4711)
    node.live.worker_here(1, 4712, "run-of-its-successor")
    assert await node.next() == ("worker 2", (1, "run-of-1"))


async def test_what_the_successor_takes_by_itself_nobody_is_asked_to_take(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was linked before the one that it replaced left. What it has not found either is gone."""
    monkeypatch.setattr("sipagent.control.rescue.PATIENCE_S", 0)
    node.says(2, accepting=True)
    node.live.take(msgspec.structs.replace(CALL, call_id="hung-up-meanwhile"))
    node.live.worker_here(1, 4712, "run-of-its-successor")
    node.says(1, accepting=True)
    node.live.take(ADOPTED, "run-of-its-successor")
    lost = asyncio.Event()
    node.live.subscribe(lambda _event: None, lambda _call_id: lost.set())
    node.live.worker_lost(1, 4711, "run-of-1")
    assert await node.next() == ("end", 4711)
    await asyncio.wait_for(lost.wait(), 10)
    assert node.happened.empty()
    assert list(node.live.calls) == ["c"]
    assert node.live.workers[1].ready


async def test_a_worker_without_calls_may_link_again(node: Node) -> None:
    node.live.worker_lost(2, 0, "")
    assert node.happened.empty()


async def test_who_came_to_a_mute_worker_is_taken_from_it_when_it_is_dead(node: Node) -> None:
    """Nobody has heard of them, it neither."""
    node.live.worker_here(2, 4712, "run-of-2")
    node.says(3, accepting=True)
    node.rescue.mute(2)
    node.live.worker_lost(2, 4712, "run-of-2")
    assert await node.next() == ("end", 4712)
    assert await node.next() == ("worker 3", (2, "run-of-2"))


async def test_a_node_that_goes_down_minds_no_silence(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat beats on, and a worker that was mute may speak again."""
    monkeypatch.setattr(node.rescue, "_music", AsyncMock())
    node.rescue.mute(1)
    await asyncio.sleep(0)  # its callers have their music, until it speaks
    await node.rescue.aclose()
    node.rescue.speaks(1)
    node.rescue.mute(2)
    assert "rescue" not in {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize(("accepting", "taker"), [(True, "worker 3"), (False, "worker 2")])
async def test_a_worker_that_drains_takes_them_when_nobody_else_can(node: Node, accepting: bool, taker: str) -> None:
    """They are no new calls."""
    node.says(2, accepting=False)
    node.says(3, accepting=accepting, calls=5)
    node.live.worker_lost(1, 4711, "run-of-1")
    await node.next()
    assert (await node.next())[0] == taker
