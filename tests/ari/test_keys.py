"""Keys that Asterisk tells of twice. What it told was recorded: of a card number over a line that stalls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.ari.keys import GAP_MS, Keys

CARD = "4111111111111112#"
HELD_100_MS = """
15.564 4, 16.224 1, 16.225 1, 16.269 1, 16.270 1, 16.415 1, 16.415 1, 16.560 1, 16.564 1, 16.705 1,
17.125 1, 17.125 1, 17.170 1, 17.170 1, 17.315 1, 17.364 1, 17.460 1, 18.024 1, 18.025 1, 18.169 1,
18.170 1, 18.314 1, 18.315 1, 18.460 1, 18.460 1, 18.605 1, 18.925 2, 18.925 #, 18.970 #
"""
"""Asterisk 22.10.1: seconds and keys; keys of 100 ms with 100 ms between, nothing for 500 ms of each 900."""
HELD_80_MS = """
33.654 4, 33.814 1, 33.974 1, 34.134 1, 35.134 1, 35.134 1, 35.179 1, 35.180 1, 35.305 1, 35.305 1,
35.430 1, 35.430 1, 35.555 1, 35.555 1, 35.680 1, 35.680 1, 35.805 1, 35.805 1, 35.930 1, 35.930 1,
36.055 1, 36.055 1, 36.180 1, 36.180 1, 36.305 1, 36.835 2, 36.835 #, 36.880 #
"""
"""Of 80 ms with 80 ms between, nothing for 900 ms of each 1700."""


def new(told: list[tuple[float, str, float]]) -> str:
    """The keys that count, of what was told: milliseconds, key, its length in milliseconds."""
    keys = Keys()
    return "".join(key for at_ms, key, duration_ms in told if keys.is_new(key, duration_ms, at_ms))


BEGUN_BEFORE_THE_STALL = """
14.124 4, 14.324 1, 15.006 1, 15.006 1, 15.051 1, 15.051 1, 15.196 1, 15.197 1, 15.342 1, 15.343 1,
15.487 1, 15.906 1, 15.906 1, 15.951 1, 15.951 1, 16.096 1, 16.124 1, 16.242 1, 16.806 1, 16.806 1,
16.953 1, 16.953 1, 17.098 1, 17.098 1, 17.243 1, 17.243 1, 17.388 1, 17.706 #
"""
"""Of 100 ms again, on a busy machine: the one of 16.806 began within the gap after another, and ended 400 ms late."""


@pytest.mark.parametrize(
    ("record", "duration_ms", "keys"),
    [(HELD_100_MS, 100, CARD), (HELD_80_MS, 80, CARD), (BEGUN_BEFORE_THE_STALL, 100, "4111111111111111#")],
    ids=["held 100 ms", "held 80 ms", "begun before the stall"],
)
def test_each_counts_once_on_a_line_that_stalls(record: str, duration_ms: float, keys: str) -> None:
    told = [(float(at) * 1000, key, duration_ms) for at, key in (one.split() for one in record.split(","))]
    assert len(told) > len(keys)
    assert new(told) == keys


def test_what_is_surely_queued_may_be_told_again_late() -> None:
    """A busy machine. The second came within the gap after the first."""
    assert new([(0, "1", 100), (1, "1", 100), (GAP_MS + 600, "1", 100)]) == "11"


def test_what_was_told_again_too_late_was_pressed() -> None:
    """The event that told of it again was lost, with the socket."""
    assert new([(0, "1", 100), (1, "1", 100), (GAP_MS + 1600, "1", 100)]) == "111"


@pytest.mark.parametrize(("held_ms", "up_ms"), [(60, 30), (60, 40), (100, 40), (250, 30)])
def test_a_fast_dialler_loses_no_key(held_ms: float, up_ms: float) -> None:
    """Each may be in Asterisk's queue, and none is."""
    assert new([(at * (held_ms + up_ms), "1", held_ms) for at in range(12)]) == "1" * 12


def test_queued_ones_are_told_again_in_their_order() -> None:
    told = [(0, "1", 100), (1, "2", 100), (2, "3", 100), (46, "2", 100), (191, "3", 100)]
    assert new(told) == "123"


@given(
    held=st.lists(st.tuples(st.sampled_from("0123456789*#"), st.integers(40, 400), st.integers(46, 3000)), max_size=60),
    began_ms=st.integers(0, 10**13),
)
def test_keys_of_a_good_line_all_count(held: list[tuple[str, int, int]], began_ms: int) -> None:
    """Key, how long it is held, and how long the finger is up before it: none is taken for one before."""
    told, at_ms = [], began_ms
    for key, duration_ms, up_ms in held:
        at_ms += up_ms + duration_ms
        told.append((float(at_ms), key, float(duration_ms)))
    assert new(told) == "".join(key for key, _, _ in held)
