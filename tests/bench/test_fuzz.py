"""What comes from outside, bent and broken: a short run of every fuzzer; `make fuzz` is the long one."""

from __future__ import annotations

import random

import pytest

from bench.fuzz.run import fuzz
from bench.fuzz.targets import TARGETS, Target

INPUTS = {
    "rtp-packet": 3000,
    "rtp-session": 300,
    "ari-events": 500,
    "realtime": 400,
    "stand-in": 3000,
    "carried": 2000,
    "configuration": 60,
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_raises_through(target: Target) -> None:
    found = fuzz(target, seed=20261126, inputs=INPUTS[target.name])
    assert found.findings == {}
    assert found.inputs == INPUTS[target.name]


def test_a_finding_names_the_input_that_repeats_it() -> None:
    def hold(number: int) -> None:
        if number % 7 == 3:
            raise ZeroDivisionError("three")

    broken = Target("broken", lambda chance: chance.randrange(100), hold)
    found = fuzz(broken, seed=1, inputs=50)
    (what, repeat), *_ = found.findings.items()
    assert what.startswith("ZeroDivisionError in hold (test_fuzz.py:")
    number = int(repeat.rpartition(" ")[2])
    assert broken.make(random.Random(f"broken 1 {number}")) % 7 == 3
