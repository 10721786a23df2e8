"""How busy is too busy, and how fast is too fast."""

from __future__ import annotations

import pytest

from sipagent.config.limits import Limits
from sipagent.limits import Counted, Load, Rate
from sipagent.meter import Meter


def clock() -> Meter:
    return Meter(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)


def test_a_worker_that_uses_its_core_up_takes_no_more() -> None:
    load, ticks = Load(), clock().read()
    load.look(100.0, 10.0, ticks)
    assert not load.too_much(Limits())
    load.look(102.0, 11.9, ticks)
    assert load.core == pytest.approx(0.95)
    assert load.too_much(Limits())
    assert not load.too_much(Limits(core_percent=96))
    assert not load.too_much(Limits(core_percent=0))
    load.look(103.0, 12.0, ticks)
    assert not load.too_much(Limits())  # and again, when it has room


def test_a_look_that_comes_too_soon_changes_nothing() -> None:
    load, ticks = Load(), clock().read()
    load.look(100.0, 10.0, ticks)
    load.look(100.2, 10.2, ticks)
    assert load.core == 0


def test_a_clock_that_is_late_by_a_frame_is_overload_whatever_the_core_says() -> None:
    """The machine is somebody else's: Asterisk, a backup."""
    load, meter = Load(), clock()
    load.look(100.0, 10.0, meter.read())
    for _ in range(90):
        meter.observe(0.020)
    for _ in range(4):
        meter.observe(0.021)
    load.look(101.0, 10.1, meter.read())
    assert not load.too_much(Limits())
    for _ in range(90):
        meter.observe(0.001)
    for _ in range(10):
        meter.observe(0.5)
    load.look(102.0, 10.2, meter.read())
    assert load.too_much(Limits())


def test_new_calls_come_at_their_rate_with_a_seconds_worth_at_once() -> None:
    rate = Rate(workers=1)
    assert [rate.has_room(5, 10.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert rate.has_room(5, 10.2)
    assert not rate.has_room(5, 10.2)
    assert sum(rate.has_room(5, 20 + n / 100) for n in range(300)) == 5 + 14


def test_workers_share_the_rate() -> None:
    rates = [Rate(workers=2) for _ in range(2)]
    assert sum(rate.has_room(10, 1.0) for rate in rates for _ in range(10)) == 10


def test_a_slow_rate_lets_one_in_at_a_time() -> None:
    rate = Rate(workers=1)
    assert [rate.has_room(0.5, at) for at in (0.0, 1.0, 2.0)] == [True, False, True]


def test_no_rate_is_no_limit() -> None:
    rate = Rate(workers=1)
    assert all(rate.has_room(0, 1.0) for _ in range(1000))


def test_what_an_operator_calls_a_route_means_nothing_to_the_dialplan() -> None:
    assert Counted("route", 1, "Sales, ${EVIL} (night)").group == "Sales----EVIL---night-"
    assert Counted("caller", 1, "+442079460123").group == "+442079460123"
