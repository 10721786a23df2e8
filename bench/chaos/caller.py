"""Callers who stay: they ask, listen, ask again, and know of each call how it went, from outside.

Every call is to a number of its own, so that its record is known by it. The sound of each is kept as long as it is
looked at, a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.chaos.ear import Silence, is_talk, listen
from sipagent.audio import Law
from sipagent.errors import SipAgentError
from sipagent.phone.analysis import Said
from sipagent.phone.phone import Phone
from sipagent.standin.pattern import pattern

WORDS = pattern(Law.ULAW, 50, 0, 6400)
"""0.8 s of a caller."""
ANSWER_S = 10.0
"""Whoever asks and hears nothing for so long talks to nobody."""
RING_S = 15.0
_POLL_S = 0.04
_KEPT_S = 4.0


@dataclass(slots=True)
class Call:
    """One, as the caller knows it."""

    number: str
    answered: bool = False
    turns: int = 0
    """Questions that were answered."""
    setup_s: float | None = None
    """INVITE to 200."""
    talk_s: float | None = None
    """INVITE to the agent's own voice."""
    hung_up: bool = False
    """By us; else by the far end, or nobody."""
    under: str = ""
    """The fault under which it was placed or lost."""
    placed_at: float = field(default_factory=time.time)


class Caller:
    """One telephone after the other; `calls` are all that were placed."""

    def __init__(self, phone: Callable[[], Phone], numbers: itertools.count[int]) -> None:
        self.calls: list[Call] = []
        self.said: Said | None = None
        """Around the fault."""
        self._new, self._numbers = phone, numbers
        self._phone: Phone | None = None

    @property
    def call(self) -> Call:
        """The one that is up, or was last."""
        return self.calls[-1]

    @property
    def live(self) -> bool:
        """As far as SIP tells."""
        return self._phone is not None and self._phone.answered and not self._phone.ended

    async def ring(self, under: str = "", after_s: float = 0.0) -> bool:
        """Call, and hear the agent; False: it came to nothing, and the phone is down again."""
        await asyncio.sleep(after_s)
        call = Call(str(next(self._numbers)), under=under)
        self.calls.append(call)
        phone = self._phone = self._new()
        began = time.monotonic()
        with contextlib.suppress(SipAgentError):
            await phone.dial(call.number)
            if await phone.wait_answered(RING_S):
                call.answered, call.setup_s = True, time.monotonic() - began
                if await self._talked_to(began):
                    call.talk_s = time.monotonic() - began
                    return True
        await self.hang_up()
        return False

    async def ask(self) -> bool:
        """Say something, and hear an answer."""
        await self.speak()
        if self.said is None or not await self._talked_to(self.said.last):
            return False
        self.call.turns += 1
        return True

    async def speak(self, after_s: float = 0.0) -> None:
        """Only say something."""
        await asyncio.sleep(after_s)
        if self._phone is not None and not self._phone.ended:
            self.said = await self._phone.say(WORDS)

    def mute(self, on: bool) -> None:
        """Nothing of them leaves the phone."""
        if self._phone is not None:
            self._phone.media.mute = on

    def hears_agent(self) -> bool:
        """Just now."""
        return self._last_talk() > time.monotonic() - 0.3

    def since(self, at: float) -> Silence:
        """What they heard since a fault; those who had said nothing around it only listened."""
        said = self.said if self.said and self.said.last > at - 1.0 else None
        return listen(list(self._phone.media.heard) if self._phone else [], said, at, time.monotonic())

    def forget(self) -> None:
        """What was heard long ago."""
        if self._phone is not None:
            media, old = self._phone.media, time.monotonic() - _KEPT_S
            del media.heard[: next((place for place, one in enumerate(media.heard) if one.at > old), 0)]
            for kept in (media.voiced_in, media.sent):
                del kept[:-200]
        self.said = None

    async def hang_up(self) -> None:
        """Twice is fine."""
        phone, self._phone = self._phone, None
        if phone is not None:
            self.call.hung_up = not phone.ended
            with contextlib.suppress(SipAgentError, TimeoutError):
                await phone.close()

    async def _talked_to(self, since: float) -> bool:
        """The agent itself is heard after this, before long."""
        deadline = time.monotonic() + ANSWER_S
        while self._phone is not None and not self._phone.ended and time.monotonic() < deadline:
            if self._last_talk() > since:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    def _last_talk(self) -> float:
        heard = self._phone.media.heard if self._phone else []
        recent = heard[-50:]
        return max((one.at for one in recent if one.voiced and is_talk(one.packet.payload)), default=0.0)
