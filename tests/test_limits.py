"""How busy is too busy, and how fast is too fast."""

from __future__ import annotations

import asyncio
import os
from unittest.mock import Mock

import pytest

from sipagent.config.limits import Limits
from sipagent.limits import CLOCK, CORE, MACHINE, SWITCH, Counted, Gate, Load, Rate, Spent
from sipagent.meter import Histogram, Meter


def seen(*seconds: float) -> Histogram:
    """Of these, as the worker's clock and its ARI client count them."""
    meter = Meter(0.001, 0.005, 0.01, 0.025, 0.1)
    for value in seconds:
        meter.observe(value)
    return meter.read()


NOTHING = seen()


def used(own_s: float, at_s: float = 0.0, *, left_s: float | None = None) -> Spent:
    """So far, on a machine of four cores that has nothing else to do; or that has had `left_s` left over."""
    return Spent(own_s, 4 * at_s if left_s is None else left_s, cores=4)


def test_a_worker_that_uses_its_core_up_takes_no_more() -> None:
    load = Load()
    load.look(100.0, used(10.0, 100.0), NOTHING, NOTHING)
    assert not load.too_much(Limits())
    load.look(102.0, used(11.9, 102.0), NOTHING, NOTHING)
    assert load.core == pytest.approx(0.95)
    assert load.too_much(Limits()) == CORE
    assert not load.too_much(Limits(core_percent=96))
    assert not load.too_much(Limits(core_percent=0))
    load.look(103.0, used(12.0, 103.0), NOTHING, NOTHING)
    assert not load.too_much(Limits())  # and again, when it has room


def test_a_machine_that_is_used_up_takes_no_more_whoever_it_is() -> None:
    """Asterisk and the workers keep their sound only while something is left over for both."""
    load, left_s = Load(), 0.0

    def look(at_s: float, more_s: float) -> str:
        """Of four seconds a second."""
        nonlocal left_s
        left_s += more_s
        load.look(at_s, used(10.0, left_s=left_s), NOTHING, NOTHING)
        return load.too_much(Limits(machine_percent=90))

    assert look(100.0, 0.0) == ""
    assert look(101.0, 0.0) == ""  # a hiccup
    assert look(102.0, 0.5) == ""
    assert look(103.0, 0.3) == ""
    assert look(104.0, 0.3) == MACHINE
    assert load.too_much(Limits(machine_percent=90, core_percent=0)) == MACHINE
    assert not load.too_much(Limits(machine_percent=95))
    assert not load.too_much(Limits())  # what gives way to calls is no reason to refuse one
    assert look(105.0, 0.5) == ""


def test_the_kernel_tells_what_was_spent() -> None:
    before = Spent.now(machine=True)
    assert sum(range(2_000_000))
    after = Spent.now(machine=True)
    assert after.own_s > before.own_s
    assert after.idle_s >= before.idle_s
    assert after.cores == os.cpu_count()
    assert Spent.now(machine=False).cores == 0


def test_a_reload_that_asks_for_the_machine_does_not_take_what_was_before_for_its_use() -> None:
    load = Load()
    for at in range(6):
        load.look(100.0 + at, Spent(1.0, 4.0 * at, cores=4) if at > 2 else Spent(1.0), NOTHING, NOTHING)
        assert not load.too_much(Limits(machine_percent=1))


def test_a_look_that_comes_too_soon_changes_nothing() -> None:
    load = Load()
    load.look(100.0, used(10.0, 100.0), NOTHING, NOTHING)
    load.look(100.2, used(10.2, 100.2), NOTHING, NOTHING)
    assert load.core == 0


@pytest.mark.parametrize(("why", "bound"), [(CLOCK, 0.010), (SWITCH, 0.025)])
def test_what_comes_late_for_two_windows_on_end_is_too_much_whatever_the_core_says(why: str, bound: float) -> None:
    """The machine is somebody else's: a backup, or Asterisk with calls of its own."""
    load, so_far = Load(), list[float]()

    def look(at_s: float, *more: float) -> str:
        so_far.extend(more)
        what = {CLOCK: NOTHING, SWITCH: NOTHING, why: seen(*so_far)}
        load.look(at_s, used(10.0, at_s), what[CLOCK], what[SWITCH])
        return load.too_much(Limits())

    on_time, late = [bound] * 85, [bound + 0.001] * 15
    assert look(100.0, *late) == ""  # who looks for the first time has not seen it last
    assert look(101.0, *on_time) == ""
    assert look(102.0, *on_time, *late) == ""  # a hiccup
    assert look(103.0, *on_time) == ""
    assert look(104.0, *on_time, *late) == ""
    assert look(105.0, *on_time, *late) == why
    assert not load.too_much(Limits(core_percent=0))
    assert look(106.0, *on_time) == ""


def test_nothing_is_concluded_from_a_few_answers() -> None:
    load = Load()
    for at in range(5):
        load.look(100.0 + at, used(10.0, at), NOTHING, seen(*[0.5] * 9 * at))
        assert not load.too_much(Limits())


async def test_a_worker_is_looked_at_all_the_time() -> None:
    gate, meter = Gate(workers=1), Meter(0.01)
    watching = asyncio.create_task(gate.watch(meter, meter, Limits))
    gate.load.look = Mock()  # type: ignore[method-assign]
    await asyncio.sleep(0)
    assert gate.load.look.call_count == 1
    watching.cancel()


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
