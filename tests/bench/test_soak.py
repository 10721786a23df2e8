"""Memory that grows is told from memory that does not."""

from __future__ import annotations

import random

from bench.soak import growth
from bench.whole import Level


def samples(mb_a_1000_calls: float, noise_mb: float = 0.5) -> list[Level]:
    """A call a second for half an hour; a warm-up of 40 MB in the first five minutes."""
    chance = random.Random(1)
    found = []
    for at in range(0, 1800, 10):
        size = 100 + 40 * min(at / 300, 1) + mb_a_1000_calls * at / 1000 + chance.uniform(-noise_mb, noise_mb)
        found.append(Level(at, {}, 0.0, {"worker": round(1024 * size)}, {}, {}, {}, 0))
    return found


def test_a_warm_up_is_no_growth() -> None:
    assert growth(samples(0.0), "worker", 1.0).verdict == "flat"


def test_growth_is_found_and_measured() -> None:
    found = growth(samples(3.0), "worker", 1.0)
    assert found.verdict == "growing"
    assert abs(found.mb_per_1000_calls - 3.0) < 0.3


def test_a_minute_is_too_short_to_tell() -> None:
    assert growth(samples(3.0)[:6], "worker", 1.0).verdict == "too short to tell"
