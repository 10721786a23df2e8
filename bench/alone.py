"""The worker alone: how much of a core a call costs, how many calls a core carries, how late audio gets.

Bridge and load each have a core; Asterisk and the network are left out. Three bridges can stand in the same place:
the worker, a floor in C, and the naive one. Rounds are interleaved (A B C A B C), since what other work does to
the machine then meets all of them; ratios are taken within a round. A capacity search goes up until a number
of calls fails twice, since once may be the machine's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.generator import NotUp
from bench.results import Attempt, Capacity, Case, Run
from bench.rig import measure

Say = Callable[[str], None]
SPOILT = 0.05
"""Told when the bridge had to do without its core for more than this share of the window."""


async def interleave(cases: Sequence[Case], rounds: int, say: Say) -> list[list[Run]]:
    """Every case once a round."""
    found: list[list[Run]] = []
    for number in range(1, rounds + 1):
        found.append(runs := [])
        for case in cases:
            run = await measure(case)
            runs.append(run)
            say(f"round {number}: {describe(run)}")
    return found


async def search(case: Case, step: int, limit: int, say: Say) -> Capacity:
    """Upwards from the case's number of calls, by `step`; a failure counts when it repeats."""
    attempts: list[Attempt] = []
    carried, calls = 0, case.calls
    while calls <= limit:
        attempt = await _attempt(replace(case, calls=calls), say)
        attempts.append(attempt)
        if attempt.faults:
            attempt = await _attempt(replace(case, calls=calls), say)
            attempts.append(attempt)
        if attempt.faults:
            return Capacity(case.bridge, case.tls, carried, calls, attempts)
        carried, calls = calls, calls + step
    return Capacity(case.bridge, case.tls, carried, None, attempts)


async def _attempt(case: Case, say: Say) -> Attempt:
    try:
        run = await measure(case)
    except NotUp as error:
        say(f"{case}: {error}")
        return Attempt(case.calls, [str(error)], None)
    say(describe(run))
    return Attempt(case.calls, run.faults, run)


def describe(run: Run) -> str:
    """One line."""
    up, down, answers = run.figures.up, run.figures.down, run.figures.answers
    return (
        f"{run.case}: {'pass' if not run.faults else 'FAIL ' + ', '.join(run.faults)}; "
        f"{run.cpu_ms_per_cs:.2f} ms/cs ({run.user_share:.0%} user), core {run.core_busy:.0%}, "
        f"uplink {up.delay_ms.p50:.2f}/{up.delay_ms.p99:.2f}, pacing {down.pacing_ms.p50:.2f}/"
        f"{down.pacing_ms.p99:.2f}, drift {down.drift_ms.p99:.1f}, first audio {down.first_audio_ms.p99:.1f} ms, "
        f"{answers.after_frames.max:.0f} frames after a barge-in, {answers.truncate_wrong + answers.truncate_missing} "
        f"of {answers.cut} truncations wrong, {run.kb_per_call:.0f} KB a call; load {run.figures.load_busy:.0%}"
        + (f"; core taken away {run.waited + run.stolen:.0%}" if run.waited + run.stolen > SPOILT else "")
        + (f"; {run.complaints}" if run.complaints else "")
    )


# --- does the measuring measure?


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A fault built into the floor (`bench/floor.c`), and where it must show."""

    how: str
    shows: Callable[[Run], bool]


def _fault(words: str) -> Callable[[Run], bool]:
    return lambda run: any(fault.startswith(words) for fault in run.faults)


SABOTAGES = (
    Sabotage("drop", _fault("uplink lost")),
    Sabotage("lose", _fault("downlink lost")),
    Sabotage("swap", _fault("uplink crosstalk")),
    Sabotage("cross", _fault("downlink crosstalk")),
    Sabotage("bend", _fault("uplink garbled")),
    Sabotage("double", _fault("downlink disordered")),
    Sabotage("late", _fault("uplink p99")),
    Sabotage("drift", lambda run: run.figures.down.drift_ms.p50 > 30),
    Sabotage("deaf", lambda run: run.figures.answers.after_frames.p50 > 10),
    Sabotage("lie", lambda run: run.figures.answers.truncate_wrong == run.figures.answers.cut > 0),
)


async def self_check(case: Case, say: Say) -> bool:
    """The sound floor must pass and each broken one must be caught by the figure that is made for it."""
    sound = await measure(replace(case, bridge="floor"))
    say(describe(sound))
    well = not sound.faults and not any(sabotage.shows(sound) for sabotage in SABOTAGES)
    for sabotage in SABOTAGES:
        run = await measure(replace(case, bridge="floor", sabotage=sabotage.how))
        caught = sabotage.shows(run)
        well = well and caught
        say(f"{'caught' if caught else 'MISSED'}: {describe(run)}")
    return well
