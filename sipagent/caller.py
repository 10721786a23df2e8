"""The channel of whoever talks with us: what happens to it, and its way to somewhere else and back.

Somebody reads its events from the first to the last (`until_gone`); who wants to know of keys, holds and the answer
sets a callback. `step_out` lets Asterisk have it for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto

import structlog

from sipagent import away
from sipagent.ari import events
from sipagent.ari.client import ChannelEvents
from sipagent.ari.objects import ChannelHandle

log = structlog.get_logger()


class Gone(Enum):
    """Why a channel is no more."""

    LEFT = auto()
    """Hung up, by them or by us."""
    LOST = auto()
    """Asterisk restarted, or our socket to it was away while it died."""


class Caller:
    """One channel from its first event to its last. Callbacks run in the reader, so they only take note."""

    def __init__(self, channel: ChannelHandle, happenings: ChannelEvents) -> None:
        self.channel, self.happenings = channel, happenings
        self.on_key: Callable[[str], None] = _ignore
        self.on_up: Callable[[], None] = _ignore
        """Answered, by whoever has them."""
        self.on_hold: Callable[[bool], None] = _ignore
        """They put us on hold (True: a re-INVITE, sendonly or inactive), or came back."""
        self.on_refer: Callable[[str], None] = _ignore
        """They ask us to talk to somebody else instead (REFER): the user part of where."""
        self.is_elsewhere = False
        """Asterisk has them, and nobody of ours is needed."""
        self._elsewhere: asyncio.Future[str] | None = None
        """They are on their way there, or there; done with its word when they come back."""

    async def until_gone(self) -> Gone:
        """Read what happens until there is nothing more to read."""
        while True:
            happenings = self.happenings
            event = await happenings.next()
            if happenings is not self.happenings:
                continue  # somebody else has taken their place meanwhile
            match event:
                case events.StasisStart(args=["back", *words]) if self._elsewhere is not None:
                    self.is_elsewhere = False
                    if not self._elsewhere.done():
                        self._elsewhere.set_result(words[0] if words else "")
                case events.StasisEnd() if self._elsewhere is not None:
                    self.is_elsewhere = not self._elsewhere.done()  # in the dialplan, as we wanted
                case events.StasisEnd() | events.ChannelDestroyed():
                    return Gone.LEFT
                case events.ChannelLost():
                    return Gone.LOST
                case events.ChannelStateChange(channel=events.Channel(state="Up")):
                    self.on_up()
                case events.ChannelDtmfReceived() as key if self._elsewhere is None:
                    log.info("dtmf")  # not which key: it may be part of a card number
                    self.on_key(key.digit)
                case events.ChannelHold():
                    self.on_hold(True)
                case events.ChannelUnhold():
                    self.on_hold(False)
                case events.ChannelTransfer() as asked:
                    self.on_refer(asked.user)
                case _:
                    pass  # keys elsewhere are for whoever has them

    async def step_out(self, place: away.Place) -> str:
        """Asterisk has them until they come back; its word for how it was.

        Raises:
            AriError: they cannot be sent there.
        """
        await away.prepare(self.channel, place)
        # From here on a StasisEnd is no hang-up.
        back: asyncio.Future[str]
        back = self._elsewhere = asyncio.get_running_loop().create_future()
        try:
            await self.channel.continue_in(place.context, place.extension)
            return await back
        finally:
            self._elsewhere, self.is_elsewhere = None, False

    def become(self, channel: ChannelHandle, happenings: ChannelEvents) -> None:
        """Somebody else takes their place; the end of the old channel, which must follow, is no end of the call."""
        self.channel, self.happenings = channel, happenings
        self.on_hold(False)  # who asked had put us on hold, as one does before a REFER (RFC 5589, 6)

    def let_go(self) -> None:
        """Nobody is told any more: nothing here points back to who points to us."""
        self.on_key = self.on_up = self.on_hold = self.on_refer = _ignore


def _ignore(*_: object) -> None:
    pass
