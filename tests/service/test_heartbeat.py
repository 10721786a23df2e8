"""Alive means that every worker has been heard of lately."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sipagent.control.heartbeat import MUTE_S, Heartbeat
from sipagent.control.live import Live
from sipagent.notify import ServiceManager
from sipagent.orders import WorkerState
from tests.service.listener import Ear, listening

WATCHDOG_S = 30.0


class Node:
    """Two workers, a clock, and somebody who listens."""

    def __init__(self, ear: Ear) -> None:
        self.ear, self.now, self.live = ear, 1000.0, Live(2)
        self.killed: list[int] = []
        for number, worker in self.live.workers.items():
            worker.pid = 100 + number
        manager = ServiceManager(ear.address, WATCHDOG_S)
        self.heartbeat = Heartbeat(manager, self.live, lambda: self.now, self.killed.append)

    def says(self, *workers: int, asterisk: bool = True) -> None:
        for worker in workers:
            self.live.worker_state(worker, WorkerState(asterisk, "22", accepting=True, calls=0, events_dropped=0))

    def fed(self, after_s: int = 0, says: tuple[int, ...] = ()) -> bool:
        """Whether the last beat of so many seconds feeds the watchdog, while these workers speak."""
        for _ in range(max(after_s, 1)):
            self.now += min(after_s, 1)
            self.says(*says)
            before = len(self.ear.told("WATCHDOG"))
            self.heartbeat.beat()
        return len(self.ear.told("WATCHDOG")) > before


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path / "notify") as ear:
        yield Node(ear)


def test_it_has_started_when_every_worker_has_spoken(node: Node) -> None:
    node.says(1)
    assert not node.fed()
    assert node.ear.told("READY") == []
    node.says(2)
    assert node.fed()
    assert node.ear.told("READY") == ["1"]
    node.fed()
    assert node.ear.told("READY") == ["1"]


def test_an_asterisk_that_is_away_is_told_and_no_reason_to_start_anew(node: Node) -> None:
    node.says(1, 2, asterisk=False)
    assert node.fed()
    assert node.ear.told("READY") == ["1"]
    assert node.ear.told("STATUS") == ["0 calls; takes none: worker 1 has no Asterisk; worker 2 has no Asterisk"]


def test_the_same_status_is_told_once(node: Node) -> None:
    node.says(1, 2)
    for _ in range(3):
        node.fed(1)
    assert node.ear.told("STATUS") == ["0 calls; takes calls"]


def test_a_worker_that_hangs_is_killed(node: Node) -> None:
    node.says(1, 2)
    node.fed()
    node.fed(int(MUTE_S), says=(1,))
    assert node.killed == []
    node.fed(1, says=(1,))
    assert node.killed == [102]
    node.live.worker_lost(2)
    node.fed(3, says=(1,))
    assert node.killed == [102]


def test_one_that_hangs_all_the_same_starves_the_watchdog(node: Node) -> None:
    node.says(1, 2)
    assert node.fed(int(WATCHDOG_S / 2), says=(1,))
    assert not node.fed(2, says=(1,))
    assert node.fed(1, says=(1, 2))


def test_one_that_died_has_time_to_come_back(node: Node) -> None:
    node.says(1, 2)
    node.fed()
    node.live.worker_lost(2)
    assert node.fed(12, says=(1,))
    assert node.fed(1, says=(1, 2))
    assert node.killed == []


def test_a_machine_that_was_halted_kills_nobody(node: Node) -> None:
    """Our clock has jumped; what the workers have to say is still in their sockets."""
    node.says(1, 2)
    node.fed()
    node.now += 600
    assert node.fed()
    assert node.killed == []
    node.fed(int(MUTE_S) + 1, says=(1,))
    assert node.killed == [102]


def test_the_worker_inside_this_process_is_not_killed(node: Node) -> None:
    node.live.workers[2].pid = 0
    node.says(1, 2)
    node.fed()
    node.fed(int(MUTE_S) + 3, says=(1,))
    assert node.killed == []
