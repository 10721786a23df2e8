"""xAI's wire: the shapes of its events, as captured; where captures and schema disagree, the captures.

Pure but for `send`: what is said and when is the session's and the answer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sipagent.standin import items, mischief
from sipagent.standin.answer import Answer, FunctionCall
from sipagent.standin.dialect import Reason, Request, Rules, Wire, Words, Wrong
from sipagent.standin.settings import Settings, merge
from sipagent.standin.wire import Event, Refusal, error_body

_BAD = "invalid_request_error"

WORDS: Words = {
    Wrong.NO_AUDIO: ("input_audio_buffer.append needs 'audio': base64", _BAD, "audio"),
    Wrong.UNKNOWN_EVENT: ("Unknown client event {type!r}", "invalid_event", "type"),
    Wrong.BINARY: ("Binary frame of {length} bytes: this session's transport is json", "invalid_event", None),
    Wrong.UPDATE_REFUSED: ("session.update is refused: an ordered fault", _BAD, "session"),
    Wrong.EMPTY_BUFFER: ("input_audio_buffer.commit: the buffer is empty", _BAD, None),
    Wrong.COMMIT_UNDER_VAD: ("input_audio_buffer.commit is for manual mode (turn_detection null)", _BAD, None),
    Wrong.NO_ITEM: ("conversation.item.create needs an 'item' object", _BAD, "item"),
    Wrong.NO_TEXT_TO_FORCE: ("force_message needs content [{{type: output_text, text}}]", _BAD, "item.content"),
    Wrong.UNKNOWN_CALL: ("Tool call ID {call_id!r} not found in conversation", "invalid_tool_call_id", None),
    Wrong.UNKNOWN_TO_DELETE: ("Item not found", _BAD, "item_id"),
    Wrong.UNKNOWN_TO_RETRIEVE: ("Item not found", _BAD, "item_id"),
    Wrong.UNKNOWN_TO_TRUNCATE: ("truncate: item_id and audio_end_ms of a known item are needed", _BAD, "item_id"),
    Wrong.NO_RESPONSE_OBJECT: ("response must be an object", _BAD, "response"),
    Wrong.RESPONSE_ACTIVE: ("Conversation already has an active response: {response_id}", _BAD, None),
    Wrong.NO_RESPONSE_ACTIVE: ("Cancellation failed: no active response found", _BAD, None),
    Wrong.OTHER_RESPONSE_ACTIVE: (
        "Cancellation failed: Response ID {response_id!r} does not match current response", _BAD, None,
    ),
}  # fmt: skip


class XaiWire(Wire):
    """A session as xAI words it."""

    rules = Rules()
    words = WORDS
    client_events = frozenset(
        {
            "session.update", "input_audio_buffer.commit", "input_audio_buffer.clear", "conversation.item.create",
            "conversation.item.delete", "conversation.item.truncate", "response.create", "response.cancel",
        }
    )  # fmt: skip

    def emit(self, type_: str, /, **fields: object) -> None:
        """With the stray `previous_item_id` of the real wire."""
        event: Event = {"type": type_, "event_id": self._new_id()}
        if type_ != "session.created":  # the one event captured without it
            event["previous_item_id"] = None
        event.update(fields)
        self._send(event)

    def error(self, refusal: Refusal, text: str = "") -> None:
        """A client's own `event_id` is not echoed."""
        self.emit("error", error=error_body(refusal.message, refusal.code or _BAD, refusal.param))

    def unreadable(self, error: Exception, text: str) -> None:
        """JSON or not, it is an `invalid_event`."""
        self.emit("error", error=error_body(f"Invalid event: {error}", "invalid_event"))

    # ---- the session

    def open(self, session_id: str, conversation_id: str, *, reversed_order: bool) -> None:
        """`session.created`, then `conversation.created`."""
        opening: list[tuple[str, Event]] = [
            ("session.created", {"session": self.settings().created(session_id.replace("-", ""))}),
            ("conversation.created", {"conversation": {"id": conversation_id, "object": "realtime.conversation"}}),
        ]
        for type_, body in reversed(opening) if reversed_order else opening:
            self.emit(type_, **body)

    def settings(self) -> Settings:
        """Nothing set; no turn detection before it is asked for."""
        return Settings(model=self._model)

    def check(self, event: Event) -> None:
        """The service is lax: each handler asks for what it needs."""

    def update(self, old: Settings, update: object) -> Settings:
        """See `settings.merge`."""
        return merge(old, update)

    def updated(self, settings: Settings) -> Event:
        """Not the shape of `session.created`."""
        return settings.updated()

    def expired(self) -> str:
        """At the end of 120 minutes."""
        message = "Session reached its maximum duration (an ordered fault)"
        self.emit("error", error=error_body(message, "max_duration", kind="max_duration"))
        return "max_duration"

    def failed(self, message: str, item_id: str | None) -> None:
        """One error for either."""
        self.emit("error", error=error_body(message, "internal_error", kind="internal_error"))

    # ---- items

    def item(self, body: Mapping[str, object]) -> Event:
        """See `items.wire_item`."""
        return items.wire_item(body, self._new_id)

    def heard_item(self, item_id: str) -> Event:
        """With an empty transcript."""
        return {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": ""}],
            "replayed": False,
        }

    def item_added(self, item: Event, previous_item_id: str | None) -> None:
        """One event; there is no `conversation.item.done`."""
        self.emit("conversation.item.added", item=dict(item), previous_item_id=previous_item_id)

    def timed_out(self, item_id: str, start_ms: int, end_ms: int, previous_item_id: str | None) -> None:
        """With the item before it."""
        self.emit(
            "input_audio_buffer.timeout_triggered",
            item_id=item_id,
            previous_item_id=previous_item_id,
            audio_start_ms=start_ms,
            audio_end_ms=end_ms,
        )

    def transcribed(self, item_id: str, transcript: str, settings: Settings, *, seconds: float, repeat: bool) -> None:
        """`completed` whether asked for or not; `updated` before it from `grok-transcribe`."""
        kind = "conversation.item.input_audio_transcription."
        if (settings.transcription or {}).get("model") == "grok-transcribe":
            self.emit(kind + "updated", item_id=item_id, transcript=transcript)
        if repeat:
            words = transcript.split()
            for count in range(1, len(words)):
                text = " ".join(words[:count])
                self.emit(kind + "completed", item_id=item_id, transcript=text, status="in_progress")
        self.emit(kind + "completed", item_id=item_id, transcript=transcript, status="completed")

    def truncate(self, event: Event, item: Event | None, sound_ms: int | None) -> None:
        """As the schema has it; only a fault comes here (`ack-truncate`)."""
        item_id, end_ms = event.get("item_id"), event.get("audio_end_ms")
        if item is None or not isinstance(end_ms, int):
            raise self.refusal(Wrong.UNKNOWN_TO_TRUNCATE)
        self.emit(
            "conversation.item.truncated",
            item_id=item_id,
            content_index=event.get("content_index", 0),
            audio_end_ms=end_ms,
            transcript=items.item_text(item),
        )

    # ---- responses

    def request(self, body: Mapping[str, object]) -> Request:
        """Of all fields only `metadata` counts here."""
        return Request(metadata=items.metadata(body.get("metadata")))

    def message(self, answer: Answer, status: str) -> Event:
        """Content once there is any."""
        content = [{"type": "audio", "transcript": answer.transcript}] if answer.begun else []
        return self._bare_item(answer, status) | {"content": content}

    def call(self, call: FunctionCall, *, done: bool) -> Event:
        """The arguments only at the end."""
        item: Event = {
            "id": call.item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "completed" if done else "in_progress",
            "call_id": call.call_id,
            "name": call.name,
        }
        return item | {"arguments": call.arguments} if done else item

    def created(self, answer: Answer) -> None:
        """`response.created` alone."""
        self.emit("response.created", response=self._response(answer, "in_progress", []))

    def begun(self, answer: Answer) -> None:
        """Three events, three shapes of the same item."""
        bare = self._bare_item(answer, "in_progress")
        # No content key on the real wire.
        self.emit("response.output_item.added", response_id=answer.response_id, output_index=0, item=bare)
        self.emit(
            "conversation.item.added", item=bare | {"content": []}, previous_item_id=answer.previous_item_id
        )  # fmt: skip
        part = {"type": "audio", "transcript": ""}
        # The string "0" is not ours: it was captured so.
        self.emit("response.content_part.added", **answer.ids, part=part, previous_item_id="0")

    def sound(self, answer: Answer, chunk: bytes, *, first: bool, now: float) -> None:
        """With its length, its time, and on the first the latency."""
        extra: Event = {"latency": f"{max(0.0, now - answer.asked_at):.2f}"} if first else {}
        self.emit(
            "response.output_audio.delta",
            **answer.ids,
            delta=chunk,
            rid=self._new_id(),
            audio_duration_ms=round(len(chunk) * 1000 / answer.format.bytes_per_s),
            ts=int((self._epoch + now) * 1000),
            **extra,
        )

    def said(self, answer: Answer, words: str, start_s: float) -> None:
        """`rid` is the event's id once more."""
        rid = self._new_id()
        self.emit(
            "response.output_audio_transcript.delta",
            **answer.ids, delta=words, rid=rid, start_time=round(start_s, 3), event_id=rid,
        )  # fmt: skip

    def called(self, answer: Answer) -> None:
        """One after the other."""
        if answer.has_sound:
            self._close_message(answer)
        for index, call in enumerate(answer.calls, 1 if answer.has_sound else 0):
            self._send_call(answer, call, output_index=index)

    def done(self, answer: Answer, status: str, reason: Reason) -> None:
        """The closing events if it is completed, else the bare `response.done`."""
        output: list[object] = []
        if answer.has_sound and answer.begun:
            output.append(self.message(answer, "completed" if answer.called else answer.closed(status)))
        if status == "completed" and not answer.called:
            self.called(answer)
        if status == "completed" or answer.called:
            output += [self.call(call, done=True) for call in answer.calls]
        self.emit(
            "response.done",
            response=self._response(answer, status, output),
            response_id=answer.response_id,
            usage=self._usage(answer),
        )

    def stray_sound(self, response_id: str | None, sound: bytes) -> None:
        """See `mischief.dead_delta`."""
        self._send(mischief.dead_delta(self._new_id, response_id, sound))

    def _close_message(self, answer: Answer) -> None:
        self.emit("response.output_audio_transcript.done", **answer.ids, transcript=answer.text)
        self.emit("response.content_part.done", **answer.ids)
        self.emit("response.output_audio.done", **answer.ids)
        item = self._bare_item(answer, "completed")
        self.emit("response.output_item.done", response_id=answer.response_id, output_index=0, item=item)

    def _send_call(self, answer: Answer, call: FunctionCall, *, output_index: int) -> None:
        where = {"response_id": answer.response_id, "output_index": output_index}
        inner = {"item_id": call.item_id, "call_id": call.call_id}
        self.emit("response.output_item.added", **where, item=self.call(call, done=False))
        self.emit("response.function_call_arguments.delta", **where, **inner, delta=call.arguments)
        self.emit(
            "response.function_call_arguments.done",
            **where, **inner, name=call.name, arguments=call.arguments,
        )  # fmt: skip
        self.emit("response.output_item.done", **where, item=self.call(call, done=True))

    def _bare_item(self, answer: Answer, status: str) -> Event:
        return {
            "id": answer.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "replayed": False,
        }

    def _response(self, answer: Answer, status: str, output: list[object]) -> Event:
        body: Event = {
            "id": answer.response_id,
            "object": "realtime.response",
            "output": output,
            "status": status,
            "status_details": "unimplemented",
            "usage": {},  # the numbers stand beside it, at the top level
        }
        # Metadata is null for responses made by VAD, absent if a client gave none.
        if answer.request is None:
            return body | {"metadata": None}
        return body if answer.request.metadata is None else body | {"metadata": answer.request.metadata}

    def _usage(self, answer: Answer) -> Event:
        audio_tokens, text_tokens = round(answer.sent_s * 50), answer.words_sent
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
            "output_audio_seconds": round(answer.sent_s, 2),
            "billable_audio_seconds": math.ceil(answer.sent_s),
        }
