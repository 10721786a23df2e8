"""How often: a burst, then the pace; names bounded."""

from __future__ import annotations

import pytest

from sipagent.control.pace import MOST_NAMES, Pace


def test_a_burst_and_then_the_pace() -> None:
    pace = Pace(2, 3)
    assert [pace.wait_s("a", 10.0) for _ in range(3)] == [0, 0, 0]
    assert pace.wait_s("a", 10.0) == pytest.approx(0.5)
    assert pace.wait_s("a", 10.4) == pytest.approx(0.1)
    assert pace.wait_s("a", 10.5) == 0
    assert pace.wait_s("a", 10.5) == pytest.approx(0.5)
    assert pace.wait_s("b", 10.5) == 0  # another one's is their own


def test_a_pause_gives_the_burst_back_and_no_more() -> None:
    pace = Pace(2, 3)
    for _ in range(3):
        pace.wait_s("a", 0)
    assert [bool(pace.wait_s("a", 1000)) for _ in range(4)] == [False, False, False, True]


def test_a_million_addresses_take_no_more_memory_than_some_thousand() -> None:
    pace = Pace(1, 1)
    for number in range(MOST_NAMES + 100):
        pace.wait_s(str(number), 0)
    assert len(pace) == MOST_NAMES
    assert pace.wait_s(str(MOST_NAMES + 99), 0) > 0
    assert pace.wait_s("0", 0) == 0  # the one heard of longest ago was forgotten
