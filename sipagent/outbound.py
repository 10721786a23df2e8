"""A call that we make: over which trunk, who answered, and what a machine gets.

Trunks are tried in order until one carries the call; a number that is busy or does not answer is so on every trunk.
Who answered is found out beside the talk (Asterisk's AMD and a tone detector on a snoop of their voice), so nobody who
says hello waits in silence for a verdict; the agent may say it too, when it hears a greeting that the detector missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from sipagent.ari import events
from sipagent.ari.objects import ChannelHandle, snoop
from sipagent.away import Place, prepare
from sipagent.errors import AriError, DialingRefused
from sipagent.flow.machine import ToDial
from sipagent.house import House
from sipagent.leg import ANSWERED, Errand, Leg, Rung, leg_out
from sipagent.model import Disposition
from sipagent.orders import Originate

log = structlog.get_logger()

Emit = Callable[..., None]

_BUSY, _NO_ANSWER = {17}, {18, 19}
_ABOUT_THE_NUMBER = _BUSY | _NO_ANSWER | {1, 16, 21, 22, 28}
"""Q.850 causes that another trunk would give as well: no second try."""
DETECT_WITHIN_S = 8.0
"""AMD decides within `total_analysis_time` (amd.conf), 5 s."""
TONE_WITHIN_S = 45.0
"""Greetings are shorter; then the message is left without the tone."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How it went: a leg that was answered, or what to say of the rest."""

    leg: Leg | None
    trunk: str
    disposition: Disposition | None
    cause: int
    detail: str


async def reach(order: Originate, house: House, emit: Emit, undo: AsyncExitStack) -> Reached:
    """Ring over one trunk after the other; the leg that was answered lives until `undo` is closed.

    Raises:
        DialingRefused: the policy lets nothing out.
    """
    tried = Reached(None, "", Disposition.FAILED, 0, "no trunk")
    refused: DialingRefused | None = None
    for trunk in order.trunks:
        errand = errand_of(order, trunk)
        async with AsyncExitStack() as one:
            try:
                leg = await one.enter_async_context(leg_out(errand, house, emit))
                rung = await leg.ring(shown=order.shown)
            except DialingRefused as error:
                refused = error  # this trunk is full; another may not be
                continue
            except ValueError as error:
                tried = Reached(None, trunk, Disposition.FAILED, 28, str(error))
                continue
            if rung.result == ANSWERED:
                undo.push_async_callback(one.pop_all().aclose)
                return Reached(leg, trunk, None, 0, "")
            tried = Reached(None, trunk, _disposition(rung), rung.cause, rung.result)
        if tried.cause in _ABOUT_THE_NUMBER:
            break
        log.warning("trunk_failed", trunk=trunk, why=tried.detail)
    if refused is not None and not tried.trunk:
        raise refused
    return tried


def errand_of(order: Originate, trunk: str) -> Errand:
    """Who is to be called, over this trunk."""
    to = ToDial(order.to, trunk, order.ring_s)
    # Every try has the channel that is the call; in the records each is a leg of its own.
    told_as = f"{order.call_id}-{trunk}" if trunk != order.trunks[0] else ""
    return Errand(order.call_id, to, "outbound", caller=order.to, listed=order.listed, told_as=told_as)


def _disposition(rung: Rung) -> Disposition:
    if rung.cause in _BUSY:
        return Disposition.BUSY
    return Disposition.NO_ANSWER if rung.cause in _NO_ANSWER else Disposition.FAILED


class Detector:
    """Who answered: listens to a snoop of their voice, that nobody hears and that changes nothing."""

    def __init__(self, channel: ChannelHandle) -> None:
        self._channel = channel

    async def who(self) -> tuple[Disposition, str]:
        """Human, machine or fax, and AMD's reasons; UNKNOWN when it cannot say."""
        try:
            async with asyncio.timeout(DETECT_WITHIN_S):
                status, cause = await self._ask("sipagent-amd")
        except (TimeoutError, AriError) as error:
            return Disposition.UNKNOWN, str(error) or "no verdict in time"
        known = {"HUMAN": Disposition.HUMAN, "MACHINE": Disposition.MACHINE, "FAX": Disposition.FAX}
        return known.get(status, Disposition.UNKNOWN), cause

    async def until_tone(self) -> str:
        """Return when a greeting is over: its tone was heard, or a second of silence, or neither in time."""
        with contextlib.suppress(TimeoutError, AriError):
            async with asyncio.timeout(TONE_WITHIN_S):
                status, _ = await self._ask("sipagent-tone")
                return status
        return "TIMEOUT"

    async def _ask(self, context: str) -> tuple[str, str]:
        """Send a snoop into the dialplan; the two words it comes back with."""
        async with snoop(self._channel, spy="in") as spy:
            await prepare(spy.channel, Place(context))
            await spy.channel.continue_in(context)
            while True:
                match await spy.happenings.next():
                    case events.StasisStart(args=["back", status, *more]):
                        return status, ",".join(more)
                    case events.ChannelDestroyed() | events.ChannelLost():
                        raise AriError("the snoop was gone before its verdict")
                    case _:
                        pass
