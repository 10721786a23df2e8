"""Calls that come and leave on the whole node: how fast it takes them (`setup`), and what stays behind (`churn`).

Each call is dialled by SIPp, answered, greeted by the agent and hung up by the caller. From INVITE to 200 is SIPp's
time; from INVITE to the first agent audio ends at the caller's RTP socket, and holds no thinking time of the model,
which answers at once. The model, the callers and the worker's ports all serve many calls in turn here, so frames
that reach the wrong one of two successive calls show as crosstalk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, quantiles
from types import MappingProxyType
from typing import Literal, TypeVar

from bench import results
from bench.callers import Signalling
from bench.generator import PATIENCE_S, Greeted, Silent, Voice
from bench.results import Figures
from bench.whole import Level, Node, Shape, Spent, whole

MAX_FIRST_AUDIO_P95_MS = 100.0
"""INVITE to the first agent audio: the rate counts as carried below this, when no call failed."""
MAX_LEAK_KB_A_CALL = 1.0
"""Growth of the worker's or Asterisk's memory over the second half of a churn."""
MIN_LEAK_SAMPLES = 6
"""A minute: allocators grow by arenas, so a few samples make a slope of any step."""
GREETING = "Hello, how can I help you?"
MAX_HOLE_S = 0.1
"""Between the last packet to a caller and their BYE."""
MIN_RATE = 0.97
"""Of what was asked of SIPp: a rate that was not dialled is not carried."""
REST_S = 6.0
"""After the last call: the worker's ports rest for 5 s, and callers' slots are used in turn."""
_WARM_UP_S = 20.0
_SAMPLE_EVERY_S = 10.0
_LEAVE_S = 30.0

Say = Callable[[str], None]
H = TypeVar("H", Greeted, Voice, Silent)


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution, in ms."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Spread:
        """Zeros of nothing."""
        if len(values_ms) < 2:
            return cls(len(values_ms), *[*values_ms, 0.0][:1] * 4)
        cuts = quantiles(values_ms, n=100, method="inclusive")
        return cls(len(values_ms), *(round(value, 1) for value in (cuts[49], cuts[94], cuts[98], max(values_ms))))


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch of calls, as callers met it."""

    per_second: float
    """As asked of SIPp."""
    came_per_second: float
    """As it dialled."""
    hold_s: float
    calls: int
    answered: int
    heard: int
    """Callers who heard the agent."""
    failures: dict[str, int]
    setup_ms: Spread
    """INVITE (the one without digest) to 200."""
    first_audio_ms: Spread
    """INVITE to the first frame of the agent's voice."""

    @property
    def carried(self) -> bool:
        """They came, without a failure, and quickly enough."""
        came = self.came_per_second >= MIN_RATE * self.per_second or self.calls < 2
        return came and not self.failures and self.first_audio_ms.p95 < MAX_FIRST_AUDIO_P95_MS


def arrived(
    per_second: float,
    hold_s: float,
    calls: Sequence[Signalling],
    greeted: Mapping[int, Greeted],
    told: Mapping[int, Voice] = MappingProxyType({}),
    silent: Mapping[int, Silent] = MappingProxyType({}),
) -> Arrived:
    """`greeted` by the agent, `told` something by somebody else before, left in `silent`ce: what `match` found."""
    failures: Counter[str] = Counter()
    for call in calls:
        if call.refused or call.answered_at is None:
            failures[call.refused or "no answer"] += 1
        elif call.number not in greeted:
            failures["agent not heard"] += 1
        elif call.number in told:
            failures["somebody else heard"] += 1
        elif greeted[call.number].frame:
            failures["first words cut off"] += 1
        elif call.bye_by != "caller":
            failures["hung up on"] += 1
        elif call.number in silent and silent[call.number].at < (call.bye_at or 0.0) - MAX_HOLE_S:
            failures["left in silence"] += 1
    invited = [(call, call.invited_at) for call in calls if call.invited_at is not None]
    span_s = invited[-1][1] - invited[0][1] if len(invited) > 1 else 0.0
    setups = [1000 * (call.answered_at - at) for call, at in invited if call.answered_at is not None]
    heard = [1000 * (greeted[call.number].at - at) for call, at in invited if call.number in greeted]
    return Arrived(
        per_second=per_second,
        came_per_second=round((len(invited) - 1) / span_s, 1) if span_s else 0.0,
        hold_s=hold_s,
        calls=len(calls),
        answered=len(setups),
        heard=len(heard),
        failures=dict(failures),
        setup_ms=Spread.of(setups),
        first_audio_ms=Spread.of(heard),
    )


