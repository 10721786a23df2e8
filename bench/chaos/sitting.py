"""One sitting: callers who stay, and the faults one after the other, in an order that the seed decides.

Around each fault half of the callers listen to an answer and half have just asked; one more calls in the middle of it.
Afterwards everybody asks once more: who gets no answer is lost, and calls anew. What the records hold, and what is left
when everybody has gone, is looked at in the end.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from bench.chaos.caller import Call, Caller
from bench.chaos.ear import WITHIN_S, Silence
from bench.chaos.faults import Fault, Scene
from bench.chaos.judge import compare, leaks
from bench.chaos.node import Node, broken_node
from bench.results import stamp
from sipagent.conversation import MAX_LOSSES

FIRST_NUMBER = 7000
REST_S = 5.5
"""After the last call: a worker's port rests for 5 s."""
CLOSED_S = 15.0
"""Until the end of every call is in the records."""
_POLL_S = 0.1
LATER_S = 0.3
"""The newcomer calls into the fault, not before it."""
MOST_LOSSES = MAX_LOSSES
"""Faults of the model in one call: more of them within a minute are given up on purpose, so everybody calls anew."""
AT_ONCE = 5
"""Phones that dial together: a crowd would be late by itself."""


@dataclass(slots=True)
class Struck:
    """One fault, once."""

    fault: Fault
    callers: int
    silences: list[Silence] = field(default_factory=list)
    """Of those who noticed."""
    lost: int = 0
    newcomer: Call | None = None
    back_s: float | None = None
    """Of a fault that ends calls: until somebody who calls hears the agent again."""


@dataclass(slots=True)
class Sitting:
    """What came of it all."""

    started_at: str
    machine: str
    command: str
    callers: int
    struck: list[Struck] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    wrong_records: list[str] = field(default_factory=list)
    turns_heard: int = 0
    turns_recorded: int = 0
    leaks: list[str] = field(default_factory=list)
    seconds: float = 0.0


Say = Callable[[str], None]


async def sit(faults: Sequence[Fault], callers: int, rounds: int, seed: int, command: str, say: Say) -> Sitting:
    """All of it."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    began = time.monotonic()
    found = Sitting(*stamp(), command, callers)
    gc.disable()  # a collection of what twenty calls have heard would stop the phones' clocks
    try:
        async with broken_node(callers + 2, say) as node, AsyncExitStack() as stack:
            numbers = itertools.count(FIRST_NUMBER)
            people = [Caller(node.phone, numbers) for _ in range(callers)]
            guest = Caller(node.phone, numbers)
            for one in (*people, guest):
                stack.push_async_callback(one.hang_up)
            await _warm_up(node, guest)
            await node.ask("/v1/drain", {"on": False})  # the first order of the day opens the audit log, for good
            before = await node.level()
            await _gather(people)
            losses = 0
            for _ in range(rounds):
                for fault in chance.sample(list(faults), len(faults)):
                    losses += fault.loses_sessions
                    if losses == MOST_LOSSES:
                        await asyncio.gather(*(one.hang_up() for one in people))
                        await _gather(people)
                        losses = fault.loses_sessions
                    struck = await _strike(fault, Scene(node, people, chance), guest)
                    found.struck.append(struck)
                    say(describe(struck))
            await asyncio.gather(*(one.hang_up() for one in (*people, guest)))
            found.calls = [call for one in (*people, guest) for call in one.calls]
            await _compare(found, node)
            await asyncio.sleep(REST_S)
            found.leaks = leaks(before, await node.level())
    finally:
        gc.enable()
    found.seconds = time.monotonic() - began
    return found


async def _warm_up(node: Node, guest: Caller) -> None:
    """A call for each worker and more: whatever is loaded once is there."""
    for _ in range(4):
        await guest.ring()
        await guest.hang_up()
    await node.until_ready()
    await asyncio.sleep(REST_S)


async def _gather(people: Sequence[Caller]) -> None:
    """Everybody is in a call."""
    room = asyncio.Semaphore(AT_ONCE)

    async def come(one: Caller) -> None:
        async with room:
            while not await one.ring():  # noqa: ASYNC110 - the node may still be on its way back
                await asyncio.sleep(0.5)

    async with asyncio.timeout(60):
        await asyncio.gather(*(come(one) for one in people if not one.live))


async def _strike(fault: Fault, scene: Scene, guest: Caller) -> Struck:
    """From everybody's question before it to the proof that the calls live after it."""
    people = scene.callers
    struck = Struck(fault, len(people))
    await asyncio.gather(*(one.ask() for one in people if not one.hears_agent()))
    await asyncio.sleep(scene.random.uniform(0.3, 1.3))
    for one in people:
        one.forget()
    asking = scene.random.sample(list(people), len(people) // 2)
    speaking = [asyncio.create_task(one.speak(scene.random.uniform(0, 0.8))) for one in asking]
    await asyncio.sleep(1.0)
    since = time.monotonic()
    calling = asyncio.create_task(guest.ring(fault.name, after_s=LATER_S))
    async with fault.strike(scene):
        await asyncio.gather(*speaking)
        if not fault.ends_calls:
            await _until_heard(people, since, fault.patience_s)
    silences = [one.since(since) for one in people]
    came = await calling
    struck.newcomer = guest.call
    await guest.hang_up()
    if fault.ends_calls:
        await asyncio.gather(*(_bury(one, fault) for one in people))
        while not came:
            came = await guest.ring(fault.name)
            await guest.hang_up()
        struck.back_s = time.monotonic() - since
        struck.lost = len(people)
        await _gather(people)
        return struck
    struck.silences = [one for one in silences if one.felt]
    answered = await asyncio.gather(*(one.ask() for one in people))
    for one in itertools.compress(people, (not well for well in answered)):
        struck.lost += 1
        await _bury(one, fault)
    await _gather(people)
    return struck


async def _bury(one: Caller, fault: Fault) -> None:
    one.call.under = fault.name
    await one.hang_up()


async def _until_heard(people: Sequence[Caller], since: float, patience_s: float) -> None:
    """Everybody hears the agent, and who would notice has noticed."""
    await asyncio.sleep(since + WITHIN_S + 0.2 - time.monotonic())
    while time.monotonic() < since + patience_s and not all(  # noqa: ASYNC110 - it happens in twenty threads
        one.hears_agent() for one in people if one.live
    ):
        await asyncio.sleep(_POLL_S)


async def _compare(found: Sitting, node: Node) -> None:
    """Once the end of every call is written, or should be."""
    records = await node.records()
    for _ in range(round(CLOSED_S)):
        if all(record["state"] != "live" for record in records):
            break
        await asyncio.sleep(1.0)
        records = await node.records()
    found.wrong_records = compare(found.calls, records)
    found.turns_heard = sum(call.turns for call in found.calls)
    found.turns_recorded = sum(record["turns"] for record in records)


def describe(struck: Struck) -> str:
    """One line."""
    talk = [one.talk_s for one in struck.silences if one.talk_s is not None]
    voice = [one.voice_s for one in struck.silences if one.voice_s is not None]
    new = struck.newcomer
    return (
        f"{struck.fault.name}: {len(struck.silences)} of {struck.callers} callers affected, voice after "
        f"{max(voice, default=0.0):.2f} s, agent after {max(talk, default=0.0):.2f} s, {struck.lost} lost; "
        f"newcomer {'heard the agent' if new and new.talk_s else 'answered' if new and new.answered else 'turned away'}"
        + (f" after {new.talk_s:.2f} s" if new and new.talk_s else "")
    )
