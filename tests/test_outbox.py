"""Blocks on their way up: in order, bounded, and none lost by a socket that breaks."""

import asyncio
from pathlib import Path

import pytest

from sipagent import outbox
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.link import WorkerLink
from sipagent.orders import WorkerState
from tests.waiting import until


def state(dropped: int) -> WorkerState:
    return WorkerState(asterisk_connected=True, asterisk_version="22", accepting=True, calls=0, events_dropped=dropped)


async def test_a_control_process_that_comes_late_or_again_gets_every_block_in_order(tmp_path: Path) -> None:
    link = WorkerLink(tmp_path / "c.sock", 1)
    running = asyncio.create_task(link.run(state, lambda _order: None))
    got: list[bytes] = []
    sent = 0
    for _ in range(2):
        hub = Hub(tmp_path / "c.sock", Live(1))
        hub.on_audio = got.append
        for _ in range(50):
            link.audio.put(b"%d" % sent + bytes(20_000))
            sent += 1
        await hub.start()
        await until(lambda want=sent: len(set(got)) == want, "all blocks")  # type: ignore[misc]
        await until(lambda: link.audio.empty, "the outbox to know")
        await hub.aclose()
    numbers = [int(block.rstrip(b"\0")) for block in got]
    # What was under way when a socket broke may come twice: its reader knows by the place in the recording.
    assert list(dict.fromkeys(numbers)) == list(range(100))
    assert link.audio.dropped == 0
    running.cancel()
    await asyncio.wait({running})


async def test_the_last_block_of_a_worker_that_stops_is_waited_for(tmp_path: Path) -> None:
    hub, got = Hub(tmp_path / "c.sock", Live(1)), []
    hub.on_audio = got.append
    link = WorkerLink(tmp_path / "c.sock", 1)
    await hub.start()
    running = asyncio.create_task(link.run(state, lambda _order: None))
    link.audio.put(b"last")
    await link.drain(5)
    running.cancel()
    await asyncio.wait({running})
    await until(lambda: got == [b"last"], "the last block")
    await hub.aclose()


def test_without_a_control_process_the_oldest_go_first_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BUFFERED_BYTES", 1000)
    box = outbox.Outbox()
    for n in range(15):
        box.put(bytes([n]) * 100)
    assert box.dropped == 5
    assert [block[0] for block in box._waiting] == list(range(5, 15))
