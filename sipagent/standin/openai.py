"""OpenAI's wire: the Realtime API since general availability, over WebSocket.

Shapes follow captures of the service and the published types of its client (openai-python); where the two
disagree, the captures: no `conversation.created`, items without `object`, `rate_limits.updated` after
`response.done`. The padding that the service calls `obfuscation` is left out. Pure but for `send`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sipagent.standin import openai_session
from sipagent.standin.answer import Answer, FunctionCall
from sipagent.standin.dialect import Kind, Reason, Request, Rules, Wire, Words, Wrong
from sipagent.standin.openai_schema import EVENTS
from sipagent.standin.schema import listed, missing, wrong_type
from sipagent.standin.settings import Settings
from sipagent.standin.wire import Event, NewId, Refusal

_ID_LENGTH = 21
_SUPPORTED = listed(tuple(EVENTS), "and")
_UNSPOKEN = {"type": "server_error", "code": None, "message": "The stand-in's voice failed."}

_TOO_SHORT = (
    "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
    "but buffer only has 0.00ms of audio."
)
_ACTIVE = (
    "Conversation already has an active response in progress: {response_id}. Wait until the response is finished "
    "before creating a new one."
)

WORDS: Words = {
    Wrong.NO_AUDIO: ("Missing required parameter: 'audio'.", "missing_required_parameter", "audio"),
    Wrong.UNKNOWN_EVENT: (f"Invalid value: '{{type}}'. Supported values are: {_SUPPORTED}.", "invalid_value", "type"),
    Wrong.BINARY: ("Expected a text WebSocket message; binary frames are not supported.", "invalid_event", None),
    Wrong.UPDATE_REFUSED: ("session.update is refused: an ordered fault", "invalid_value", "session"),
    Wrong.EMPTY_BUFFER: (_TOO_SHORT, "input_audio_buffer_commit_empty", None),
    Wrong.UNKNOWN_CALL: ("Tool call ID '{call_id}' not found in conversation.", "invalid_tool_call_id", None),
    Wrong.UNKNOWN_TO_DELETE: (
        "Error deleting item: the item with id '{item_id}' does not exist.", "item_delete_invalid_item_id", None,
    ),
    Wrong.UNKNOWN_TO_RETRIEVE: (
        "Error retrieving item: the item with id '{item_id}' does not exist.", "item_retrieve_invalid_item_id", None,
    ),
    Wrong.UNKNOWN_TO_TRUNCATE: (
        "Error truncating item: the item with id '{item_id}' does not exist.", "item_truncate_invalid_item_id", None,
    ),
    Wrong.RESPONSE_ACTIVE: (_ACTIVE, "conversation_already_has_active_response", None),
    Wrong.NO_RESPONSE_ACTIVE: (
        "Cancellation failed: no active response found", "response_cancel_not_active", None,
    ),
    Wrong.OTHER_RESPONSE_ACTIVE: (
        "Cancellation failed: no active response found with ID '{response_id}'", "response_cancel_not_active", None,
    ),
}  # fmt: skip
"""Of `Wrong` those are missing that the rules or the schema leave no way to."""


class OpenAIWire(Wire):
    """A session as OpenAI words it."""

    rules = Rules(
        joins_pauses=False,
        answers_unheard=True,
        commits_under_vad=True,
        commits_silence=True,
        truncates=True,
        deletes_assistant=True,
        forces_messages=False,
        empty_messages=False,
        calls_stay=True,
        pings=False,
        unspoken="failed",
        lasts_s=openai_session.LASTS_S,
    )
    words = WORDS
    client_events = frozenset(EVENTS) - {"input_audio_buffer.append"}

    def __init__(self, new_id: NewId, send: Callable[[Event], None], *, model: str, epoch: float, now: float) -> None:
        super().__init__(new_id, send, model=model, epoch=epoch, now=now)
        expires_at = int(epoch + now + openai_session.LASTS_S)
        self._body = openai_session.default("", model, expires_at)  # the session as it is echoed
        self._conversation_id = ""
        self._spoke = False  # from then on the voice stands
        self._unheard = ""  # the item whose sound could not be transcribed

    def id(self, kind: Kind) -> str:
        """A prefix, and letters and digits."""
        return f"{kind}_{self._new_id().replace('-', '')[-_ID_LENGTH:]}"

    def emit(self, type_: str, /, **fields: object) -> None:
        """Type and id first, as the service has them."""
        self._send({"type": type_, "event_id": self.id("event"), **fields})

    # ---- errors

    def error(self, refusal: Refusal, text: str = "") -> None:
        """With the client's own `event_id`, if it gave one."""
        body = {"code": refusal.code, "message": refusal.message, "param": refusal.param, "event_id": _event_id(text)}
        self.emit("error", error={"type": "invalid_request_error", **body})

    def unreadable(self, error: Exception, text: str) -> None:
        """JSON that is no event has the schema's words; what is no JSON has the parser's."""
        try:
            event = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            message = f"Invalid event: failed to parse JSON value. {error}"
            self.error(Refusal(message[:300], code="invalid_json"))
            return
        self.error(_misread(event), text)

    def check(self, event: Event) -> None:
        """By the schema; then what a schema cannot say."""
        EVENTS[str(event["type"])](event, "")

    def failed(self, message: str, item_id: str | None) -> None:
        """Ears have an event for it; of the voice `response.done` will tell."""
        if item_id is None:
            return
        self._unheard = item_id
        if self._body["audio"]["input"]["transcription"] is not None:
            self.emit(
                "conversation.item.input_audio_transcription.failed",
                item_id=item_id,
                content_index=0,
                error={"type": "server_error", "code": None, "message": message, "param": None},
            )

    # ---- the session

    def open(self, session_id: str, conversation_id: str, *, reversed_order: bool) -> None:
        """`session.created` is all: the conversation's name comes with the first response."""
        self._body["id"], self._conversation_id = session_id, conversation_id
        self.emit("session.created", session=self._body)

    def settings(self) -> Settings:
        """Turn detection is on and hears PCM at 24 kHz from the first."""
        return openai_session.settings(self._body)

    def update(self, old: Settings, update: object) -> Settings:
        """All or nothing; the schema has seen it."""
        if not isinstance(update, dict):
            raise missing("session")
        body = openai_session.merged(self._body, update)
        if self._spoke and body["audio"]["output"]["voice"] != self._body["audio"]["output"]["voice"]:
            raise Refusal(
                "Cannot update a conversation's voice if assistant audio is present.", code="cannot_update_voice"
            )
        self._body = body
        return openai_session.settings(body)

    def updated(self, settings: Settings) -> Event:
        """The same shape as in `session.created`."""
        return self._body

    def expired(self) -> str:
        """After 60 minutes."""
        self.error(Refusal("Your session hit the maximum duration of 60 minutes.", code="session_expired"))
        return "session_expired"

    # ---- items

    def item(self, body: Mapping[str, Any]) -> Event:
        """As it came, with an id; sound is not echoed."""
        item: Event = {"id": body.get("id") or self.id("item"), "type": body["type"], "status": "completed"}
        if body["type"] == "message":
            content = [{key: entry for key, entry in part.items() if key != "audio"} for part in body["content"]]
            return item | {"role": body["role"], "content": content}
        if body["type"] == "function_call":
            call_id = body.get("call_id") or self.id("call")
            return item | {"call_id": call_id, "name": body["name"], "arguments": body["arguments"]}
        return item | {"call_id": body["call_id"], "output": body["output"]}

    def heard_item(self, item_id: str) -> Event:
        """Its transcript is null until there is one."""
        content = [{"type": "input_audio", "transcript": None}]
        return {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": content}

    def item_added(self, item: Event, previous_item_id: str | None) -> None:
        """Added and, since it is whole, done."""
        for type_ in ("conversation.item.added", "conversation.item.done"):
            self.emit(type_, previous_item_id=previous_item_id, item=dict(item))

    def timed_out(self, item_id: str, start_ms: int, end_ms: int, previous_item_id: str | None) -> None:
        """The silence is committed after it."""
        self.emit("input_audio_buffer.timeout_triggered", audio_start_ms=start_ms, audio_end_ms=end_ms, item_id=item_id)

    def transcribed(self, item_id: str, transcript: str, settings: Settings, *, seconds: float, repeat: bool) -> None:
        """Only if it was asked for; word by word, then whole. To repeat it is a quirk of xAI's."""
        if settings.transcription is None or item_id == self._unheard:
            return
        kind, where = "conversation.item.input_audio_transcription.", {"item_id": item_id, "content_index": 0}
        words = transcript.split()
        for index, word in enumerate(words):
            self.emit(kind + "delta", **where, delta=word if index == 0 else f" {word}")
        usage: Event = {"type": "duration", "seconds": round(seconds, 2)}
        if settings.transcription.get("model") != "whisper-1":
            heard, written = round(seconds * 10), len(words)  # 16 tokens were measured for 1.63 s
            details = {"text_tokens": 0, "audio_tokens": heard}
            counts = {"total_tokens": heard + written, "input_tokens": heard, "input_token_details": details}
            usage = {"type": "tokens", **counts, "output_tokens": written}
        self.emit(kind + "completed", **where, transcript=" ".join(words), usage=usage)

    def truncate(self, event: Event, item: Event | None, sound_ms: int | None) -> None:
        """What was not heard was not said: the transcript goes."""
        end_ms = event["audio_end_ms"]
        if item is None:
            raise self.refusal(Wrong.UNKNOWN_TO_TRUNCATE, item_id=event["item_id"])
        if sound_ms is None:
            raise Refusal("Only model output audio messages can be truncated", code=None)
        if isinstance(end_ms, int) and end_ms > sound_ms:
            raise Refusal(f"Audio content of {sound_ms}ms is already shorter than {end_ms}ms", code="invalid_value")
        item["content"] = [{"type": "output_audio", "transcript": None}]
        where = {"item_id": event["item_id"], "content_index": event["content_index"]}
        self.emit("conversation.item.truncated", **where, audio_end_ms=end_ms)

    # ---- responses

    def request(self, body: Mapping[str, Any]) -> Request:
        """Instructions, tools, input and place of one response."""
        session, instructions, given = self._body, body.get("instructions"), body.get("input")
        tools = None
        if "tools" in body or "tool_choice" in body:
            tools = openai_session.tool_names(
                body.get("tools", session["tools"]), body.get("tool_choice", session["tool_choice"])
            )
        whole = [item for item in given or () if item["type"] != "item_reference"]
        return Request(
            metadata=body.get("metadata"),
            said=_verbatim(instructions) if isinstance(instructions, str) else None,
            tools=tools,
            context=None if given is None else tuple(self.item(item) for item in whole),
            detached=body.get("conversation") == "none",
        )

    def message(self, answer: Answer, status: str) -> Event:
        """Content once there is any."""
        content = [{"type": "output_audio", "transcript": answer.transcript}] if answer.begun else []
        return {"id": answer.item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def call(self, call: FunctionCall, *, done: bool) -> Event:
        """The arguments are empty until they are done."""
        return {
            "id": call.item_id,
            "type": "function_call",
            "status": "completed" if done else "in_progress",
            "name": call.name,
            "call_id": call.call_id,
            "arguments": call.arguments if done else "",
        }

    def created(self, answer: Answer) -> None:
        """`response.created` alone."""
        self.emit("response.created", response=self._response(answer, "in_progress", [], None, None))

    def begun(self, answer: Answer) -> None:
        """The item, twice, and its only part."""
        self._spoke = True
        item = self.message(answer, "in_progress") | {"content": []}
        self._item_added(answer, item, 0, answer.previous_item_id)
        self.emit("response.content_part.added", **_ids(answer), part={"type": "audio", "transcript": ""})

    def sound(self, answer: Answer, chunk: bytes, *, first: bool, now: float) -> None:
        """The sound and the ids."""
        self.emit("response.output_audio.delta", **_ids(answer), delta=chunk)

    def said(self, answer: Answer, words: str, start_s: float) -> None:
        """The words and the ids."""
        self.emit("response.output_audio_transcript.delta", **_ids(answer), delta=words)

    def called(self, answer: Answer) -> None:
        """One after the other."""
        self._close_items(answer, "completed")

    def done(self, answer: Answer, status: str, reason: Reason) -> None:
        """What was begun is closed, however it ends; then `response.done` and the rate limits."""
        if answer.called:
            output: list[object] = [self.message(answer, "completed")] if answer.has_sound else []
            output += [self.call(call, done=True) for call in answer.calls]
        else:
            output = self._close_items(answer, status)
        details: Event | None = {"type": status}
        if status == "cancelled":
            details = {"type": status, "reason": reason}
        elif status == "failed":
            details = {"type": status, "error": _UNSPOKEN}
        elif status == "completed":
            details = None
        usage = _usage(answer)
        self.emit("response.done", response=self._response(answer, status, output, details, usage))
        limit = {"name": "tokens", "limit": 40_000, "remaining": 38_000, "reset_seconds": 3.0}
        self.emit("rate_limits.updated", rate_limits=[limit])

    def stray_sound(self, response_id: str | None, sound: bytes) -> None:
        """In the shape of a good one."""
        ids = {"response_id": response_id or self.id("resp"), "item_id": self.id("item")}
        self.emit("response.output_audio.delta", **ids, output_index=0, content_index=0, delta=sound)

    def _item_added(self, answer: Answer, item: Event, output_index: int, previous_item_id: str | None) -> None:
        self.emit("response.output_item.added", response_id=answer.response_id, output_index=output_index, item=item)
        if not answer.detached:
            self.emit("conversation.item.added", previous_item_id=previous_item_id, item=item)

    def _item_done(self, answer: Answer, item: Event, output_index: int, previous_item_id: str | None) -> None:
        if not answer.detached:
            self.emit("conversation.item.done", previous_item_id=previous_item_id, item=item)
        self.emit("response.output_item.done", response_id=answer.response_id, output_index=output_index, item=item)

    def _close_items(self, answer: Answer, status: str) -> list[object]:
        """The message, and the calls if it is completed."""
        output: list[object] = []
        previous = answer.previous_item_id
        if answer.begun and answer.has_sound:
            output.append(self._close_message(answer, status))
            previous = answer.item_id
        if status == "completed":
            for call in answer.calls:
                self._send_call(answer, call, len(output), previous)
                output.append(self.call(call, done=True))
                previous = call.item_id
        return output

    def _close_message(self, answer: Answer, status: str) -> Event:
        """Of an answer that was cut, the transcript ends with the last word that was sent."""
        item, words, ids = self.message(answer, answer.closed(status)), answer.transcript, _ids(answer)
        self.emit("response.output_audio.done", **ids)
        self.emit("response.output_audio_transcript.done", **ids, transcript=words)
        self.emit("response.content_part.done", **ids, part={"type": "audio", "transcript": words})
        self._item_done(answer, item, 0, answer.previous_item_id)
        return item

    def _send_call(self, answer: Answer, call: FunctionCall, output_index: int, previous_item_id: str | None) -> None:
        self._item_added(answer, self.call(call, done=False), output_index, previous_item_id)
        ids = {"response_id": answer.response_id, "item_id": call.item_id, "output_index": output_index}
        ids["call_id"] = call.call_id
        self.emit("response.function_call_arguments.delta", **ids, delta=call.arguments)
        self.emit("response.function_call_arguments.done", **ids, name=call.name, arguments=call.arguments)
        self._item_done(answer, self.call(call, done=True), output_index, previous_item_id)

    def _response(
        self, answer: Answer, status: str, output: list[object], details: Event | None, usage: Event | None
    ) -> Event:
        session, output_audio = self._body, self._body["audio"]["output"]
        return {
            "object": "realtime.response",
            "id": answer.response_id,
            "status": status,
            "status_details": details,
            "output": output,
            "conversation_id": None if answer.detached else self._conversation_id,
            "output_modalities": ["audio"],
            "max_output_tokens": session["max_output_tokens"],
            "audio": {"output": {"format": output_audio["format"], "voice": output_audio["voice"]}},
            "usage": usage,
            "metadata": None if answer.request is None else answer.request.metadata,
        }


def _ids(answer: Answer) -> Event:
    return {"response_id": answer.response_id, "item_id": answer.item_id, "output_index": 0, "content_index": 0}


def _usage(answer: Answer) -> Event:
    audio_tokens, text_tokens = round(answer.sent_s * 20), answer.words_sent  # 20 a second, as documented
    none = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
    return {
        "total_tokens": audio_tokens + text_tokens,
        "input_tokens": 0,
        "output_tokens": audio_tokens + text_tokens,
        "input_token_details": {**none, "cached_tokens": 0, "cached_tokens_details": none},
        "output_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
    }


def _verbatim(instructions: str) -> str | None:
    """The text to be said word for word: the last line, if that is a JSON string. A model would understand it."""
    last = instructions.rstrip().rpartition("\n")[2].strip()
    if len(last) < 2 or last[0] != '"' or last[-1] != '"':
        return None
    try:
        said = json.loads(last)
    except ValueError:
        return None
    return said.strip() or None


def _event_id(text: str) -> str | None:
    """The `event_id` of a frame that may be anything."""
    try:
        event = msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, RecursionError):
        return None
    given = event.get("event_id") if isinstance(event, dict) else None
    return given if isinstance(given, str) else None


def _misread(event: object) -> Refusal:
    """What is wrong with JSON that could not be read as an event."""
    if not isinstance(event, dict):
        return wrong_type(event, "", "an object")
    if "type" not in event:
        return missing("type")
    if not isinstance(event["type"], str):
        return wrong_type(event["type"], "type", "a string")
    if "audio" in event and not isinstance(event["audio"], str):
        return wrong_type(event["audio"], "audio", "a string")
    message = "Invalid 'audio'. Expected base64-encoded audio bytes, but got an invalid value."
    return Refusal(message, code="invalid_value", param="audio")
