"""Input after input, for as long as is wanted; each finding with the number that repeats it."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from bench.fuzz.targets import Target

MOST_FINDINGS = 5
"""Of a kind that has the same last line; then the target is left."""


@dataclass(slots=True)
class Fuzzed:
    """What came of one target."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)
    """What was raised and where, and how to see it again."""


def fuzz(target: Target, seed: int, seconds: float = 0.0, inputs: int = 0, first: int = 0) -> Fuzzed:
    """For so long, or so many."""
    found, began = Fuzzed(target.name), time.monotonic()
    for number in count(first):
        if (inputs and number >= first + inputs) or (seconds and time.monotonic() - began >= seconds):
            break
        made = target.make(random.Random(f"{target.name} {seed} {number}"))  # noqa: S311 - no secret
        found.inputs += 1
        try:
            target.hold(made)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = (
                f"{type(error).__name__} in {where.name} ({where.filename.rpartition('/')[2]}:{where.lineno}): {error}"
            )
            repeat = f"python -m bench fuzz --target {target.name} --seed {seed} --at {number}"
            found.findings.setdefault(kind[:300], repeat)
            if len(found.findings) >= MOST_FINDINGS:
                break
    found.seconds = time.monotonic() - began
    return found


def table(all_found: Sequence[Fuzzed]) -> str:
    """As Markdown."""
    rows = [
        f"| {one.target} | {one.inputs} | {one.inputs / one.seconds if one.seconds else 0:.0f} | {len(one.findings)} |"
        for one in all_found
    ]
    return "\n".join(["| target | inputs | inputs/s | findings |", "| --- | --- | --- | --- |", *rows])


def again(target: Target, seed: int, number: int, say: Callable[[str], None]) -> None:
    """One input, shown, and whatever it raises."""
    made = target.make(random.Random(f"{target.name} {seed} {number}"))  # noqa: S311 - no secret
    say(repr(made))
    target.hold(made)
    say("nothing wrong")
