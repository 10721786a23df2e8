"""Counting how long things take where a library would cost too much: in the 2 ms tick of a worker.

The counts travel with the worker's state; the control process shows them as Prometheus histograms.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """How often what was seen: `counts[i]` values were at most `bounds_s[i]` and more than the one before.

    The last count, one more than there are bounds, is of all that was longer.
    """

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float


class Meter:
    """Fills one histogram."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, *bounds_s: float) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """One value; some tenths of a microsecond."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> Histogram:
        """What has been seen since the start."""
        return Histogram(self._bounds_s, tuple(self._counts), round(self._sum_s, 6))
