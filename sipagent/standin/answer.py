"""One response on its way out: which events, in which order, when. Core: `now` is an argument.

The session opens an answer, plans it once the words and the sound are known, and calls `step` when
`next_due` says so; each step sends one audio delta with the transcript that belongs to it. What the answer
does not know: why it was asked for, and whether it will be interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle

from sipagent.standin.config import Burst
from sipagent.standin.wire import AudioFormat, Emit, Event, NewId


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call the client has to run."""

    call_id: str
    item_id: str
    name: str
    arguments: str
    """JSON text, unless the script has it otherwise."""

    def item(self, *, done: bool) -> Event:
        """Its item."""
        item: Event = {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "completed" if done else "in_progress",
            "call_id": self.call_id,
            "name": self.name,
        }
        return item | {"arguments": self.arguments} if done else item


class Answer:
    """One response, from `response.created` to `response.done`."""

    def __init__(
        self,
        emit: Emit,
        new_id: NewId,
        *,
        audio_format: AudioFormat,
        burst: Burst,
        due: float,
        asked_at: float,
        epoch: float,
        interruptible: bool = True,
    ) -> None:
        """`due`: no delta before; `asked_at`: where latency is counted from; `epoch`: Unix time at now = 0."""
        self._emit, self._new_id = emit, new_id
        self.response_id, self.item_id = new_id(), new_id()
        self.format, self.interruptible = audio_format, interruptible
        self._chunks = cycle(burst.chunks)
        self._speed = burst.speed
        self._due, self._asked_at, self._epoch = due, asked_at, epoch
        self._metadata: Event = {}
        self.planned = False
        self.started_at: float | None = None  # time of the first event after response.created
        self.text = ""
        self.calls: tuple[FunctionCall, ...] = ()
        self._audio = b""
        self._position = 0  # bytes sent
        self._words: list[str] = []
        self._words_sent = 0

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
        return "".join(self._words[: self._words_sent])

    def next_due(self) -> float | None:
        """When to call `step`; None while unplanned or once complete."""
        if not self.planned or self.complete:
            return None
        return self._due if math.isinf(self._speed) else self._due + self.sent_s / self._speed

    # What it sends

    def create(self, metadata: Mapping[str, object] | None, *, by_client: bool) -> None:
        """`response.created`. Metadata is null for responses made by VAD, absent if a client gave none."""
        if metadata is not None or not by_client:
            self._metadata = {"metadata": metadata}
        self._emit("response.created", response=self._body("in_progress", []))

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
            self.started_at = now
            if self._audio:
                self._begin(previous_item_id)
        if not self._audio:
            return
        samples = max(1, round(next(self._chunks) * self.format.rate / 8000))
        chunk = self._audio[self._position : self._position + samples * self.format.sample_bytes]
        start_s = self.sent_s
        self._position += len(chunk)
        rid = self._new_id()
        extra: Event = {"latency": f"{max(0.0, now - self._asked_at):.2f}"} if first else {}
        self._emit(
            "response.output_audio.delta",
            **self.ids,
            delta=chunk,
            rid=rid,
            audio_duration_ms=round(len(chunk) * 1000 / self.format.bytes_per_s),
            ts=int((self._epoch + now) * 1000),
            **extra,
        )
        self._say_words(start_s)

    def finish(self, status: str = "completed") -> Event:
        """The closing events; all of them if completed, else the bare `response.done`. Gives the message item."""
        item = self.item(status="completed" if status == "completed" else "incomplete")
        if status == "completed":
            if self._audio:
                self._close_message()
            for index, call in enumerate(self.calls, 1 if self._audio else 0):
                self._send_call(call, output_index=index)
        output: list[object] = [item] if self._audio and self.begun else []
        if status == "completed":
            output += [call.item(done=True) for call in self.calls]
        self._emit(
            "response.done",
            response=self._body(status, output),
            response_id=self.response_id,
            usage=self._usage(),
        )
        return item

    @property
    def ids(self) -> Event:
        """The four ids that nearly every event of a response carries."""
        return {
            "item_id": self.item_id,
            "response_id": self.response_id,
            "content_index": 0,
            "output_index": 0,
        }

    def item(self, status: str = "in_progress") -> Event:
        """The assistant's message item with the transcript so far."""
        content = [{"type": "audio", "transcript": self.transcript}] if self.begun else []
        return self._bare_item(status) | {"content": content}

    def _begin(self, previous_item_id: str | None) -> None:
        self._emit(
            "response.output_item.added",
            response_id=self.response_id,
            output_index=0,
            item=self._bare_item("in_progress"),  # no content key on the real wire
        )
        self._emit(
            "conversation.item.added",
            item=self._bare_item("in_progress") | {"content": []},
            previous_item_id=previous_item_id,
        )
        part = {"type": "audio", "transcript": ""}
        # The string "0" is not ours: it was captured so.
        self._emit("response.content_part.added", **self.ids, part=part, previous_item_id="0")

    def _say_words(self, start_s: float) -> None:
        upto = math.ceil(len(self._words) * self.progress)
        words = "".join(self._words[self._words_sent : upto])
        self._words_sent = max(upto, self._words_sent)
        if words:
            rid = self._new_id()
            self._emit(
                "response.output_audio_transcript.delta",
                **self.ids, delta=words, rid=rid, start_time=round(start_s, 3), event_id=rid,
            )  # fmt: skip

    def _close_message(self) -> None:
        self._emit("response.output_audio_transcript.done", **self.ids, transcript=self.text)
        self._emit("response.content_part.done", **self.ids)
        self._emit("response.output_audio.done", **self.ids)
        self._emit(
            "response.output_item.done",
            response_id=self.response_id,
            output_index=0,
            item=self._bare_item("completed"),
        )

    def _send_call(self, call: FunctionCall, *, output_index: int) -> None:
        where = {"response_id": self.response_id, "output_index": output_index}
        inner = {"item_id": call.item_id, "call_id": call.call_id}
        self._emit("response.output_item.added", **where, item=call.item(done=False))
        self._emit("response.function_call_arguments.delta", **where, **inner, delta=call.arguments)
        self._emit(
            "response.function_call_arguments.done",
            **where, **inner, name=call.name, arguments=call.arguments,
        )  # fmt: skip
        self._emit("response.output_item.done", **where, item=call.item(done=True))

    def _bare_item(self, status: str) -> Event:
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "replayed": False,
        }

    def _body(self, status: str, output: list[object]) -> Event:
        return {
            "id": self.response_id,
            "object": "realtime.response",
            "output": output,
            "status": status,
            "status_details": "unimplemented",
            "usage": {},  # the numbers stand beside it, at the top level
            **self._metadata,
        }

    def _usage(self) -> Event:
        audio_tokens, text_tokens = round(self.sent_s * 50), self._words_sent
        return {
            "input_tokens": 0,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 0, "grok_tokens": 0},
            "output_tokens": audio_tokens + text_tokens,
            "output_token_details": {
                "text_tokens": text_tokens,
                "audio_tokens": audio_tokens,
                "grok_tokens": 0,
            },
            "total_tokens": audio_tokens + text_tokens,
            "output_audio_seconds": round(self.sent_s, 2),
            "billable_audio_seconds": math.ceil(self.sent_s),
        }
