"""How busy is too busy, and how fast is too fast."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any
from unittest.mock import Mock

import pytest

from sipagent.config.limits import Limits
from sipagent.limits import CLOCK, CORE, LONG_WAITS, SWITCH, WAIT, Counted, Gate, Load, Rate, Spent, full
from sipagent.meter import Histogram, Meter


def seen(*seconds: float) -> Histogram:
    """Of these, as the worker's clock and its ARI client count them."""
    meter = Meter(0.001, 0.005, 0.01, 0.025, 0.1)
    for value in seconds:
        meter.observe(value)
    return meter.read()


NOTHING = seen()


def test_a_worker_that_uses_its_core_up_takes_no_more() -> None:
    load, own_s = Load(), 10.0

    def look(at_s: float, more_s: float) -> str:
        nonlocal own_s
        own_s += more_s
        load.look(at_s, Spent(own_s), NOTHING, NOTHING)
        return load.too_much(Limits(core_percent=90))

    assert look(100.0, 0.0) == ""
    assert look(101.0, 0.95) == ""  # a hiccup
    assert look(102.0, 0.5) == ""
    assert look(103.0, 0.95) == ""
    assert look(104.0, 0.92) == CORE
    assert not load.too_much(Limits(core_percent=93))
    assert not load.too_much(Limits(core_percent=0))
    assert look(105.0, 0.5) == ""  # and again, when it has room


def waiting(share: float, *, first: bool, running: float = 0.5) -> str:
    """Of a worker that had no core for this share of three seconds while it wanted one."""
    load = Load()
    for second in range(4):
        load.look(100.0 + second, Spent(running * second, share * second, first), NOTHING, NOTHING)
    return load.too_much(Limits(core_percent=80))


def test_a_worker_with_priority_that_waits_all_the_same_takes_no_more() -> None:
    """Others' calls have the cores: Asterisk and other workers are before it as often as not."""
    assert waiting(LONG_WAITS + 0.01, first=True) == WAIT
    assert waiting(LONG_WAITS - 0.01, first=True) == ""


def test_a_worker_without_priority_waits_for_anybody() -> None:
    """And no call is refused for a backup, until the loop is as good as always at it."""
    assert waiting(0.28, first=False) == ""
    assert waiting(0.32, first=False) == CORE
    assert waiting(0.6, first=False, running=0.15) == ""


def test_a_hiccup_is_no_wait() -> None:
    load, waited_s = Load(), 0.0
    for at_s, more_s in ((100.0, 0.0), (101.0, 0.2), (102.0, 0.05), (103.0, 0.2)):
        waited_s += more_s
        load.look(at_s, Spent(0.0, waited_s, first=True), NOTHING, NOTHING)
        assert not load.too_much(Limits())
    load.look(104.0, Spent(0.0, waited_s + 0.2, first=True), NOTHING, NOTHING)
    assert load.too_much(Limits()) == WAIT
    assert not load.too_much(Limits(core_percent=0))


def test_what_was_waited_before_it_had_priority_does_not_count() -> None:
    load = Load()
    for second in range(6):
        first = second >= 3
        load.look(100.0 + second, Spent(0.0, 0.3 * min(second, 3), first), NOTHING, NOTHING)
        assert not load.too_much(Limits())


def test_the_kernel_tells_what_was_spent() -> None:
    before = Spent.now()
    assert sum(range(2_000_000))
    after = Spent.now()
    assert after.own_s > before.own_s
    assert after.waited_s >= before.waited_s > 0
    assert not after.first


WAITS = """
import os, sys, time
from sipagent.limits import Spent
try:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
except PermissionError:
    sys.exit("not permitted")
before = Spent.now()
if os.fork() == 0:  # as Asterisk: on the same core with the same priority
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    until = time.process_time() + 0.3
    while time.process_time() < until: pass
    os._exit(0)
while time.sleep(0.001) or os.waitpid(-1, os.WNOHANG)[0] == 0: pass
assert before.first
print(Spent.now().waited_s - before.waited_s)
"""


def test_with_priority_the_kernel_tells_how_long_it_waited_for_those_with_the_same() -> None:
    ran = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, check=False)
    if ran.stderr == "not permitted\n":
        assert not Spent.now().first  # then nobody has it, and no call is refused for its waiting
        return
    assert float(ran.stdout) > 0.1, ran.stderr


def test_a_look_that_comes_too_soon_changes_nothing() -> None:
    load = Load()
    load.look(100.0, Spent(10.0), NOTHING, NOTHING)
    load.look(100.2, Spent(10.2), NOTHING, NOTHING)
    load.look(101.0, Spent(10.2), NOTHING, NOTHING)
    load.look(102.0, Spent(11.2), NOTHING, NOTHING)
    assert not load.too_much(Limits())


@pytest.mark.parametrize(("why", "bound"), [(CLOCK, 0.010), (SWITCH, 0.025)])
def test_what_comes_late_for_two_windows_on_end_is_too_much_whatever_the_core_says(why: str, bound: float) -> None:
    """The machine is somebody else's: a backup, or Asterisk with calls of its own."""
    load, so_far = Load(), list[float]()

    def look(at_s: float, *more: float) -> str:
        so_far.extend(more)
        what = {CLOCK: NOTHING, SWITCH: NOTHING, why: seen(*so_far)}
        load.look(at_s, Spent(10.0), what[CLOCK], what[SWITCH])
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
        load.look(100.0 + at, Spent(10.0), NOTHING, seen(*[0.5] * 9 * at))
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


class Groups:
    """A channel and Asterisk's groups, as far as they go: one group of a kind for each channel."""

    def __init__(self, **others: int) -> None:
        self.others, self.mine = others, dict[str, str]()

    async def set_variable(self, name: str, group: str) -> None:
        kind = name.removeprefix("GROUP(").removesuffix(")")
        self.mine.pop(kind, None)
        if group:
            self.mine[kind] = group

    async def variable(self, name: str) -> str:
        kind = name.removesuffix(")").rpartition("@")[2]
        return str(self.others.get(kind, 0) + (kind in self.mine))


async def test_who_finds_no_room_leaves_every_place_and_who_does_has_them_all() -> None:
    asked = (Counted("node", 9), Counted("caller", 0, "+441"), Counted("route", 2, "sales"))
    channel: Any = Groups(node=3, route=1)
    assert await full(channel, *asked) == ""
    assert channel.mine == {"node": "all", "route": "sales"}
    channel = Groups(node=3, route=2)
    assert await full(channel, *asked) == "route"
    assert channel.mine == {}


def test_what_an_operator_calls_a_route_means_nothing_to_the_dialplan() -> None:
    assert Counted("route", 1, "Sales, ${EVIL} (night)").group == "Sales----EVIL---night-"
    assert Counted("caller", 1, "+442079460123").group == "+442079460123"