def match(calls: Sequence[Signalling], callers: int, heard: Sequence[H]) -> dict[int, H]:
    """Which call it was that heard somebody, by its number: call I is caller I % callers, one after the other."""
    invited_at = {call.number: call.invited_at for call in calls if call.invited_at is not None}
    by_caller: defaultdict[int, list[H]] = defaultdict(list)
    for one in heard:
        by_caller[one.caller].append(one)
    found: dict[int, H] = {}
    for number, since in invited_at.items():
        until = invited_at.get(number + callers, float("inf"))
        mine = [one for one in by_caller[number % callers] if since < one.at < until]
        if mine:
            found[number] = mine[0]
    return found


def _slots(per_second: float, hold_s: float) -> int:
    """Enough for each to rest after a call."""
    return round(per_second * (hold_s + REST_S)) + 10


async def _batch(node: Node, per_second: float, hold_s: float, calls: int) -> Arrived:
    """Dial so many calls, wait until the last has left."""
    node.load.greeted.clear()
    node.load.voices.clear()
    node.load.silent.clear()
    async with node.dial(calls, per_second, hold_s) as callers:
        await callers.wait(calls / per_second + hold_s + _LEAVE_S)
        signalled = callers.signalling()
    await node.until_empty()
    await node.load.catch_up()
    greeted = match(signalled, len(node.load.caller_ports), node.load.greeted)
    told = match(signalled, len(node.load.caller_ports), node.load.voices)
    silent = match(signalled, len(node.load.caller_ports), node.load.silent)
    return arrived(per_second, hold_s, signalled, greeted, told, silent)


# --- set-up


@dataclass(frozen=True, slots=True)
class SetUp:
    """Set-up at rising rates, on one node."""

    started_at: str
    machine: str
    steps: list[Arrived]
    busy: list[float]
    """Share of all cores in use during each step."""
    ended: dict[str, int]
    fifo: bool
    """Asterisk, worker and load with real-time priority."""
    kind: Literal["setup"] = "setup"

    @property
    def carried_per_second(self) -> float:
        """The highest rate below which every rate was carried; 0: none."""
        best = 0.0
        for step in self.steps:
            if not step.carried:
                break
            best = step.per_second
        return best


async def set_up(rates: Sequence[float], seconds: float, hold_s: float, fifo: bool, say: Say) -> SetUp:
    """Each rate for so many seconds, upwards, until calls fail or come too slowly."""
    steps, busy = [], []
    shape = Shape(_slots(max(rates), hold_s), greeting=GREETING, by_order=True, fifo=fifo)
    async with whole(shape, say) as node:
        await _batch(node, 2.0, hold_s, 6)  # the first call of a process finds nothing warm
        for rate in sorted(rates):
            before = await node.level()
            step = await _batch(node, rate, hold_s, round(rate * seconds))
            busy.append(round(Spent.between(before, await node.level()).busy, 3))
            steps.append(step)
            say(describe(step))
            if not step.carried:
                break
            await asyncio.sleep(REST_S)
        return SetUp(*results.stamp(), steps, busy, dict(node.ended()), fifo)


def describe(step: Arrived) -> str:
    """One line."""
    return (
        f"{step.per_second:g} calls/s (came at {step.came_per_second:g}): {'' if step.carried else 'NOT '}carried, "
        f"{step.answered} of {step.calls} answered, {step.heard} heard the agent, {step.failures or 'no failures'}; "
        f"INVITE to 200 p50/p95/p99 {step.setup_ms.p50}/{step.setup_ms.p95}/{step.setup_ms.p99} ms, "
        f"to the agent's voice {step.first_audio_ms.p50}/{step.first_audio_ms.p95}/{step.first_audio_ms.p99} ms"
    )


# --- churn


@dataclass(frozen=True, slots=True)
class Churn:
    """Calls coming and leaving for minutes; `start` and `end` without a call, the first after a warm-up."""

    started_at: str
    machine: str
    arrived: Arrived
    start: Level
    end: Level
    samples: list[Level]
    """While calls came and went."""
    leak_kb_a_call: dict[str, float]
    """Slope of the resident set over the second half, worker and Asterisk."""
    figures: Figures
    ended: dict[str, int]
    faults: list[str]
    fifo: bool = False
    """Asterisk, worker and load with real-time priority."""
    kind: Literal["churn"] = "churn"


