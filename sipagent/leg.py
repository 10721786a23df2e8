"""A second leg: somebody else's phone rings, and answers or does not.

Originated by us into our own application, so that we hear of everything that happens to it and choose whom it
talks to. `reason` of a leg that was not answered is a word that an agent can tell the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sipagent.ari import events
from sipagent.ari.client import AriClient, ChannelEvents
from sipagent.ari.objects import ChannelHandle
from sipagent.errors import AriError

ANSWERED = "answered"
_REASONS = {
    1: "unassigned number",
    3: "unreachable",
    16: "declined",
    17: "busy",
    18: "no answer",
    19: "no answer",
    20: "not available",
    21: "declined",
    27: "unreachable",
    28: "invalid number",
    34: "lines are full",
    38: "network out of order",
    42: "network congestion",
}
"""Q.850 causes, as Asterisk maps SIP's statuses to them."""
GRACE_S = 2.0
"""Asterisk ends the ringing itself; this much later we stop waiting for its word."""


class Leg:
    """One second leg, from dialling to hang-up."""

    def __init__(self, ari: AriClient, channel_id: str, happenings: ChannelEvents) -> None:
        self.channel = ChannelHandle(ari, channel_id)
        self._happenings = happenings

    async def ring(self, dial_string: str, *, shown: str, timeout_s: float, for_channel: str) -> str:
        """Dial; ANSWERED, or why not.

        `shown` is the caller id, `for_channel` the channel that talks to it (its codec and its linkedid).
        """
        ari = self.channel.ari
        try:
            await ari.request(
                "POST",
                "channels",
                {
                    "endpoint": dial_string,
                    "app": ari.app,
                    "appArgs": "leg",
                    "channelId": self.channel.id,
                    "callerId": shown,
                    "timeout": f"{timeout_s:.0f}",
                    "originator": for_channel,
                },
            )
        except AriError as error:
            return f"unreachable ({error})"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s + GRACE_S):
                while True:
                    match await self._happenings.next():
                        case events.StasisStart():
                            return ANSWERED
                        case events.ChannelDestroyed() as gone:
                            return _REASONS.get(gone.cause, f"cause {gone.cause}")
                        case events.ChannelLost():
                            return "unreachable"
                        case _:
                            pass
        return "no answer"

    async def next_key(self) -> str | None:
        """The next key pressed there; None when they have hung up."""
        while True:
            match await self._happenings.next():
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


@contextlib.asynccontextmanager
async def second_leg(ari: AriClient, channel_id: str) -> AsyncIterator[Leg]:
    """A leg for the length of the block; whatever has become of it, its channel is gone afterwards."""
    with ari.listen(channel_id) as happenings:
        leg = Leg(ari, channel_id, happenings)
        try:
            yield leg
        finally:
            await leg.channel.hang_up(16)
