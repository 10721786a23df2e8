"""Exactly once, whatever breaks when: the outbox, a link that loses what it likes, and a listener that dies (core)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sipagent.outbox import Outbox

STEPS = st.lists(st.sampled_from(["add", "send", "keep", "acknowledge", "cut", "listener dies"]), max_size=200)


@given(STEPS)
def test_every_item_arrives_once_and_in_order(steps: list[str]) -> None:
    """The listener knows what it kept (on its disk) and drops what comes again."""
    outbox: Outbox[int] = Outbox(capacity=1000)
    kept: list[int] = []  # on the listener's disk, with the last number
    last_kept = 0
    heard: list[tuple[int, int]] = []  # in its memory
    added = 0

    def send() -> None:
        number, items = outbox.take(3)
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
                outbox.add(added := added + 1)
            case "send":
                send()
            case "keep":
                keep()
            case "acknowledge":
                outbox.acknowledge(last_kept)
            case "cut":
                outbox.rewind()
            case _:
                heard.clear()
                outbox.rewind()
    outbox.rewind()
    while outbox.waiting:
        send()
    keep()
    outbox.acknowledge(last_kept)
    assert kept == list(range(1, added + 1))
    assert len(outbox) == 0
    assert outbox.dropped == 0


def test_it_is_bounded_drops_the_oldest_and_counts() -> None:
    outbox: Outbox[int] = Outbox(capacity=3)
    for item in range(5):
        outbox.add(item)
    assert outbox.dropped == 2
    assert outbox.take(10) == (3, [2, 3, 4])
    outbox.add(5)  # dropped while it was on its way
    assert outbox.take(10) == (6, [5])
    outbox.acknowledge(3)  # of one that is gone already
    assert len(outbox) == 3
    outbox.acknowledge(99)
    assert len(outbox) == 0
    outbox.add(6)
    assert outbox.take(10) == (7, [6])
