"""The link between worker and control process, over a real Unix socket."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect

from sipagent import model, orders
from sipagent.control.hub import Hub
from sipagent.control.live import Live, LiveWorker
from sipagent.control.upgrade import Upgrade
from sipagent.errors import ConfigError, OrderRefused
from sipagent.link import BUFFERED_EVENTS, WorkerLink, encode
from sipagent.orders import Answer, HangUp, WorkerHello, WorkerState
from sipagent.outcome import CallOutcome, Reason
from tests.waiting import until


def started(call_id: str) -> model.CallStarted:
    return model.CallStarted(call_id=call_id, at=0, caller="1", called="100", endpoint="e", codec="ulaw", worker=1)


def ended(call_id: str) -> model.CallEnded:
    outcome = CallOutcome(Reason.CALLER_HANGUP)
    return model.CallEnded(call_id=call_id, at=1, outcome=outcome, duration_s=1, answered=True, turns=0, counters={})


def state(dropped: int) -> WorkerState:
    return WorkerState(asterisk_connected=True, asterisk_version="22", accepting=True, calls=0, events_dropped=dropped)


async def told(worker: ClientConnection) -> dict[str, Any]:
    """The next thing that it is told, but for what it may forget."""
    while (message := json.loads(await worker.recv()))["type"] == "acknowledged":
        pass
    return message  # type: ignore[no-any-return]


async def test_events_go_up_commands_down_and_a_lost_worker_is_noticed(tmp_path: Path) -> None:
    live = Live(1)
    hub = Hub(tmp_path / "c.sock", live)
    link = WorkerLink(tmp_path / "c.sock", 1)
    obeyed: list[orders.Order] = []

    def obey(order: orders.Order) -> None:
        obeyed.append(order)
        if isinstance(order, HangUp):
            link.send(Answer(order.id, "" if order.call_id == "early" else "no such call"))

    # Before the control process is there: buffered.
    link.send(started("early"))
    running = asyncio.create_task(link.run(state, obey))
    await hub.start()
    await until(lambda: "early" in live.calls and not live.why_not_ready(), "the early event")
    order = HangUp(call_id="early")
    assert await hub.ask(1, order, 5) == Answer(order.id)
    assert obeyed == [order]
    with pytest.raises(OrderRefused, match="no such call"):
        await hub.ask(1, HangUp(call_id="late"), 5)
    with pytest.raises(OrderRefused, match="worker 2 is not there"):
        await hub.ask(2, order, 5)
    with pytest.raises(OrderRefused, match="not answered in 0 s"):
        await hub.ask(1, orders.Reload(), 0)
    link.send(ended("early"))
    await until(lambda: not live.calls, "the end")
    assert live.ended[-1].outcome == CallOutcome(Reason.CALLER_HANGUP)

    link.send(started("lost"))
    await until(lambda: "lost" in live.calls, "the second call")
    running.cancel()
    await asyncio.wait({running})
    await until(lambda: live.why_not_ready() == ["worker 1 is not there"], "the loss to be noticed")
    assert live.ended[-1].state == "lost"
    await hub.aclose()
    await hub.aclose()


async def test_a_worker_knows_when_it_is_known(tmp_path: Path) -> None:
    """Before it takes the place of another one: that one's end must not look like the loss of both."""
    path = tmp_path / "c.sock"
    link = WorkerLink(path, 1)
    assert not await link.until_known(0)  # nobody is there who could know
    hub = Hub(path, Live(1))
    await hub.start()
    running = asyncio.create_task(link.run(state, lambda _order: None))
    assert await link.until_known(10)
    assert hub.linked == {link.run_id}
    running.cancel()
    await asyncio.wait({running})
    await hub.aclose()


async def test_garbage_and_strangers_do_no_harm(tmp_path: Path) -> None:
    live = Live(1)
    hub = Hub(tmp_path / "c.sock", live)
    await hub.start()
    async with unix_connect(str(tmp_path / "c.sock")) as stranger:
        await stranger.send(encode([WorkerHello(7, 1)]))
        await stranger.wait_closed()
    async with unix_connect(str(tmp_path / "c.sock")) as socket:
        for text in ("garbage", "{}", b"\xff", encode([WorkerHello(1, 5)]), encode([state(0)])):
            await socket.send(text)
        await until(lambda: live.workers[1].ready, "the good messages among the bad")
    assert (tmp_path / "c.sock").stat().st_mode & 0o77 == 0
    await hub.aclose()


async def test_the_buffer_is_bounded_and_counts(tmp_path: Path) -> None:
    link = WorkerLink(tmp_path / "nobody.sock", 1)
    for n in range(BUFFERED_EVENTS + 3):
        link.send(started(str(n)))
    assert link.dropped == 3


class Keeper:
    """Keeps what it is told to keep, when it is told."""

    def __init__(self, known: dict[str, int] | None = None) -> None:
        self.known = known or {}
        self.taken: list[tuple[str, str, int]] = []

    def kept(self, run: str) -> int:
        return self.known.get(run, 0)

    def take(self, event: model.CallEvent, run: str = "", number: int = 0) -> None:
        self.taken.append((event.call_id, run, number))


