"""What a call tells: every event goes through here, into its ledger and up; and what the last of them sums up.

How long it was, how well heard, what was counted in all its rooms and conversations.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sipagent import model
from sipagent.ari.objects import ChannelHandle
from sipagent.conversation import Conversation
from sipagent.errors import AriError
from sipagent.ledger import Ledger
from sipagent.outcome import CallOutcome
from sipagent.room import Room
from sipagent.rtp import quality

_CARRIED = (
    model.StepEntered, model.SessionOpened, model.CallAnswered, model.Classified, model.CallHeld, model.CallRetrieved,
)  # fmt: skip
SAID_WITHIN_S = 1.5
"""What is said travels together: the caller's words and the answer to them come within this time, mostly."""


class Story:
    """Kept from StasisStart on; times are the loop's seconds."""

    def __init__(
        self,
        call_id: str,
        started_s: float,
        listener: Callable[[model.CallEvent], None],
        *,
        show: bool,
        history: str = "",
    ) -> None:
        """`listener` hears every event; `show`: what was given to tools and said by them stands in events."""
        self.ledger = Ledger(history)
        self.step = ""
        self.conversation = ("", "")
        """Of this step's last session with the model: the endpoint's name and the conversation's id."""
        self.changed = asyncio.Event()
        """Something happened that another worker would have to know."""
        self.answered_s: float | None = None
        self.disposition: model.Disposition | None = None
        self._loop = asyncio.get_running_loop()
        self._carried_at = 0.0
        """When what was said will have been told of."""
        self._call_id, self._listener, self._show = call_id, listener, show
        self.started_s = started_s
        self._turns = 0
        self._counters: Counter[str] = Counter()
        self._quality: dict[str, model.LegQuality] = {}

    def tell(self, kind: Callable[..., model.CallEvent], **facts: object) -> None:
        """Something happened in this call."""
        event = kind(call_id=self._call_id, at=time.time(), **facts)
        self.ledger.take(event)
        match event:
            case model.ToolCalled() if not self._show:
                event = msgspec.structs.replace(event, arguments="")
            case model.ToolReturned() if not self._show:
                event = msgspec.structs.replace(event, result="")
            case model.Classified():
                self.disposition = event.disposition
            case model.SessionOpened():
                self.conversation = (event.endpoint, event.conversation_id)
            case model.StepEntered() if event.step != self.step:
                self.step, self.conversation = event.step, ("", "")
        if isinstance(event, _CARRIED):
            self.changed.set()
        elif isinstance(event, model.Transcript) and self._loop.time() >= self._carried_at:
            self._carried_at = self._loop.call_later(SAID_WITHIN_S, self.changed.set).when()
        self._listener(event)

    def answered(self, now_s: float) -> None:
        """The call is answered, by us or by whoever has the caller; again is no news."""
        if self.answered_s is None:
            self.answered_s = now_s
            self.tell(model.CallAnswered, setup_ms=round((now_s - self.started_s) * 1000, 1))

    async def look_at_quality(self, channel: ChannelHandle) -> None:
        """The caller's leg so far; a switch that cannot say is no reason to end a call."""
        with contextlib.suppress(AriError):
            if statistics := await channel.rtp_statistics():
                heard, told = quality.from_asterisk(statistics)
                self._quality["caller_to_switch"] = heard
                if told:
                    self._quality["switch_to_caller"] = told

    def take_room(self, room: Room) -> None:
        """A stay with us is over."""
        leg = self._quality.get("caller_to_switch")
        self._quality["caller_to_model"] = room.quality(leg.rtt_ms if leg else None)
        self._count(room.counters())

    def take_conversation(self, conversation: Conversation) -> None:
        """A conversation is over."""
        self._turns += conversation.talk.turns
        self._count(conversation.counters)

    def _count(self, more: Mapping[str, int]) -> None:
        self._counters.update(more)

    def facts(self, outcome: CallOutcome, now_s: float) -> dict[str, Any]:
        """The fields of `CallEnded`."""
        return {
            "outcome": outcome,
            "duration_s": round(now_s - self.started_s, 3),
            "answered": self.answered_s is not None,
            "turns": self._turns,
            "counters": dict(self._counters),
            "quality": self._quality,
            "disposition": self.disposition,
        }
