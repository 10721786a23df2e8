"""Somebody asks by SIP REFER that we go on with somebody else: a phone of the PBX transfers the agent's caller.

Whoever answers there takes their place in the room. They hear how it goes by NOTIFY (RFC 3515), and leave by themselves
once it is done; where it is not, they stay.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from sipagent import model
from sipagent.ari.client import new_id
from sipagent.caller import Caller
from sipagent.errors import AriError, DialingRefused
from sipagent.flow.machine import ToDial
from sipagent.house import House
from sipagent.leg import ANSWERED, Emit, Errand, Leg, leg_out
from sipagent.room import Room
from sipagent.routing.facts import clean_number

log = structlog.get_logger()

SUBSCRIBED_S = 0.3
"""Asterisk's first NOTIFY (100 Trying) must be through, or a second one is lost; nothing tells when it is."""
NOTIFIED_S = 2.0
"""Who asked hangs up when told that it is done; after this long we do."""


@dataclass(frozen=True, slots=True)
class Referral:
    """What is asked for, and by whom."""

    call_id: str
    caller: Caller
    """Who asks; whoever answers becomes it."""
    number: str
    """Theirs, shown to whom we ring."""
    endpoint: str
    """The trunk or phone account they are at."""
    house: House
    emit: Emit

    async def follow(self, number: str, room: Callable[[], Room | None], undo: AsyncExitStack) -> None:
        """Ring `number`, if the policy lists it, until it is settled; `undo` lets go of a leg that has joined.

        `room` is asked when somebody has answered: by then the one who asked may be elsewhere.
        """
        old, settings = self.caller.channel, self.house.settings
        # A phone of ours has no line of its own to somebody else.
        trunk = self.endpoint if self.endpoint in settings.trunks else next(iter(settings.outbound.trunks), "")
        to = ToDial(clean_number(number), trunk, settings.call.dial_within_s)
        errand = Errand(new_id(self.call_id, "referred"), to, "transfer", self.number, beside=old.id, listed=False)
        self.emit(model.TransferStarted, target=to.number, how="referred")
        with contextlib.suppress(AriError):  # they may be gone already
            await old.transfer_progress("channel_progress")
        async with AsyncExitStack() as made:
            try:
                leg = await made.enter_async_context(leg_out(errand, self.house, self.emit))
                result = (await leg.ring(shown=self.number, for_channel=old.id)).result
            except (DialingRefused, ValueError) as refusal:
                result = str(refusal)
            if result == ANSWERED:
                result = await _let_in(leg, room())
            if result == ANSWERED:
                self.caller.become(leg.channel, leg.happenings)
                undo.push_async_callback(made.pop_all().aclose)
                undo.push_async_callback(old.hang_up, 16)  # also where the call is over before we come to it
        self.emit(model.TransferEnded, target=to.number, result=result)
        await asyncio.sleep(SUBSCRIBED_S)
        try:
            await old.transfer_progress("channel_answered" if result == ANSWERED else "channel_declined")
        except AriError as error:  # they may be gone already
            log.info("refer_not_told", error=str(error))
        await asyncio.sleep(NOTIFIED_S)  # Asterisk tells of one REFER more than once
        if result == ANSWERED:
            await old.hang_up(16)


async def _let_in(leg: Leg, room: Room | None) -> str:
    """ANSWERED when they are in the room, or why they are not: the place of who asked is not taken before."""
    if room is None:
        return "given up"  # they are elsewhere by now: there is no place to take
    room.recording.end()  # whoever comes has not been told that there is one
    try:
        await room.admit(leg.channel)
    except AriError as refusal:
        await room.record()
        return str(refusal)  # whoever answered has hung up at once
    room.recording.announced = False
    return ANSWERED
