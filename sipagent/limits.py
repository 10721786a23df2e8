"""Whether there is room for one more call in, so that those that are up keep their sound.

Calls are counted by Asterisk, in a group of channels for each limit: so the count is exact, whichever worker has them,
and goes on when a worker dies. How busy a worker is, it knows itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from sipagent import tuning
from sipagent.ari.objects import ChannelHandle
from sipagent.config.limits import Limits
from sipagent.meter import Histogram, Meter

CORE, WAIT, CLOCK, SWITCH = "core", "wait", "clock", "switch"
"""Of a worker that is too busy: it is always at it, or others' calls keep it waiting for a core, or its clock comes
late, or Asterisk answers it late."""
RATE, NODE, CALLER, ROUTE = "rate", "node", "caller", "route"
WINDOW_S = 1.0
"""Load is looked at over so long at least."""
LONG_WAITS = 0.05
"""A worker with priority that had no core for so much of the time while it wanted one waited for Asterisk and other
workers. On two cores packets left 3 to 4 ms late (p99) then, and 10 to 20 at 0.1 to 0.13, where both cores are full."""
LATE_S, MANY_LATE = 0.01, 0.05
"""A clock that comes half a frame late in every twentieth tick: what callers hear is uneven."""
SLOW_S, MANY_SLOW, FEW = 0.025, 0.1, 10
"""An Asterisk that needs so long for every tenth answer (0.1 to 7 ms are usual) has no processor time left, and calls'
packets wait as its answers do; of a few answers in a window nothing is concluded."""


def _longer(seen: Histogram, bound_s: float) -> tuple[int, int]:
    """How many were longer, and of how many."""
    return sum(seen.counts[bisect_left(seen.bounds_s, bound_s) + 1 :]), sum(seen.counts)


class _Lasting:
    """A share, 0 to 1, as far as it lasts: a hiccup is in one window, not in two on end."""

    def __init__(self) -> None:
        self._shares = (0.0, 0.0)

    @property
    def lasting(self) -> float:
        """The lesser of the last two windows'."""
        return min(self._shares)

    def add(self, share: float) -> None:
        """A window is over."""
        self._shares = self._shares[1], share


class _Longer(_Lasting):
    """Of what was longer than a bound."""

    def __init__(self, bound_s: float, few: int = 0) -> None:
        super().__init__()
        self._bound_s, self._few = bound_s, few
        self._last = (0, 0)

    def look(self, seen: Histogram) -> None:
        """A window is over; `seen` since the start."""
        (longer, every), (longer_then, every_then) = _longer(seen, self._bound_s), self._last
        self._last = longer, every
        of = every - every_then
        self.add((longer - longer_then) / of if of > self._few else 0.0)


@dataclass(frozen=True, slots=True)
class Spent:
    """Of processors, up to now."""

    own_s: float
    """What this process has used."""
    waited_s: float = 0.0
    """How long its loop had none while it wanted one."""
    first: bool = False
    """It has priority: it waited only for what has the same, which is other calls' work."""

    @classmethod
    def now(cls) -> Spent:
        """By the kernel's word."""
        return cls(time.process_time(), tuning.waited_s(), tuning.is_first())


class Load:
    """How busy this worker is (core: the time and what was counted are arguments)."""

    def __init__(self) -> None:
        self._core, self._wait = _Lasting(), _Lasting()
        self._late, self._slow = _Longer(LATE_S), _Longer(SLOW_S, FEW)
        self._last: tuple[float, Spent] | None = None

    def look(self, now_s: float, spent: Spent, ticks: Histogram, answers: Histogram) -> None:
        """So far: processor time, how late ticks of the worker's clock came, and Asterisk's answers."""
        if self._last is not None:
            then_s, then = self._last
            window_s = now_s - then_s
            if window_s < WINDOW_S:
                return
            waited = (spent.waited_s - then.waited_s) / window_s
            # A loop that waits for a core is as busy as one that runs: what comes meanwhile is late.
            self._core.add((spent.own_s - then.own_s) / window_s + waited)
            self._wait.add(waited if then.first else 0.0)
        self._late.look(ticks)
        self._slow.look(answers)
        self._last = now_s, spent

    def too_much(self, limits: Limits) -> str:
        """Why one call more would be heard by the others; empty when it would not."""
        if not limits.core_percent:
            return ""
        if self._core.lasting * 100 > limits.core_percent:
            return CORE
        if self._wait.lasting > LONG_WAITS:
            return WAIT
        if self._late.lasting > MANY_LATE:
            return CLOCK
        return SWITCH if self._slow.lasting > MANY_SLOW else ""


class Rate:
    """New calls a second: one worker's even share, with a second's worth of them at once (core).

    The generic cell rate algorithm (ITU-T I.371, annex A).
    """

    def __init__(self, workers: int) -> None:
        self._workers = max(workers, 1)
        self._due_s = 0.0

    def has_room(self, per_second: float, now_s: float) -> bool:
        """For one more now, which is then counted; 0 is no limit."""
        if not per_second:
            return True
        interval_s = self._workers / per_second
        due_s = max(self._due_s, now_s)
        if due_s - now_s > max(1.0 - interval_s, 0.0):
            return False
        self._due_s = due_s + interval_s
        return True


@dataclass(frozen=True, slots=True)
class Counted:
    """One limit on calls that are up at the same time."""

    limit: str
    at_once: int
    name: str = "all"
    """Which of its kind: the route's, the caller's."""

    @property
    def group(self) -> str:
        """As Asterisk names it: nothing in it may mean something to the dialplan."""
        return re.sub(r"[^0-9A-Za-z+]", "-", self.name)


async def full(channel: ChannelHandle, *counted: Counted) -> str:
    """The first limit that this channel is one too many for; empty when it has its place in all of them.

    Raises:
        AriError: the channel is gone.
    """
    taken: list[str] = []
    for one in counted:
        if not one.at_once:
            continue
        taken.append(one.limit)
        await channel.set_variable(f"GROUP({one.limit})", one.group)
        count = await channel.variable(f"GROUP_COUNT({one.group}@{one.limit})")
        if count.isdigit() and int(count) > one.at_once:
            for limit in taken:  # wherever they go, they hold no place that another one could have
                await channel.set_variable(f"GROUP({limit})", "")
            return one.limit
    return ""


class Gate:
    """One worker's."""

    def __init__(self, workers: int) -> None:
        self.load, self.rate = Load(), Rate(workers)

    async def watch(self, ticks: Meter, answers: Meter, limits: Callable[[], Limits]) -> None:
        """Look at the load, until cancelled: the worker's clock, and how long Asterisk's answers take."""
        while True:
            self.load.look(time.monotonic(), Spent.now(), ticks.read(), answers.read())
            await asyncio.sleep(WINDOW_S)
