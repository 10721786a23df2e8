"""One response on its way out: how much of it, when. Core: `now` is an argument.

The session opens an answer, plans it once the words and the sound are known, and calls `step` when
`next_due` says so; each step sends one audio delta with the transcript that belongs to it. How its events look
is the wire's; what the answer does not know: why it was asked for, and whether it will be interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle

from sipagent.standin.config import Burst
from sipagent.standin.dialect import Reason, Request, Wire
from sipagent.standin.wire import AudioFormat, Event


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call the client has to run."""

    call_id: str
    item_id: str
    name: str
    arguments: str
    """JSON text, unless the script has it otherwise."""


class Answer:
    """One response, from `response.created` to `response.done`."""

    def __init__(
        self,
        wire: Wire,
        *,
        audio_format: AudioFormat,
        burst: Burst,
        due: float,
        asked_at: float,
        request: Request | None = None,
        interruptible: bool = True,
    ) -> None:
        """`due`: no delta before; `asked_at`: where latency is counted from; `request`: the client's, if it asked."""
        self._wire = wire
        self.response_id, self.item_id = wire.id("resp"), wire.id("item")
        self.format, self.interruptible = audio_format, interruptible
        self.request, self.asked_at = request, asked_at
        self._chunks = cycle(burst.chunks)
        self._speed = burst.speed
        self._due = due
        self.planned = False
        self.started_at: float | None = None  # time of the first event after response.created
        self.previous_item_id: str | None = None  # the conversation's last item when this one came in
        self.text = ""
        self.calls: tuple[FunctionCall, ...] = ()
        self.called = False  # the fault `early-calls`: they are out, and all that is left is `response.done` ...
        self._done_due: float | None = None  # ... at this time
        self._audio = b""
        self._position = 0  # bytes sent
        self._words: list[str] = []
        self.words_sent = 0
        wire.created(self)

    # What it is

    @property
    def begun(self) -> bool:
        """Whether anything but `response.created` has been sent."""
        return self.started_at is not None

    @property
    def complete(self) -> bool:
        """All audio is out."""
        return self.planned and self.begun and self._position >= len(self._audio)

    @property
    def detached(self) -> bool:
        """Whether it stays outside the conversation."""
        return self.request is not None and self.request.detached

    @property
    def has_sound(self) -> bool:
        """Whether it says anything; known once it is planned."""
        return bool(self._audio)

    @property
    def progress(self) -> float:
        """Share of the audio sent, 0 to 1."""
        return self._position / len(self._audio) if self._audio else 0.0

    @property
    def sent_s(self) -> float:
        """Seconds of audio sent."""
        return self._position / self.format.bytes_per_s

    @property
    def transcript(self) -> str:
        """The words sent so far."""
        return "".join(self._words[: self.words_sent])

    @property
    def ids(self) -> Event:
        """The four ids that nearly every event of a response carries."""
        return {
            "item_id": self.item_id,
            "response_id": self.response_id,
            "content_index": 0,
            "output_index": 0,
        }

    def next_due(self) -> float | None:
        """When to call `step`, or, once it has called early, `finish`; None while unplanned or once complete."""
        if not self.planned or self.complete:
            return self._done_due
        return self._due if math.isinf(self._speed) else self._due + self.sent_s / self._speed

    def item(self, status: str = "in_progress") -> Event:
        """Its message item with the transcript so far."""
        return self._wire.message(self, status)

    # What it does

    def plan(self, text: str, speech: bytes, calls: tuple[FunctionCall, ...], *, now: float) -> None:
        """Now the words, their sound (in the answer's format) and the calls are known."""
        self.text, self._audio, self.calls, self.planned = text, speech, calls, True
        self._words = [word + " " for word in text.split()]
        if self._words:
            self._words[-1] = self._words[-1].rstrip()
        self._due = max(self._due, now)

    def step(self, now: float, previous_item_id: str | None) -> None:
        """Send the next delta (the first brings the item with it)."""
        first = not self.begun
        if first:
            self.started_at, self.previous_item_id = now, previous_item_id
            if self._audio:
                self._wire.begun(self)
        if not self._audio:
            return
        samples = max(1, round(next(self._chunks) * self.format.rate / 8000))
        chunk = self._audio[self._position : self._position + samples * self.format.sample_bytes]
        start_s = self.sent_s
        self._position += len(chunk)
        self._wire.sound(self, chunk, first=first, now=now)
        self._say_words(start_s)

    def call(self, done_due: float) -> None:
        """All but `response.done`, which is due then."""
        self.called, self._done_due = True, done_due
        self._wire.called(self)

    def finish(self, status: str, reason: Reason) -> Event:
        """The closing events. Gives the message item."""
        item = self.item("completed" if self.called else self.closed(status))
        self._wire.done(self, status, reason)
        return item

    @staticmethod
    def closed(status: str) -> str:
        """An item's status when its response ends with that one."""
        return "completed" if status == "completed" else "incomplete"

    def _say_words(self, start_s: float) -> None:
        upto = math.ceil(len(self._words) * self.progress)
        words = "".join(self._words[self.words_sent : upto])
        self.words_sent = max(upto, self.words_sent)
        if words:
            self._wire.said(self, words, start_s)
