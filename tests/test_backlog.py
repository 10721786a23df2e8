"""Exactly once, whatever breaks when: the backlog, a link that loses what it likes, and a listener that dies (core)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipagent.backlog import Backlog

STEPS = st.lists(st.sampled_from(["add", "send", "keep", "acknowledge", "cut", "listener dies"]), max_size=200)


@given(STEPS)
def test_every_item_arrives_once_and_in_order(steps: list[str]) -> None:
    """The listener knows what it kept (on its disk) and drops what comes again."""
    backlog: Backlog[int] = Backlog(capacity=1000)
    kept: list[int] = []  # on the listener's disk, with the last number
    last_kept = 0
    heard: list[tuple[int, int]] = []  # in its memory
    added = 0

    def send() -> None:
        number, items = backlog.take(3)
        newest = heard[-1][0] if heard else last_kept
        heard.extend((number + n, item) for n, item in enumerate(items) if number + n > newest)

    def keep() -> None:
        nonlocal last_kept
        kept.extend(item for _, item in heard)
        last_kept = heard[-1][0] if heard else last_kept
        heard.clear()

    for step in steps:
        match step:
            case "add":
                backlog.add(added := added + 1)
            case "send":
                send()
            case "keep":
                keep()
            case "acknowledge":
                backlog.acknowledge(last_kept)
            case "cut":
                backlog.rewind()
            case _:
                heard.clear()
                backlog.rewind()
    backlog.rewind()
    while backlog.waiting:
        send()
    keep()
    backlog.acknowledge(last_kept)
    assert kept == list(range(1, added + 1))
    assert len(backlog) == 0
    assert backlog.dropped == 0


def test_it_is_bounded_drops_the_oldest_and_counts() -> None:
    backlog: Backlog[int] = Backlog(capacity=3)
    for item in range(5):
        backlog.add(item)
    assert backlog.dropped == 2
    assert backlog.take(10) == (3, [2, 3, 4])
    backlog.add(5)  # dropped while it was on its way
    assert backlog.take(10) == (6, [5])
    backlog.acknowledge(3)  # of one that is gone already
    assert len(backlog) == 3
    backlog.acknowledge(99)
    assert len(backlog) == 0
    backlog.add(6)
    assert backlog.take(10) == (7, [6])