async def test_what_nobody_kept_comes_again_and_is_heard_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link breaks, then the control process: what it kept is not told again, to nobody."""
    monkeypatch.setattr("sipagent.link.RECONNECT_S", 0.02)
    path = tmp_path / "c.sock"
    link = WorkerLink(path, 1)
    running = asyncio.create_task(link.run(state, lambda _order: None))
    live, keeper = Live(1), Keeper()
    hub = Hub(path, live, keeper)
    await hub.start()
    for name in ("a", "b", "c"):
        link.send(started(name))
    await until(lambda: len(keeper.taken) == 3, "three events")
    run = keeper.taken[0][1]
    assert keeper.taken == [("a", run, 1), ("b", run, 2), ("c", run, 3)]
    assert hub.linked == {run}
    await asyncio.sleep(0)
    assert len(link._backlog) == 3  # none is safe yet
    [connection] = hub._linked.values()
    await connection.close()
    await until(lambda: not hub.linked, "the break")
    await until(lambda: bool(hub.linked), "the link to be back")
    link.send(started("d"))
    await until(lambda: len(keeper.taken) == 4, "the new one alone")
    assert keeper.taken[3] == ("d", run, 4)
    hub.safe(run, 2)
    await until(lambda: len(link._backlog) == 2, "two to be forgotten")
    await hub.aclose()

    # The next control process has two of them on its disk, whatever the one before knew.
    live, keeper = Live(1), Keeper({run: 2})
    hub = Hub(path, live, keeper)
    await hub.start()
    await until(lambda: len(keeper.taken) == 2, "the two that were not safe")
    assert keeper.taken == [("c", run, 3), ("d", run, 4)]
    assert set(live.calls) == {"c", "d"}
    link.send(Answer("order"))  # nobody keeps an answer; it must not wait for ever
    hub.safe(run, 4)
    await until(lambda: len(link._backlog) == 0, "everything to be safe")
    await link.drain(0.0)
    running.cancel()
    await asyncio.wait({running})
    await hub.aclose()


async def test_what_this_process_tells_itself_is_kept_as_well(tmp_path: Path) -> None:
    live, keeper = Live(1), Keeper()
    Hub(tmp_path / "c.sock", live, keeper).take(started("own"))
    assert keeper.taken == [("own", "", 0)]
    assert set(live.calls) == {"own"}


class Counting:
    """Who counts sessions, and hears of runs."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def here(self, run: str, held: Iterable[orders.SessionHeld]) -> None:
        self.heard.append(("here", run, *(one.key for one in held)))

    def asked(self, run: str, item: orders.SessionAsked) -> None:
        self.heard.append(("asked", run, item.key))

    def gone(self, run: str) -> None:
        self.heard.append(("gone", run))


async def test_a_number_is_not_lost_with_a_process_whose_successor_is_there(tmp_path: Path) -> None:
    """The control process was killed: the workers of its successor take the places of those that it left behind."""
    live, path = Live(1), tmp_path / "c.sock"
    hub, counting = Hub(path, live), Counting()
    hub.counting = counting
    lost: list[LiveWorker] = []
    live.on_worker_lost = lost.append
    await hub.start()
    async with unix_connect(str(path)) as new:
        await new.send(encode([WorkerHello(1, 2, "new")]))
        await new.send(encode([state(0)]))
        await until(lambda: live.workers[1].ready, "the successor")
        async with unix_connect(str(path)) as old:
            await old.send(encode([WorkerHello(1, 1, "old", (orders.SessionHeld("k", "c", "main"),))]))
            await until(lambda: "old" in hub.linked, "the one that was left behind")
            hub.tell("new", orders.SessionGranted("n", "main"))
            assert (await told(new))["key"] == "n"  # and not to whoever has its number as well
        await until(lambda: hub.linked == {"new"}, "the old one to leave")
        assert counting.heard == [("here", "new"), ("here", "old", "k"), ("gone", "old")]
        assert lost == [LiveWorker(1, 1, "old")]  # what it had may be in nobody's hands, but the number is not lost
        assert (live.workers[1].pid, live.workers[1].run, live.workers[1].ready) == (2, "new", True)
        order = orders.Reload()
        asking = asyncio.create_task(hub.ask(1, order, 10))
        assert (await told(new))["id"] == order.id
        await new.send(encode([orders.Numbered(1), Answer(order.id)]))
        await asking
    await until(
        lambda: [one.run for one in lost] == ["old", "new"] and not live.takes_calls,
        "the number to be lost with its last process",
    )
    await hub.aclose()


@pytest.mark.parametrize("on", [True, False])
async def test_a_worker_that_is_started_while_the_node_drains_is_told_so(tmp_path: Path, on: bool) -> None:
    """And when it takes calls again, nothing is left of the wish."""
    live = Live(1)
    hub = Hub(tmp_path / "c.sock", live)
    await hub.start()
    upgrade = Upgrade(hub, live)
    await upgrade.drain(on=True)
    await upgrade.drain(on=on)
    async with unix_connect(str(tmp_path / "c.sock")) as worker:
        await worker.send(encode([WorkerHello(1, 5, "run")]))
        await until(lambda: bool(hub.linked), "the link")
        asking = asyncio.create_task(hub.ask(1, orders.Reload(), 10))
        orders_told = [(await told(worker))["type"] for _ in range(1 + on)]
        assert orders_told == (["drain", "reload"] if on else ["reload"])
        asking.cancel()
        await asyncio.wait({asking})
    await hub.aclose()


async def test_a_message_may_be_as_long_as_its_events(tmp_path: Path) -> None:
    """A link that broke at a mebibyte would break again and again, with the same message."""
    live = Live(1)
    hub = Hub(tmp_path / "c.sock", live)
    await hub.start()
    link = WorkerLink(tmp_path / "c.sock", 1)
    link.send(started("x" * (1 << 20)))
    running = asyncio.create_task(link.run(state, lambda _order: None))
    await until(lambda: bool(live.calls), "the long event")
    running.cancel()
    await asyncio.wait({running})
    await hub.aclose()


async def test_a_run_folder_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long for a Unix socket"):
        await Hub(tmp_path / ("x" * 120) / "c.sock", Live(1)).start()
