"""Alive means that every worker has been heard of lately."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sipagent.control.heartbeat import Heartbeat
from sipagent.control.live import Live
from sipagent.notify import ServiceManager
from sipagent.orders import WorkerState
from tests.service.listener import Ear, listening

WATCHDOG_S = 30.0


class Node:
    """Two workers, a clock, and somebody who listens."""

    def __init__(self, ear: Ear) -> None:
        self.ear, self.now, self.live = ear, 1000.0, Live(2)
        self.heartbeat = Heartbeat(ServiceManager(ear.address, WATCHDOG_S), self.live, lambda: self.now)

    def says(self, *workers: int, asterisk: bool = True) -> None:
        for worker in workers:
            self.live.worker_state(worker, WorkerState(asterisk, "22", accepting=True, calls=0, events_dropped=0))

    def fed(self, after_s: float = 0.0) -> bool:
        """Whether a beat after this time feeds the watchdog."""
        self.now += after_s
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


def test_a_worker_that_hangs_starves_the_watchdog(node: Node) -> None:
    node.says(1, 2)
    assert node.fed()
    node.says(1)
    assert node.fed(WATCHDOG_S / 2 - 1)
    node.says(1)
    assert not node.fed(2)
    node.says(2)
    assert node.fed()


def test_a_worker_that_died_has_time_to_come_back(node: Node) -> None:
    node.says(1, 2)
    node.fed()
    node.live.worker_lost(2)
    node.says(1)
    assert node.fed(12)
    node.says(1, 2)
    assert node.fed()
