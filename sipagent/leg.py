"""A leg out: somebody's phone rings, and answers or does not. The one door by which a call leaves us.

`permitted` asks the dial policy, counts, and tells of a refusal; nothing is dialled without it. A `Leg` is in our own
application before it rings, so that we hear of everything that happens to it and choose whom it talks to; nobody
follows it to where its far end would send it. `result` of a leg that was not answered is a word that an agent can tell
the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import structlog

from sipagent import model
from sipagent.ari import events
from sipagent.ari.client import AriClient, ChannelEvents
from sipagent.ari.objects import ChannelHandle, until_started
from sipagent.errors import AriError, DialingRefused
from sipagent.flow.machine import ToDial
from sipagent.house import House
from sipagent.routing.legs import dial_string, shown_number

log = structlog.get_logger()

Emit = Callable[..., None]

ANSWERED = "answered"
_RESULTS = {
    1: "unassigned number",
    3: "unreachable",
    16: "declined",
    17: "busy",
    18: "no answer",
    19: "no answer",
    20: "not available",
    21: "declined",
    23: "moved",
    25: "it leads back to us",
    27: "unreachable",
    28: "invalid number",
    34: "lines are full",
    38: "network out of order",
    42: "network congestion",
}
"""Q.850 causes, as Asterisk maps SIP's statuses to them."""
NO_ANSWER, UNREACHABLE = 19, 27
GRACE_S = 2.0
"""Asterisk ends the ringing itself; this much later we stop waiting for its word."""
MAX_WAIT_S = 5.0
"""For a trunk's next moment (`cps`); what would have to wait longer is refused."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Who is to be called, and for whom."""

    leg: str
    """The channel's id."""
    to: ToDial
    purpose: model.Purpose
    caller: str = ""
    """Whose calls out these count as."""
    beside: str = ""
    """A channel that is up already, of whoever is to talk with them."""
    listed: bool = True
    """The number stands in the configuration; one that a caller or a program gave needs dial_policy.allow."""
    comes_back: bool = False
    """It is meant to come in again (a probe), and is no loop when it does."""
    told_as: str = ""
    """What its events call it; empty: as the channel."""

    @property
    def name(self) -> str:
        """Of the leg in its events."""
        return self.told_as or self.leg

    def number(self, house: House) -> str:
        """+E.164 where the trunk tells how to read it, else as it stands."""
        trunk = house.settings.trunks.get(self.to.trunk)
        return str(trunk.e164(self.to.number)) if trunk else self.to.number


def dialled_group(trunk: str, number: str) -> str:
    """The group (Asterisk's GROUP(dialled)) of channels that were dialled over this trunk to this number.

    A call in from that trunk to that number is one of ours come back: PBXs and carriers make it a call of its own, so
    no header would tell.
    """
    return f"{trunk}_{number}@dialled"


@dataclass(frozen=True, slots=True)
class Rung:
    """How the ringing ended."""

    result: str
    """ANSWERED, or why not."""
    cause: int = 0
    """Q.850; 0 where nobody named one."""


def refusal(errand: Errand, house: House) -> str:
    """Why the dial policy does not let this out now; empty: it does."""
    why = house.guard.refusal(errand.number(house), errand.caller, time.monotonic(), listed=errand.listed)
    return f"refused by the dial policy: {why}" if why else ""


@contextlib.asynccontextmanager
async def permitted(errand: Errand, house: House, emit: Emit) -> AsyncIterator[None]:
    """The policy allows it, and counts it to the end of the block.

    Raises:
        DialingRefused: it does not, or the trunk is full; its text says why, and an event has.
    """
    guard = house.guard
    if why := refusal(errand, house):
        raise _refused(why, errand, house, emit)
    # Counted before the trunk is asked, or of a burst each would find the same room.
    guard.started(errand.leg, errand.caller, time.monotonic())
    dialled = False
    try:
        wait_s = await _turn(errand, house, emit)
        dialled = True
        if wait_s:
            await asyncio.sleep(wait_s)
        yield
    finally:
        if dialled:
            guard.ended(errand.leg, time.monotonic())
        else:
            guard.taken_back(errand.leg, errand.caller)


async def _turn(errand: Errand, house: House, emit: Emit) -> float:
    """Seconds until the trunk takes it. DialingRefused when it does not."""
    trunk = house.settings.trunks.get(errand.to.trunk)
    if trunk is None:
        return 0.0
    if await _in_use(errand, house.ari) >= trunk.channels:
        raise _refused("all lines are busy", errand, house, emit)
    wait_s = house.guard.turn(errand.to.trunk, trunk.cps, time.monotonic(), MAX_WAIT_S)
    if wait_s is None:
        raise _refused("too many new calls on this trunk (cps)", errand, house, emit)
    return wait_s


def _refused(why: str, errand: Errand, house: House, emit: Emit) -> DialingRefused:
    """Told of; to be raised."""
    log.warning("dial_refused", why=why, trunk=errand.to.trunk, purpose=errand.purpose)
    emit(model.DialRefused, to=errand.number(house), why=why, asked_by=errand.purpose)
    return DialingRefused(why)


