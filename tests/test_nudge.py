"""A model that does not notice that it was cut is moved, once, and not before the caller has been quiet for a while."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from sipagent import nudge
from sipagent.nudge import Nudge


class Moved:
    """How often."""

    def __init__(self) -> None:
        self.times, self.once = 0, asyncio.Event()

    def __call__(self) -> None:
        self.times += 1
        self.once.set()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudge, "MODEL_WORD_S", 0.0)


async def test_a_model_that_notices_nothing_is_moved_once() -> None:
    moved, it = Moved(), Nudge(lambda: None)
    it.begin(moved)
    it.begin(moved)  # cut again: it begins anew
    await moved.once.wait()
    it.settle()
    await asyncio.sleep(0)
    assert moved.times == 1


async def test_one_that_notices_is_left_alone() -> None:
    moved, later, it = Moved(), Moved(), Nudge(lambda: None)
    it.begin(moved)
    it.settle()
    it.settle()
    it.begin(later)
    await later.once.wait()
    assert moved.times == 0


async def test_who_still_speaks_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(nudge, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(nudge, "MODEL_WORD_S", 2.0)
    looks: list[float] = []

    def voiced_at() -> float:
        looks.append(clock[0])
        return clock[0] - 1.0

    moved, it = Moved(), Nudge(voiced_at)
    it._look(moved)
    assert (moved.times, looks) == (0, [100.0])
    it.settle()
    clock[0] = 102.0
    it = Nudge(lambda: 99.5)
    it._look(moved)
    assert moved.times == 1
