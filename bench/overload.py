"""Nearly twice as many calls as there is room for: do those who are in hear what they should, and what do the others?

Calls come all the time, each for the same while, so many that nearly twice as many would be up at once as there is room
for, by `[limits] core_percent` and whatever else keeps a busy worker from taking calls. Every caller is
followed by the load generator, those that are turned away too: from their INVITE to the first sound of a voice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench import results
from bench.arrivals import GREETING, REST_S, Spread, arrived, match
from bench.callers import Signalling
from bench.generator import PATIENCE_S, Greeted, Voice
from bench.results import Figures
from bench.whole import Node, Shape, Spent, whole
from sipagent.config.limits import Limits

MAX_PACING_P99_MS = 5.0
MAX_VOICE_S = 1.0
"""From the INVITE of somebody who is turned away."""
MIN_OVERLOAD = 0.2
"""Of those who come so many find no room, at least; and `MIN_SHARE` of them were turned away in the window."""
MIN_SHARE = 0.7
_LEAVE_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """What is run."""

    core_percent: int = Limits().core_percent
    per_second: float = 5.0
    hold_s: float = 40.0
    """Each call: `per_second` times this would be up at once, were there room. The window is as long, for calls that
    filled the node within a moment leave it within a moment: in a shorter one everybody is let in, or nobody."""
    fifo: bool = True
    """Priority for worker and Asterisk, as by default."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One run."""

    started_at: str
    machine: str
    case: Case
    offered: float
    """Calls that would be up at once (erlang)."""
    up: float
    """Calls that were up, on average of the window."""
    admitted: int
    turned_away: int
    """Of the calls that came in the window."""
    setup_ms: Spread
    """INVITE to 200, of those who were let in."""
    first_audio_ms: Spread
    """INVITE to the agent's voice, of the same."""
    told_ms: Spread
    """INVITE to a voice, of those turned away."""
    unheard: int
    """Of those, who heard nothing."""
    cores: dict[str, float]
    busy: float
    figures: Figures
    ended: dict[str, int]
    faults: list[str] = field(default_factory=list)
    kind: Literal["overload"] = "overload"


async def overload(case: Case, say: Say) -> Overload:
    """One run on a fresh node."""
    ramp_s = case.hold_s + REST_S
    calls = round(case.per_second * (ramp_s + case.hold_s))
    slots = round(case.per_second * (case.hold_s + REST_S)) + 10
    shape = Shape(slots, greeting=GREETING, by_order=True, fifo=case.fifo, core_percent=case.core_percent)
    async with whole(shape, say) as node:
        async with node.dial(calls, case.per_second, case.hold_s) as callers:
            await asyncio.sleep(ramp_s)
            node.load.order("start")
            await node.load.hear("start", PATIENCE_S)
            before, since = await node.level(), time.time()
            await asyncio.sleep(case.hold_s)
            after, until = await node.level(), time.time()
            node.load.order("end")
            await node.load.hear("end", PATIENCE_S)
            figures = await node.load.figures()
            await callers.wait(case.hold_s + _LEAVE_S)
            signalled = callers.signalling()
        await node.load.catch_up()
        spent, ended = Spent.between(before, after), dict(node.ended())
        return _judge(case, node, signalled, (since, until), figures, spent, ended)


def _judge(
    case: Case, node: Node, signalled: Sequence[Signalling], window: tuple[float, float], figures: Figures,
    spent: Spent, ended: dict[str, int],
) -> Overload:  # fmt: skip
    slots = len(node.load.caller_ports)
    greeted, told = match(signalled, slots, node.load.greeted), match(signalled, slots, node.load.voices)
    silent = match(signalled, slots, node.load.silent)
    since, until = window
    came = [call for call in signalled if since <= (call.invited_at or 0.0) < until]
    admitted = [call for call in came if call.answered_at is not None]
    away = [call for call in came if call.refused]
    found = Overload(
        *results.stamp(),
        case=case,
        offered=case.per_second * case.hold_s,
        up=round(_up(signalled, since, until), 1),
        admitted=len(admitted),
        turned_away=len(away),
        setup_ms=Spread.of([1000 * (at - c.invited_at) for c in admitted if c.invited_at and (at := c.answered_at)]),
        first_audio_ms=_until(admitted, greeted),
        told_ms=_until(away, told),
        unheard=sum(call.number not in told for call in away),
        cores={name: round(used, 2) for name, used in spent.cores.items()},
        busy=round(spent.busy, 3),
        figures=figures,
        ended=ended,
    )
    heard = arrived(case.per_second, case.hold_s, admitted, greeted, silent=silent)
    faults = find_faults(found, lost=len(came) - len(admitted) - len(away))
    found.faults.extend([*faults, *(f"{what}: {count}" for what, count in heard.failures.items())])
    return found


def _up(calls: Sequence[Signalling], since: float, until: float) -> float:
    """Calls between their answer and their BYE, on average over this time."""
    spans = [
        min(call.bye_at or until, until) - max(call.answered_at, since)
        for call in calls
        if call.answered_at is not None
    ]
    return sum(span for span in spans if span > 0) / (until - since)


def _until(calls: Sequence[Signalling], heard: dict[int, Greeted] | dict[int, Voice]) -> Spread:
    return Spread.of(
        [1000 * (heard[call.number].at - call.invited_at) for call in calls if call.invited_at and call.number in heard]
    )


def find_faults(found: Overload, lost: int) -> list[str]:
    """What should not have happened."""
    down, up = found.figures.down, found.figures.up
    counts = {
        "neither answered nor refused": lost,
        "turned away without a word": found.unheard,
        "downlink lost": down.lost,
        "downlink crosstalk": down.crosstalk,
        "downlink garbled": down.garbled,
        "downlink stale": down.stale,
        "RTP holes": down.rtp_lost,
        "uplink crosstalk": up.crosstalk,
        "uplink garbled": up.garbled,
    }
    faults = [f"{what}: {count}" for what, count in counts.items() if count]
    share, expected = found.turned_away / max(found.admitted + found.turned_away, 1), 1 - found.up / found.offered
    if share < MIN_SHARE * expected or expected < MIN_OVERLOAD:
        faults.append(f"no steady overload: {share:.0%} were turned away, {expected:.0%} found no room")
    if down.pacing_ms.p99 >= MAX_PACING_P99_MS:
        faults.append(f"pacing p99 {down.pacing_ms.p99:.1f} ms")
    if found.told_ms.p99 >= 1000 * MAX_VOICE_S:
        faults.append(f"a voice for those turned away: p99 {found.told_ms.p99:.0f} ms")
    return faults


def describe(found: Overload) -> str:
    """One line."""
    up, down = found.figures.up, found.figures.down
    return (
        f"{found.offered:g} calls offered, {found.up:g} up ({100 * found.offered / max(found.up, 1):.0f} %): "
        f"{'pass' if not found.faults else 'FAIL ' + ', '.join(found.faults)}; of {found.admitted + found.turned_away} "
        f"that came {found.turned_away} were turned away and heard so after p50/p95/p99/max {found.told_ms.p50}/"
        f"{found.told_ms.p95}/{found.told_ms.p99}/{found.told_ms.max} ms; the others: INVITE to 200 p95 "
        f"{found.setup_ms.p95}, to the agent {found.first_audio_ms.p95}, pacing {down.pacing_ms.p50:.2f}/"
        f"{down.pacing_ms.p99:.2f}, uplink {up.delay_ms.p50:.2f}/{up.delay_ms.p99:.2f} ms, lost {down.lost}; "
        f"cores {found.cores}, machine {found.busy:.0%} busy; {found.ended}"
    )
