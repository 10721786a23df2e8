"""Whether there is room for one more call in, so that those that are up keep their sound.

Calls are counted by Asterisk, in a group of channels for each limit: so the count is exact, whichever worker has them,
and goes on when a worker dies. How busy a worker is, it knows itself.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from dataclasses import dataclass

from sipagent.ari.objects import ChannelHandle
from sipagent.config.limits import Limits
from sipagent.meter import Histogram

OVERLOAD, RATE, NODE, CALLER, ROUTE = "overload", "rate", "node", "caller", "route"
WINDOW_S = 1.0
"""Load is looked at over so long at least."""
LATE_S, MANY_LATE = 0.02, 0.05
"""A clock that comes a whole frame late in every twentieth tick: what callers hear is uneven already."""


class Load:
    """How busy this worker is (core: the time and what was counted are arguments)."""

    def __init__(self) -> None:
        self.core = self.late = 0.0
        """Shares within the last window: of one core, and of the clock's ticks that came `LATE_S` late or later."""
        self._last: tuple[float, float, int, int] | None = None

    def look(self, now_s: float, cpu_s: float, ticks: Histogram) -> None:
        """The processor time that the process has used, and how late each tick of its clock has come, so far."""
        late = sum(ticks.counts[bisect_left(ticks.bounds_s, LATE_S) + 1 :])
        every = sum(ticks.counts)
        if self._last is None:
            self._last = now_s, cpu_s, every, late
            return
        then_s, cpu_then_s, every_then, late_then = self._last
        if now_s - then_s >= WINDOW_S:
            self.core = (cpu_s - cpu_then_s) / (now_s - then_s)
            self.late = (late - late_then) / max(every - every_then, 1)
            self._last = now_s, cpu_s, every, late

    def too_much(self, limits: Limits) -> bool:
        """One call more would be heard by the others."""
        return bool(limits.core_percent) and (self.core * 100 > limits.core_percent or self.late > MANY_LATE)


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
    for one in counted:
        if not one.at_once:
            continue
        await channel.set_variable(f"GROUP({one.limit})", one.group)
        count = await channel.variable(f"GROUP_COUNT({one.group}@{one.limit})")
        if count.isdigit() and int(count) > one.at_once:
            return one.limit
    return ""


class Gate:
    """One worker's."""

    def __init__(self, workers: int) -> None:
        self.load, self.rate = Load(), Rate(workers)

    def look(self, ticks: Histogram) -> None:
        """Now and then, every second or oftener."""
        self.load.look(time.monotonic(), time.process_time(), ticks)

    def shut(self, limits: Limits) -> str:
        """OVERLOAD while this worker should take no call."""
        return OVERLOAD if self.load.too_much(limits) else ""
