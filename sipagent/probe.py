"""A probe: a call of ours out through a trunk that comes back in as a customer's would, and an ear at this end of it.

The worker places the leg as every other (`leg`), so the dial policy, the trunk's `cps` and its channels hold for it,
and its room measures what is heard. There is no agent at this end: it says nothing, and waits for the one at the other.

What is heard counts as somebody speaking when it is loud and its loudness changes as speech does. A ringing tone, a
busy tone or the hum of a broken line are even, and a probe that hears them has failed.

A call that comes back to us is refused as a loop, known by its group in Asterisk (`leg.dialled_group`). A probe's leg
is in no such group: nothing goes over the wire that a stranger could imitate, and a probe still cannot go round. What
comes in is a call like any other, and whatever that dials is known as ours again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import quantiles

import structlog

from sipagent import audio, model
from sipagent.audio import PTIME_MS, QUIET_RMS, Law
from sipagent.errors import AriError, DialingRefused
from sipagent.flow.machine import ToDial
from sipagent.house import House
from sipagent.leg import ANSWERED, Errand, Leg, leg_out
from sipagent.model import Direction
from sipagent.orders import Probe, ProbeResult
from sipagent.outcome import CallOutcome, Reason
from sipagent.room import Room
from sipagent.rtp.transport import NoPortFree
from sipagent.story import Story

log = structlog.get_logger()

VOICED_MS = 400
"""Of loud frames, to tell speech from a tone: a few words; "Hello" alone may be too short."""
UNEVEN = 0.3
"""The middle half of their levels spans this share of the median. Sentences of five voices come to 0.97 and more, North
America's ringing tone to 0.13, other tones to 0.06, noise to 0.13. Quartiles, since a tone's edges fall into frames."""
PAUSE_S = 1.0
"""What comes after it is something new: a ringing tone, and then the agent."""


class Ear:
    """Tells whether somebody speaks (core: frames and time in)."""

    def __init__(self, law: Law) -> None:
        self.onset_at: float | None = None
        """When the first frame came of what turned out to be speech; None so far."""
        self.loud_ms = 0
        """Of sound, whatever it was."""
        self._law = law
        self._began_at = self._loud_at = float("-inf")
        self._levels: deque[int] = deque(maxlen=VOICED_MS // PTIME_MS)

    def hear(self, payload: bytes, now: float) -> bool:
        """A frame came in at `now`; True from when it is sure that somebody speaks."""
        level = audio.rms(payload, self._law)
        if self.onset_at is None and level > QUIET_RMS:
            self.loud_ms += PTIME_MS
            if now - self._loud_at > PAUSE_S:
                self._began_at = now
                self._levels.clear()
            self._loud_at = now
            self._levels.append(level)
            if len(self._levels) == self._levels.maxlen and _unevenness(self._levels) > UNEVEN:
                self.onset_at = self._began_at
        return self.onset_at is not None


def _unevenness(levels: Iterable[int]) -> float:
    low, middle, high = quantiles(levels, n=4)
    return (high - low) / middle


@dataclass(slots=True)
class _Found:
    """What came of it so far. Times are milliseconds after the INVITE."""

    why: str = ""
    cause: int = 0
    answer_ms: float | None = None
    voice_ms: float | None = None


async def probe(order: Probe, house: House) -> ProbeResult:
    """Place the call, listen, hang up. Whatever happens becomes a result, and a record (destination probe:NAME)."""
    loop, began_at = asyncio.get_running_loop(), time.time()
    story = Story(order.call_id, loop.time(), house.emit, show=False)
    law = _law(order, house)
    story.tell(
        model.CallStarted,
        caller="",
        called=order.to,
        endpoint=order.trunk,
        codec=law,
        worker=house.worker,
        direction=Direction.OUT,
    )
    story.tell(model.CallRouted, route="", destination=model.PROBE + order.name)
    room, found = Room(law, house), _Found()
    outcome = CallOutcome(Reason.SHUTDOWN)
    try:
        outcome = await _attempt(order, house, room, story, found)
    finally:
        story.tell(model.CallEnded, **story.facts(outcome, loop.time()))
    quality = story.facts(outcome, loop.time())["quality"]
    heard: model.LegQuality | None = quality.get("caller_to_model") if found.answer_ms is not None else None
    return ProbeResult(
        name=order.name,
        trunk=order.trunk,
        call_id=order.call_id,
        at=began_at,
        ok=not found.why,
        why=found.why,
        cause=found.cause,
        answer_ms=found.answer_ms,
        voice_ms=found.voice_ms,
        mos=heard.mos if heard else None,
        loss_percent=heard.loss_percent if heard else None,
        jitter_ms=heard.jitter_ms if heard else None,
        rtt_ms=heard.rtt_ms if heard else None,
    )


async def _attempt(order: Probe, house: House, room: Room, story: Story, found: _Found) -> CallOutcome:
    """The edge of a probe: what goes wrong is its result."""
    to = ToDial(order.to, order.trunk, order.within_s)
    # Not the call's id alone: Asterisk takes a channel's id that another's begins with (the media's) for taken.
    errand = Errand(f"{order.call_id}-leg", to, "probe", comes_back=True)
    try:
        async with leg_out(errand, house, story.tell) as leg:
            try:
                await room.open(order.call_id)  # before it rings: nothing of the first words is missed
                return await _call(order, leg, room, story, found)
            finally:
                await room.close()
                story.take_room(room)
    except DialingRefused as refusal:
        found.why = str(refusal)
        return CallOutcome(Reason.DIAL_REFUSED, found.why)
    except NoPortFree as error:
        found.why = str(error)
        return CallOutcome(Reason.NO_MEDIA_PORT, found.why)
    except (AriError, ValueError) as error:
        found.why = str(error)
        return CallOutcome(Reason.ARI_FAILED, found.why)
    except Exception as error:  # the edge of a probe, which is a call: it has failed, and the next one is due
        log.exception("probe_broke")
        found.why = f"internal error ({type(error).__name__})"
        return CallOutcome(Reason.INTERNAL_ERROR, found.why)


async def _call(order: Probe, leg: Leg, room: Room, story: Story, found: _Found) -> CallOutcome:
    loop = asyncio.get_running_loop()
    invited_s = loop.time()
    rung = await leg.ring()
    if rung.result != ANSWERED:
        found.why, found.cause = f"not answered: {rung.result}", rung.cause
        return CallOutcome(Reason.NOT_REACHED, found.why, rung.cause or None)
    found.answer_ms = _ms(loop.time() - invited_s)
    story.answered(loop.time())

    ear, spoke = Ear(room.law), asyncio.Event()

    def hear(payload: bytes) -> None:
        if ear.hear(payload, loop.time()):
            spoke.set()

    room.media.to_model = hear
    await room.let_in(leg.channel)
    gone = asyncio.create_task(leg.until_gone(), name="probe-gone")
    speaking = asyncio.create_task(spoke.wait(), name="probe-ear")
    try:
        patience_s = max(invited_s + order.within_s - loop.time(), 0.0) if order.voice else 0.0
        await asyncio.wait({gone, speaking}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        left = gone.done()
        await asyncio.wait({gone}, timeout=order.listen_s)
        await story.look_at_quality(leg.channel)
    finally:
        gone.cancel()
        speaking.cancel()
        await asyncio.wait({gone, speaking})
    if ear.onset_at is not None:
        found.voice_ms = _ms(ear.onset_at - invited_s)
    if order.voice and (found.voice_ms is None or found.voice_ms > order.within_s * 1000):
        found.why = "answered, and " + _silence(ear, order, left=left)
    return CallOutcome(Reason.COMPLETED, found.why)


def _silence(ear: Ear, order: Probe, *, left: bool) -> str:
    if left:
        return "hung up before anybody spoke"
    if ear.loud_ms >= VOICED_MS and ear.onset_at is None:
        return f"no speech within {order.within_s:g} s: a tone or noise"
    return f"nobody spoke within {order.within_s:g} s"


def _law(order: Probe, house: House) -> Law:
    trunk = house.settings.trunks.get(order.trunk)
    return Law.ALAW if trunk and trunk.codecs[:1] == ("alaw",) else Law.ULAW


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
