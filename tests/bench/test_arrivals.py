"""The verdicts on calls that come and leave: each can turn out badly."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bench.arrivals import Arrived, Spread, arrived, leak_kb_a_call, match
from bench.callers import Signalling
from bench.generator import Greeted, Silent
from bench.whole import Level, Spent

GOOD = [Signalling(number, 10.0 + number, 10.01 + number, bye_by="caller") for number in range(5)]
HEARD = {number: Greeted(number, 10.02 + number, 0) for number in range(5)}


def batch(calls: list[Signalling], heard: dict[int, Greeted]) -> Arrived:
    return arrived(1.0, 2.0, calls, heard)


def test_calls_that_went_well_are_carried() -> None:
    found = batch(GOOD, HEARD)
    assert found.carried
    assert found.answered == found.heard == 5
    assert (found.setup_ms.p50, found.first_audio_ms.p95, found.came_per_second) == (10.0, 20.0, 1.0)


def test_every_way_to_fail_is_seen() -> None:
    unheard = {number: heard for number, heard in HEARD.items() if number != 3}
    assert batch(GOOD, unheard).failures == {"agent not heard": 1}
    assert batch(GOOD, HEARD | {3: Greeted(3, 13.1, 2)}).failures == {"first words cut off": 1}
    for change, failure in (
        ({"answered_at": None}, "no answer"),
        ({"refused": "503 Service Unavailable"}, "503 Service Unavailable"),
        ({"bye_by": "far end"}, "hung up on"),
    ):
        assert batch([*GOOD[:4], replace(GOOD[4], **change)], HEARD).failures == {failure: 1}


def test_who_is_left_in_silence_before_they_hang_up_is_seen() -> None:
    calls = [replace(call, bye_at=12.0 + call.number) for call in GOOD]
    silent = {number: Silent(number, 11.99 + number) for number in range(5)}
    assert not arrived(1.0, 2.0, calls, HEARD, silent=silent).failures
    silent[2] = Silent(2, 13.5)
    assert arrived(1.0, 2.0, calls, HEARD, silent=silent).failures == {"left in silence": 1}


def test_a_rate_that_was_not_dialled_is_not_carried() -> None:
    assert not arrived(1.2, 2.0, GOOD, HEARD).carried


def test_a_rate_at_which_the_agent_is_late_is_not_carried() -> None:
    late = {number: Greeted(number, heard.at + 0.2, 0) for number, heard in HEARD.items()}
    assert not batch(GOOD, late).failures
    assert not batch(GOOD, late).carried


def test_what_a_caller_heard_belongs_to_the_call_it_had_then() -> None:
    greeted = [Greeted(0, 10.5, 0), Greeted(1, 11.5, 0), Greeted(1, 13.5, 0), Greeted(0, 14.5, 0)]
    # Two callers for five calls: 0, 2, 4 are caller 0's; call 2 heard nothing.
    found = match(GOOD, 2, greeted)
    assert {number: heard.at for number, heard in found.items()} == {0: 10.5, 1: 11.5, 3: 13.5, 4: 14.5}


def level(at_s: float, kb: int) -> Level:
    return Level(at_s, {"worker": 0.1 * at_s}, 1.5 * at_s, {"worker": kb}, {}, {}, {}, 0)


def test_a_slope_is_told_from_a_step() -> None:
    step = [level(10.0 * n, 1000 if n < 5 else 9000) for n in range(12)]
    slope = [level(10.0 * n, 1000 + 500 * n) for n in range(12)]
    assert leak_kb_a_call(step, "worker", 5.0) == 0.0
    assert leak_kb_a_call(slope, "worker", 5.0) == 10.0
    assert leak_kb_a_call(slope[:9], "worker", 5.0) == 0.0


def test_what_others_used_is_the_rest_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    spent = Spent.between(level(0.0, 0), level(10.0, 0))  # idle 15 s of 20, the worker used 1
    assert (spent.cores, spent.busy, spent.others_busy) == ({"worker": 0.1}, 0.25, 0.2)


def test_a_spread_of_nothing_is_zero() -> None:
    assert Spread.of([]) == Spread(0, 0.0, 0.0, 0.0, 0.0)
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0, 3.0)
