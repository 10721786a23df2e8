"""Handing a caller over: into the flow, to a phone (rung, asked first, or by REFER), or a third voice in the room.

The model names a place that the operator has listed; what happens is here. A phone rings while the agent waits: the
caller hears the ringing (or music, where the agent speaks with the colleague first), and when nobody takes the call
the agent is told why and goes on talking. What has been said so far travels with the call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from sipagent import away, model
from sipagent.ari.client import new_id
from sipagent.ari.objects import ChannelHandle
from sipagent.caller import Caller
from sipagent.config import Agent, Settings
from sipagent.config.transfers import Transfer
from sipagent.conversation import Conversation
from sipagent.errors import AriError, DialingRefused
from sipagent.flow.machine import ToDial
from sipagent.flow.steps.dial import target_of
from sipagent.house import House
from sipagent.ledger import Ledger
from sipagent.leg import ANSWERED, Errand, Leg, leg_out, permitted
from sipagent.outcome import CallOutcome, Reason
from sipagent.room import Room
from sipagent.rtp.transport import NoPortFree
from sipagent.talk import Emit
from sipagent.tones import looped
from sipagent.warm import Offer, ask

log = structlog.get_logger()

StepOut = Callable[[away.Place], Awaitable[str]]
SPOKEN_OUT_S = 8.0
"""How long a ring waits for the agent's sentence to end."""
SUMMARY_CHARS = 500
TRANSCRIPT_CHARS = 1500
"""As a channel variable; the whole of it is in the call's record."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody has taken the call; `undo` lets go of their leg."""

    name: str
    leg: Leg
    undo: AsyncExitStack


@dataclass(frozen=True, slots=True)
class Parties:
    """Who is there, for as long as one agent talks with one caller."""

    call_id: str
    person: Caller
    caller: str
    """Their number."""
    room: Room
    agent_name: str
    agent: Agent
    conversation: Conversation
    ledger: Ledger
    house: House
    emit: Emit
    step_out: StepOut
    """Sends the caller to a place of the dialplan and returns its word, the room being kept."""
    leave: Callable[[object], bool]
    """The agent's part is over, and what follows is this; False where it was over already."""

    @property
    def channel(self) -> ChannelHandle:
        """The caller's."""
        return self.person.channel

    async def spoken_out(self) -> None:
        """The agent's sentence is heard to its end before anything else happens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPOKEN_OUT_S):
                await self.conversation.talk.until_quiet()


class Transfers:
    """What one agent may do to hand its caller over."""

    def __init__(self, parties: Parties) -> None:
        self._with = parties
        self._guests: set[asyncio.Task[None]] = set()

    async def to(self, name: str, summary: str) -> dict[str, Any]:
        """Hand over to a place that this agent may use; what the model is told of it."""
        parties = self._with
        if name not in parties.agent.transfers:
            return {"error": f"there is no {name!r}; you may transfer to {', '.join(parties.agent.transfers)}"}
        transfer = parties.house.settings.transfers[name]
        how = transfer.how if transfer.to.kind == "dial" else "flow"
        parties.emit(model.TransferStarted, target=name, how=how, summary=summary)
        await self._send_along(parties.channel, summary)
        await parties.spoken_out()
        if transfer.to.kind != "dial":
            parties.emit(model.TransferEnded, target=name, result="handed over")
            parties.leave(transfer.to)
            return {"status": "transferred"}
        result = await self._to_phone(name, transfer, summary)
        parties.emit(model.TransferEnded, target=name, result=result)
        if result != ANSWERED:
            return {"error": f"not transferred: {result}. Tell the caller, and offer something else."}
        if transfer.how == "conference":
            return {"status": f"{name} is in the call; the three of you hear each other"}
        return {"status": "transferred"}

    async def aclose(self) -> None:
        """Guests leave; twice is fine."""
        for guest in list(self._guests):
            guest.cancel()
        if self._guests:
            await asyncio.wait(self._guests)

    async def _to_phone(self, name: str, transfer: Transfer, summary: str) -> str:
        parties = self._with
        target = target_of(transfer.to, parties.house.settings)
        leg_id = new_id(parties.call_id, "leg")
        errand = Errand(leg_id, target, "transfer", caller=parties.caller, beside=parties.channel.id)
        try:
            if transfer.how == "refer" and await self._refer(errand):
                parties.leave(CallOutcome(Reason.COMPLETED, f"transferred to {name} by REFER"))
                return ANSWERED
            async with AsyncExitStack() as undo:
                leg = await undo.enter_async_context(leg_out(errand, parties.house, parties.emit))
                result = await self._ring(leg, target, transfer, summary)
                if result == ANSWERED and transfer.how == "conference":
                    await parties.room.admit(leg.channel)
                    self._invite(name, leg, undo.pop_all())
                elif result == ANSWERED:
                    joined = Joined(name, leg, undo.pop_all())
                    if not parties.leave(joined):  # the caller is somebody else's by now
                        await joined.undo.aclose()
                return result
        except (DialingRefused, AriError, NoPortFree) as refusal:  # or whoever answered has hung up at once
            return str(refusal)

    async def _ring(self, leg: Leg, target: ToDial, transfer: Transfer, summary: str) -> str:
        parties = self._with
        warm, conversation = transfer.how == "warm", parties.conversation
        conversation.talk.hold()
        result = ""
        try:
            with parties.room.looping(looped("hold" if warm else "ringback", parties.room.law)):
                rung = await leg.ring(
                    shown=parties.caller,
                    for_channel=parties.channel.id,
                    headers=_headers(parties.house.settings, target.trunk, summary),
                )
                word = rung.result
                if word == ANSWERED:
                    await self._send_along(leg.channel, summary)
                if warm and word == ANSWERED:
                    offer = Offer(parties.caller, summary, parties.agent)
                    word = await ask(leg, offer, parties.room.law, parties.house)
            result = word  # not before nothing can fail any more: whoever is not given away is heard again
        finally:
            if result != ANSWERED or transfer.how == "conference":
                conversation.talk.resume()
        return result

    async def _refer(self, errand: Errand) -> bool:
        """Ask the caller's side to call there; a refused REFER comes back, and the caller with it."""
        parties = self._with
        place = away.refer_to(errand.to, parties.house.settings)
        if place is None:
            return False
        async with permitted(errand, parties.house, parties.emit):
            return await parties.step_out(place) == "SUCCESS"

    def _invite(self, name: str, leg: Leg, undo: AsyncExitStack) -> None:
        """A third one in the room: the agent stays, and is told when they leave."""
        parties = self._with

        async def stay() -> None:
            async with undo:
                await leg.until_gone()
            parties.conversation.talk.whisper(f"{name} has left the call. You are alone with the caller again.")

        guest = asyncio.create_task(stay(), name=f"call-guest-{leg.channel.id}")
        self._guests.add(guest)
        guest.add_done_callback(self._guests.discard)

    async def _send_along(self, channel: ChannelHandle, summary: str) -> None:
        """Whoever gets the call next may read what it is about."""
        await channel.set_variable("SIPAGENT_SUMMARY", summary)
        await channel.set_variable("SIPAGENT_TRANSCRIPT", self._with.ledger.transcript(TRANSCRIPT_CHARS))


def _headers(settings: Settings, trunk: str, summary: str) -> dict[str, str]:
    """The summary as a SIP header, where the trunk keeps one: printable ASCII in one line (RFC 3261, 25.1)."""
    name = settings.trunks[trunk].summary_header if trunk in settings.trunks else ""
    text = summary.encode("ascii", "replace").decode()
    return {name: "".join(char for char in text if char.isprintable())[:200]} if name and text else {}
