"""A crowd on the whole node: N calls at once through real Asterisk, every frame followed from end to end.

The load generator is both ends: the callers' RTP, which Asterisk sends to the worker's ExternalMedia, and the model
that the worker talks to. G.711 passes through Asterisk bit for bit (two channels of one codec in a mixing bridge), so
the stamps survive, and loss, order, crosstalk, delay, pacing and barge-in are judged at the caller and at the model
with all of the node in between. SIPp signals; it takes no part in the media.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Literal

from bench.generator import PATIENCE_S, NotUp
from bench.results import Down, Figures, find_faults
from bench.whole import Level, Node, Shape, Spent, whole
from sipagent.audio import PTIME_MS

MAX_P99_MS = 10.0
"""Half a frame, for uplink and pacing each: with Asterisk on the same two cores as everything else."""
MIN_SENT = 0.995
"""Of what all callers say in the window."""
RAMP_PATIENCE_S = 20.0
_LEAVE_S = 20.0
"""SIPp with its last BYEs, after Asterisk hung up."""
_FOREVER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is run."""

    calls: int
    seconds: float = 8.0
    settle_s: float = 4.0
    rate: float = 15.0
    """Calls that come in per second in the ramp."""
    fifo: bool = False
    lose_every: int = 0
    """Of each caller's frames one in so many is not sent: the self-check."""
    records: int = 0
    """Calls of the past that the node's records hold."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case, in its window."""

    case: Case
    cpu_percent_a_call: dict[str, float]
    """Of one core."""
    busy: float
    others_busy: float
    """Both as `whole.Spent` has them."""
    rss_kb: dict[str, int]
    descriptors: dict[str, int]
    figures: Figures
    ended: dict[str, int]
    """The worker's own account: how calls ended, warnings, errors."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sitting:
    """Runs, lowest number of calls first."""

    started_at: str
    machine: str
    runs: list[Run]
    kind: Literal["crowd"] = "crowd"


Beside = Callable[[Node], AbstractAsyncContextManager[None]]
"""What goes on at the node while it is measured."""


async def measure(
    case: Case, say: Callable[[str], None] = lambda _: None, beside: Beside = lambda _: contextlib.nullcontext()
) -> Run:
    """One run on a fresh node. NotUp when its calls do not come up."""
    phases = ("--seconds", str(case.seconds), "--settle", str(case.settle_s), "--lose", str(case.lose_every))
    async with whole(Shape(case.calls, phases=phases, fifo=case.fifo, records=case.records), say) as node:
        async with node.dial(case.calls, case.rate, _FOREVER_S) as callers:
            try:
                await node.load.hear("up", case.calls / case.rate + RAMP_PATIENCE_S)
            except NotUp:
                raise NotUp(f"{await node.channels()} channels, {dict(node.ended())}") from None
            await node.load.hear("start", case.settle_s + PATIENCE_S)
            async with beside(node):
                before = await node.level()
                await node.load.hear("end", case.seconds + PATIENCE_S)
                after = await node.level()
            figures = await node.load.figures()
            await node.hang_up_all()
            await callers.wait(_LEAVE_S)
            unanswered = sum(call.answered_at is None for call in callers.signalling())
        await _worker_at_rest(node, case.calls)
        faults = find_faults(figures, MAX_P99_MS) + ([f"unanswered: {unanswered}"] if unanswered else [])
        if figures.up.sent < MIN_SENT * case.calls * case.seconds * 1000 / PTIME_MS:
            faults.append(f"callers sent {figures.up.sent} frames in the window: they were not all there")
        return _run(case, before, after, figures, dict(node.ended()), faults)


async def _worker_at_rest(node: Node, calls: int) -> None:
    """The worker has told the end of every call; asked of its log, which is all that knows of each."""
    for _ in range(50):
        if sum(count for what, count in node.ended().items() if what.startswith("call ended")) >= calls:
            return
        await asyncio.sleep(0.1)


def _run(case: Case, before: Level, after: Level, figures: Figures, ended: dict[str, int], faults: list[str]) -> Run:
    spent = Spent.between(before, after)
    return Run(
        case=case,
        cpu_percent_a_call={name: round(100 * used / case.calls, 3) for name, used in spent.cores.items()},
        busy=round(spent.busy, 3),
        others_busy=round(spent.others_busy, 3),
        rss_kb=before.rss_kb,
        descriptors=before.descriptors,
        figures=figures,
        ended=ended,
        faults=faults,
    )


async def rise(case: Case, numbers: Sequence[int], say: Callable[[str], None]) -> list[Run]:
    """Each number of calls once; upwards, and the first that does not even come up is the last."""
    runs: list[Run] = []
    for calls in numbers:
        try:
            runs.append(await measure(replace(case, calls=calls)))
        except NotUp as error:
            say(f"{calls} calls did not come up: {error}")
            break
        say(describe(runs[-1]))
    return runs


async def self_check(say: Callable[[str], None]) -> bool:
    """Callers that leave out a frame in 200: all of these must be missed at the model, and nothing else be wrong.

    What the worker puts in their place is no frame of theirs, so it counts as garbled.
    """
    run = await measure(Case(20, seconds=8.0, settle_s=2.0, lose_every=200))
    say(describe(run))
    up = run.figures.up
    missed = abs(up.lost - up.sent / run.case.lose_every) <= run.case.calls / 4  # the window has whole cycles, almost
    return missed and {fault.partition(":")[0] for fault in run.faults} <= {"uplink lost", "uplink garbled"}


def _added(down: Down) -> str:
    added = down.turn_added_ms
    return f"added to a turn {added.p50:.1f}/{added.p95:.1f}/{added.p99:.1f} ms, " if added else ""


def describe(run: Run) -> str:
    """One line."""
    up, down, answers = run.figures.up, run.figures.down, run.figures.answers
    cpu = ", ".join(f"{name} {percent:.2f}" for name, percent in run.cpu_percent_a_call.items())
    return (
        f"{run.case.calls} calls: {'pass' if not run.faults else 'FAIL ' + ', '.join(run.faults)}; "
        f"uplink {up.delay_ms.p50:.2f}/{up.delay_ms.p99:.2f}, pacing {down.pacing_ms.p50:.2f}/"
        f"{down.pacing_ms.p99:.2f}, first audio {down.first_audio_ms.p99:.1f}, drift {down.drift_ms.p99:.1f} ms, "
        f"{_added(down)}{answers.after_frames.p99:.0f} frames ({answers.after_ms.p99:.1f} ms) after a barge-in; "
        f"% of a core a call: {cpu}; machine {run.busy:.0%} busy, {run.others_busy:.0%} by others; "
        f"RSS {', '.join(f'{name} {kb // 1024} MB' for name, kb in run.rss_kb.items())}; {run.ended}"
    )
