"""Clocks around the stages of a frame's way: whose time is whose, and which seconds count."""

from __future__ import annotations

import time

import pytest

from bench import staged, stages
from sipagent.xai import by_picows

NAMES = [name for name, _, _ in staged.STAGES]


def test_a_stage_within_another_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0

    def work(ns: int) -> None:
        nonlocal now_ns
        now_ns += ns

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now_ns)
    clocks = staged.Clocks()
    inner = clocks.around(clocks.by_stage[NAMES[1]], lambda: work(300))

    def two_of_it() -> str:
        work(10)
        inner()
        inner()
        work(5)
        return "done"

    outer = clocks.around(clocks.by_stage[NAMES[0]], two_of_it)
    assert outer() == "done"
    assert outer() == "done"
    read = clocks.read()
    assert read[:4] == [2, 30, 4, 1200]


def test_every_stage_is_there_to_have_a_clock_put_around_it() -> None:
    assert all(method in vars(owner) for _, owner, method in staged.STAGES)
    assert callable(by_picows.sender)


def test_only_the_seconds_with_all_calls_count() -> None:
    def sample(frames: int, read_ns: int, cpu_ns: int) -> list[int]:
        return [frames, read_ns, *(0 for _ in NAMES[1:] for _ in range(2)), cpu_ns]

    samples = [sample(0, 0, 0), sample(10, 999_000, 9_000_000), sample(110, 1_199_000, 10_000_000)]
    samples += [sample(210, 1_399_000, 11_000_000), sample(215, 9_000_000, 50_000_000)]
    found = staged.evaluate(samples)
    assert found.cpu_us == pytest.approx(10)
    assert found.stages_us[NAMES[0]] == found.each_us[NAMES[0]] == pytest.approx(2)
    lines = stages.table(found).splitlines()
    assert lines[2] == f"| {NAMES[0]} | 2.0 | 2.0 |"
    assert lines[-2].endswith("| 8.0 |  |")