async def churn(per_second: float, minutes: float, hold_s: float, fifo: bool, say: Say) -> Churn:
    """A warm-up, then the real thing; every call is let in, also while others use the machine."""
    shape = Shape(_slots(per_second, hold_s), greeting=GREETING, by_order=True, fifo=fifo)
    async with whole(shape, say) as node:
        await _batch(node, per_second, hold_s, round(per_second * _WARM_UP_S))
        await asyncio.sleep(REST_S)
        start, samples = await node.level(), []
        node.load.order("start")
        await node.load.hear("start", PATIENCE_S)

        async def watch() -> None:
            while True:
                await asyncio.sleep(_SAMPLE_EVERY_S)
                samples.append(level := await node.level())
                say(f"{level.at_s - start.at_s:.0f} s: {describe_level(level)}")

        watching = asyncio.create_task(watch())
        try:
            batch = await _batch(node, per_second, hold_s, round(per_second * 60 * minutes))
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        await asyncio.sleep(REST_S)
        node.load.order("end")
        await node.load.hear("end", PATIENCE_S)
        figures, end, ended = await node.load.figures(), await node.level(), dict(node.ended())
    leaks = {name: leak_kb_a_call(samples, name, per_second) for name in ("worker", "asterisk")}
    return Churn(
        *results.stamp(),
        arrived=batch,
        start=start,
        end=end,
        samples=samples,
        leak_kb_a_call=leaks,
        figures=figures,
        ended=ended,
        faults=find_faults(batch, start, end, leaks, figures, ended),
        fifo=fifo,
    )


def describe_level(level: Level) -> str:
    """One line."""
    parts = (
        f"{name} {level.rss_kb[name] // 1024} MB, {level.descriptors[name]} descriptors, "
        f"{level.udp_sockets[name]} UDP, {level.threads[name]} threads"
        for name in ("worker", "asterisk")
    )
    return f"{'; '.join(parts)}; {level.channels} channels"


def leak_kb_a_call(samples: Sequence[Level], name: str, per_second: float) -> float:
    """KB that each call of the second half has left behind; 0 when that half is too short to tell it from chance."""
    half = samples[len(samples) // 2 :]
    if len(half) < MIN_LEAK_SAMPLES:
        return 0.0
    slope = linear_regression([level.at_s for level in half], [level.rss_kb[name] for level in half]).slope
    return round(slope / per_second, 3)


def find_faults(
    batch: Arrived, start: Level, end: Level, leaks: dict[str, float], figures: Figures, ended: dict[str, int]
) -> list[str]:
    """What should not have happened, or is still there; `ended` is the node's own account."""
    faults = [f"{what}: {count}" for what, count in batch.failures.items()]
    faults += [f"{what}: {count}" for what, count in ended.items() if what != "call ended: caller_hangup"]
    for name in ("worker", "asterisk", "control"):
        if (more := end.descriptors[name] - start.descriptors[name]) > 0:
            of = Counter(end.open_files.get(name, {})) - Counter(start.open_files.get(name, {}))
            told = ", ".join(f"{file} {count}" for file, count in sorted(of.items()))
            faults.append(f"{name}: {more} descriptors more than at the start ({told})")
        if (more := end.udp_sockets[name] - start.udp_sockets[name]) > 0:
            faults.append(f"{name}: {more} UDP sockets more than at the start")
    if end.channels:
        faults.append(f"channels left: {end.channels}")
    faults += [f"{name} grows by {kb} KB a call" for name, kb in leaks.items() if kb > MAX_LEAK_KB_A_CALL]
    up, down = figures.up, figures.down
    counts = {"uplink crosstalk": up.crosstalk, "uplink garbled": up.garbled, "downlink crosstalk": down.crosstalk,
              "uplink disordered": up.disordered, "downlink disordered": down.disordered,
              "downlink garbled": down.garbled, "downlink stale": down.stale, "downlink lost": down.lost,
              "RTP holes": down.rtp_lost}  # fmt: skip
    return faults + [f"{what}: {count}" for what, count in counts.items() if count]
