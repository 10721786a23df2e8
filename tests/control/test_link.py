"""The link between worker and control process, over a real Unix socket."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import unix_connect

from sipagent import model, orders
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.errors import ConfigError, OrderRefused
from sipagent.link import BUFFERED_EVENTS, WorkerLink, encode
from sipagent.model import CallOutcome, Reason
from sipagent.orders import Answer, HangUp, WorkerHello, WorkerState
from tests.waiting import until


def started(call_id: str) -> model.CallStarted:
    return model.CallStarted(call_id=call_id, at=0, caller="1", called="100", endpoint="e", codec="ulaw", worker=1)


def ended(call_id: str) -> model.CallEnded:
    outcome = CallOutcome(Reason.CALLER_HANGUP)
    return model.CallEnded(call_id=call_id, at=1, outcome=outcome, duration_s=1, answered=True, turns=0, counters={})


def state(dropped: int) -> WorkerState:
    return WorkerState(asterisk_connected=True, asterisk_version="22", accepting=True, calls=0, events_dropped=dropped)


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


async def test_a_run_folder_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long for a Unix socket"):
        await Hub(tmp_path / ("x" * 120) / "c.sock", Live(1)).start()
