"""Alive means that every worker has been heard of lately."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sipagent.control.heartbeat import AWAKE_S, EVERY_S, HANGS_S, MUTE_S, Heartbeat
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
        self.told: list[str] = []
        self.waited_s = 0.0
        """For a core: each worker, since its start."""
        for number, worker in self.live.workers.items():
            worker.pid = 100 + number
        self.heartbeat = Heartbeat(
            ServiceManager(ear.address, WATCHDOG_S),
            self.live,
            on_mute=lambda number: self.told.append(f"{number} is mute"),
            on_voice=lambda number: self.told.append(f"{number} speaks"),
            clock=lambda: self.now,
            end=self.killed.append,
            waited_s=lambda _pid: self.waited_s,
        )

    def says(self, *workers: int, asterisk: bool = True) -> None:
        for worker in workers:
            self.live.worker_state(worker, WorkerState(asterisk, "22", accepting=True, calls=0, events_dropped=0))

    def beats(self, *says: int, for_s: float = 0.0, waits: float = 0.0) -> bool:
        """Whether the last beat fed the watchdog, while these workers speak all the time.

        `waits`: the share of it in which the workers have no core.
        """
        fed = False
        for _ in range(max(round(for_s / EVERY_S), 1)):
            self.now += EVERY_S if for_s else 0.0
            self.waited_s += waits * EVERY_S
            self.says(*says)
            before = len(self.ear.told("WATCHDOG"))
            self.heartbeat.beat()
            fed = len(self.ear.told("WATCHDOG")) > before
        return fed


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path / "notify") as ear:
        yield Node(ear)


def test_it_has_started_when_every_worker_has_spoken(node: Node) -> None:
    node.says(1)
    assert not node.beats()
    assert node.ear.told("READY") == []
    node.says(2)
    assert node.beats()
    assert node.ear.told("READY") == ["1"]
    node.beats()
    assert node.ear.told("READY") == ["1"]


def test_an_asterisk_that_is_away_is_told_and_no_reason_to_start_anew(node: Node) -> None:
    node.says(1, 2, asterisk=False)
    assert node.beats()
    assert node.ear.told("READY") == ["1"]
    assert node.ear.told("STATUS") == ["0 calls; takes none: worker 1 has no Asterisk; worker 2 has no Asterisk"]


def test_the_same_status_is_told_once(node: Node) -> None:
    node.says(1, 2)
    node.beats(for_s=0.2)
    assert node.ear.told("STATUS") == ["0 calls; takes calls"]


def test_a_worker_that_hangs_is_killed(node: Node) -> None:
    node.beats(1, 2)
    node.beats(1, for_s=HANGS_S)
    assert node.killed == []
    node.beats(1, for_s=EVERY_S)
    assert node.killed == [102]
    node.live.worker_lost(2, node.live.workers[2].pid, node.live.workers[2].run)
    node.beats(1, for_s=3)
    assert node.killed == [102]


def test_one_that_is_mute_is_told_in_half_a_second(node: Node) -> None:
    """And once; its callers hear nothing else."""
    node.beats(1, 2)
    node.beats(1, for_s=MUTE_S)
    assert node.told == []
    node.beats(1, for_s=2 * EVERY_S)
    assert node.told == ["2 is mute"]
    node.beats(1, for_s=1.0)
    assert node.told == ["2 is mute"]
    node.beats(1, 2)
    assert node.told == ["2 is mute", "2 speaks"]
    assert node.killed == []


def test_one_that_waits_for_a_core_is_not_mute(node: Node) -> None:
    """It serves its calls as well as it can."""
    node.beats(1, 2)
    node.beats(1, for_s=1.0, waits=0.7)
    assert node.told == []
    node.beats(1, for_s=1.0, waits=0.7)
    assert node.told == ["2 is mute"]
    node.beats(1, for_s=HANGS_S - 2.0 + EVERY_S, waits=0.7)
    assert node.killed == [102]  # but nobody waits for ever


def test_one_that_hangs_all_the_same_starves_the_watchdog(node: Node) -> None:
    node.beats(1, 2)
    assert node.beats(1, for_s=WATCHDOG_S / 2)
    assert not node.beats(1, for_s=1.0)
    assert node.beats(1, 2)


def test_one_that_died_has_time_to_come_back(node: Node) -> None:
    node.beats(1, 2)
    node.live.worker_lost(2, node.live.workers[2].pid, node.live.workers[2].run)
    assert node.beats(1, for_s=12.0)
    assert node.beats(1, 2)
    assert node.killed == []
    assert node.told == []


def test_a_machine_that_was_halted_kills_nobody(node: Node) -> None:
    """Our clock has jumped; what the workers have to say is still in their sockets."""
    node.beats(1, 2)
    node.now += 600
    assert node.beats()
    assert node.killed == []
    assert node.told == []
    node.beats(1, for_s=HANGS_S - AWAKE_S + 2 * EVERY_S)
    assert node.killed == [102]


def test_the_worker_inside_this_process_is_not_killed(node: Node) -> None:
    node.live.workers[2].pid = 0
    node.beats(1, 2)
    node.beats(1, for_s=HANGS_S + 3)
    assert node.killed == []
    assert node.told == []