async def _in_use(errand: Errand, ari: AriClient) -> int:
    """Calls of a trunk now, in and out; Asterisk counts them.

    Its groups know accounts of one carrier apart, but only a channel can be asked for them; without one the
    endpoint's channels are counted, which calls in of a neighbouring account may be among.
    """
    trunk = errand.to.trunk
    if errand.beside:
        up = await ChannelHandle(ari, errand.beside).variable(f"GROUP_COUNT({trunk}@trunk)")
        return int(up) if up.isdigit() else 0
    return len((await ari.request("GET", f"endpoints/PJSIP/{trunk}")).get("channel_ids", ()))


class Leg:
    """One leg out, from dialling to hang-up."""

    def __init__(self, errand: Errand, house: House, emit: Emit, happenings: ChannelEvents) -> None:
        self.channel = ChannelHandle(house.ari, errand.leg)
        self.happenings = happenings
        self._errand, self._house, self._emit = errand, house, emit
        self._rung = Rung("given up")
        self._answered_at: float | None = None

    async def ring(self, *, shown: str = "", for_channel: str = "", headers: Mapping[str, str] | None = None) -> Rung:
        """Dial, and wait for how it ends.

        `shown` is the caller id where the trunk lets it through, `for_channel` the channel that talks to it (its codec
        and its linkedid), `headers` go with the INVITE.
        """
        to, settings = self._errand.to, self._house.settings
        trunk = to.trunk if to.trunk in settings.trunks else ""
        self._emit(
            model.LegDialled,
            leg=self._errand.name,
            to=self._errand.number(self._house),
            trunk=trunk,
            purpose=self._errand.purpose,
        )
        shown = shown_number(to.trunk, settings, shown)
        query = {
            "endpoint": dial_string(to.number, to.trunk, settings),
            "app": self._house.ari.app,
            "appArgs": "leg",
            "channelId": self.channel.id,
        }
        dial = {"timeout": f"{to.timeout_s:.0f}"}
        if for_channel:
            query["originator"] = dial["caller"] = for_channel
        variables = {f"PJSIP_HEADER(add,{name})": value for name, value in (headers or {}).items()}
        if shown:
            # The private one goes before the id that `dial` copies from the caller.
            variables |= {"CALLERID(num)": shown, "CONNECTEDLINE(priv-num,i)": shown}
        if not self._errand.comes_back:
            group, _, _ = dialled_group(to.trunk, self._errand.number(self._house)).partition("@")
            variables["GROUP(dialled)"] = group
        try:
            # Not `POST channels`: that one follows a "302 Moved" wherever it leads, by any trunk, and asks nobody.
            await self._house.ari.request("POST", "channels/create", query, {"variables": variables})
            await until_started(self.happenings, self._house.ari)
            await self._house.ari.request("POST", f"channels/{self.channel.id}/dial", dial)
        except AriError as error:
            self._rung = Rung(f"unreachable ({error})", UNREACHABLE)
        else:
            self._rung = await self._until_answered(to.timeout_s)
        return self._rung

    async def _until_answered(self, timeout_s: float) -> Rung:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s + GRACE_S):
                while True:
                    match await self.happenings.next():
                        # The first once more, when the socket was away meanwhile.
                        case events.StasisStart(channel=up) | events.ChannelStateChange(channel=up) if up.state == "Up":
                            self._answered_at = time.monotonic()
                            return Rung(ANSWERED)
                        case events.ChannelDestroyed() as gone:
                            return Rung(_RESULTS.get(gone.cause, f"cause {gone.cause}"), gone.cause)
                        case events.ChannelLost():
                            return Rung("unreachable", UNREACHABLE)
                        case _:
                            pass
        return Rung("no answer", NO_ANSWER)

    async def next_key(self) -> str | None:
        """The next key pressed there; None when they have hung up."""
        while True:
            match await self.happenings.next():
                case events.ChannelDtmfReceived() as key:
                    return key.digit
                case events.ChannelDestroyed() | events.StasisEnd() | events.ChannelLost():
                    return None
                case _:
                    pass

    async def until_gone(self) -> None:
        """Return when they have hung up."""
        while await self.next_key() is not None:
            pass

    def ended(self) -> None:
        """It is gone: tell of it."""
        answered_at = self._answered_at
        self._emit(
            model.LegEnded,
            leg=self._errand.name,
            answered=answered_at is not None,
            result=self._rung.result,
            cause=self._rung.cause,
            seconds=0.0 if answered_at is None else round(time.monotonic() - answered_at, 3),
        )


@contextlib.asynccontextmanager
async def leg_out(errand: Errand, house: House, emit: Emit) -> AsyncIterator[Leg]:
    """A leg for the length of the block, if the policy permits; afterwards its channel is gone, whatever became of it.

    Raises:
        DialingRefused: nothing was dialled.
    """
    async with permitted(errand, house, emit):
        with house.ari.listen(errand.leg) as happenings:
            leg = Leg(errand, house, emit, happenings)
            try:
                yield leg
            finally:
                await leg.channel.hang_up(16)
                leg.ended()
