"""Whether a node that has calls coming and leaving for long is what it was: memory, descriptors, channels, tasks.

The run is `bench churn`'s. Memory is judged by a straight line through its samples without the first third, in which
arenas, pools and caches fill; a line that may as well be flat (twice its own error) is flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import linear_regression, mean

from bench.arrivals import MIN_LEAK_SAMPLES, Churn
from bench.whole import Level

GROWS_MB = 1.0
"""A thousand calls: what is less is an allocator's."""
PROCESSES = ("worker", "control", "asterisk")


@dataclass(frozen=True, slots=True)
class Growth:
    """Of a process's resident set."""

    mb_per_1000_calls: float
    error: float
    """Standard error of the slope."""
    samples: int

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.samples < MIN_LEAK_SAMPLES:
            return "too short to tell"
        return "growing" if self.mb_per_1000_calls - 2 * self.error > GROWS_MB else "flat"


def growth(samples: Sequence[Level], name: str, per_second: float) -> Growth:
    """Without the warm-up."""
    kept = samples[len(samples) // 3 :]
    if len(kept) < MIN_LEAK_SAMPLES:
        return Growth(0.0, 0.0, len(kept))
    calls = [(level.at_s - kept[0].at_s) * per_second / 1000 for level in kept]
    sizes_mb = [level.rss_kb[name] / 1024 for level in kept]
    slope, intercept = linear_regression(calls, sizes_mb)
    rest = sum((size - intercept - slope * call) ** 2 for call, size in zip(calls, sizes_mb, strict=True))
    spread = sum((call - mean(calls)) ** 2 for call in calls)
    return Growth(round(slope, 2), round(sqrt(rest / (len(kept) - 2) / spread), 2), len(kept))


def growing(found: Churn) -> list[str]:
    """Processes whose memory grows."""
    return [name for name in PROCESSES if growth(found.samples, name, found.arrived.per_second).verdict == "growing"]


def markdown(found: Churn, told: str) -> str:
    """The table and the verdict."""
    start, end = found.start, found.end
    rows = ["| process | RSS MB before / after | MB per 1000 calls | verdict | descriptors | threads |",
            "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name in PROCESSES:
        grown = growth(found.samples, name, found.arrived.per_second)
        rows.append(
            f"| {name} | {start.rss_kb[name] / 1024:.1f} / {end.rss_kb[name] / 1024:.1f} | "
            f"{grown.mb_per_1000_calls:+.2f} ± {2 * grown.error:.2f} | {grown.verdict} | "
            f"{start.descriptors[name]} / {end.descriptors[name]} | {start.threads[name]} / {end.threads[name]} |"
        )
    faults = ", ".join(found.faults) or "nothing"
    return f"""# Calls that come and leave

    make soak ARGS="{told}"

{found.started_at}, {found.machine}; {found.arrived.calls} calls, {found.arrived.heard} of them heard the agent.

{chr(10).join(rows)}

Tasks of the worker's event loop: {start.tasks} before, {end.tasks} after. Channels of Asterisk after: {end.channels}.
Left behind or gone wrong: {faults}.
"""
