"""The realtime wire: server events into values, client events into bytes (core).

xAI's, and OpenAI's where it differs: a reader that takes what either of them says needs not know who speaks.

Parsing is loose, since the wire adds fields, leaves fields out and sends events that no schema lists
(xai-realtime reference, sections 2.3 and 2.4): we read the few fields we act on and pass over the rest.
A message becomes exactly one value; what we do not act on becomes `Ignored`, what cannot be read
becomes `Garbage`, and the session counts both. Audio deltas, the only frequent event, take the short
way: one typed decode and one base64 decode.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pybase64


class Value(msgspec.Struct, frozen=True, gc=False):
    """What a message becomes; no cycle can begin in it, so the collector need not look at it."""


# --- what the server says


class SessionCreated(Value, frozen=True):
    """`session.created`: `model` is the one that really answers."""

    session_id: str
    model: str


class ConversationCreated(Value, frozen=True):
    """`conversation.created`: its id resumes the conversation later."""

    conversation_id: str


class SessionUpdated(Value, frozen=True):
    """`session.updated`: the formats and turn detection the server took; empty when it does not echo them."""

    input_format: str
    output_format: str
    turn_detection: str


class SpeechStarted(Value, frozen=True):
    """The server's voice detector heard the caller. May repeat for one item."""

    item_id: str


class SpeechStopped(Value, frozen=True):
    """The caller paused."""

    item_id: str


class InputTranscript(Value, frozen=True):
    """What the caller said, cumulative: it replaces earlier text of the same item."""

    item_id: str
    text: str
    final: bool


class ResponseCreated(Value, frozen=True):
    """A response opened. It may never be closed."""

    response_id: str


class AudioDelta(Value, frozen=True):
    """Audio of a response, of any length; `audio_duration_ms` as the server counts it, 0 when it does not."""

    response_id: str
    item_id: str
    audio: bytes
    audio_duration_ms: float


class AudioDone(Value, frozen=True):
    """No more audio for this item."""

    response_id: str
    item_id: str


class OutputTranscript(Value, frozen=True):
    """What the agent says: a piece (`final` false) or the whole text."""

    response_id: str
    item_id: str
    text: str
    final: bool


class FunctionCall(Value, frozen=True):
    """A whole function call; it can be announced more than once."""

    response_id: str
    call_id: str
    name: str
    arguments: str


class ResponseDone(Value, frozen=True):
    """A response closed: `completed`, `cancelled`, `incomplete`, `failed` (then `code` and `message`), or nothing."""

    response_id: str
    status: str
    output_audio_s: float
    code: str = ""
    message: str = ""


class ServerError(Value, frozen=True):
    """`error`: most leave the session as it was."""

    kind: str
    code: str
    message: str


class Ignored(Value, frozen=True):
    """Known to exist or not, we do not act on it."""

    type: str


class Garbage(Value, frozen=True):
    """Not an event: not JSON, no type, or a field of an impossible type."""

    what: str


ServerEvent = (
    SessionCreated
    | ConversationCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | InputTranscript
    | ResponseCreated
    | AudioDelta
    | AudioDone
    | OutputTranscript
    | FunctionCall
    | ResponseDone
    | ServerError
    | Ignored
    | Garbage
)


MAX_ID_CHARS = 256
"""Ids are remembered; xAI's are 36 characters. An event with a longer one is garbage."""
_Id = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)]


class _Wire(msgspec.Struct, gc=False):
    """Every field we ever read, flat. Nested objects stay as they came until their event needs them."""

    type: str
    item_id: _Id | None = None
    response_id: _Id | None = None
    delta: str | None = None
    audio_duration_ms: float | None = None
    audio_start_ms: float | None = None  # read by nobody, but of a wrong type it shows a garbled event
    transcript: str | None = None
    status: str | None = None
    call_id: _Id | None = None
    name: str | None = None
    arguments: str | None = None
    session: Any = None
    conversation: Any = None
    response: Any = None
    item: Any = None
    error: Any = None
    usage: Any = None


_WIRE = msgspec.json.Decoder(_Wire)

_AUDIO_DELTA = frozenset({"response.output_audio.delta", "response.audio.delta"})
_TRANSCRIPTION = "conversation.item.input_audio_transcription."


def parse(message: str | bytes) -> ServerEvent:
    """One text frame. Never raises for what the network may bring."""
    try:
        wire = _WIRE.decode(message)
        if wire.type in _AUDIO_DELTA:
            return AudioDelta(
                wire.response_id or "",
                wire.item_id or "",
                pybase64.b64decode(wire.delta or "", validate=True),
                wire.audio_duration_ms or 0.0,
            )
        return _read(wire)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        # ValueError is base64's; the text names the place in the JSON, never its content.
        return Garbage(str(error)[:200])


def _read(wire: _Wire) -> ServerEvent:
    item_id, response_id = wire.item_id or "", wire.response_id or ""
    match wire.type:
        case "session.created":
            session = _dict(wire.session)
            return SessionCreated(_text(session, "id"), _text(session, "model"))
        case "conversation.created":
            return ConversationCreated(_text(_dict(wire.conversation), "id"))
        case "session.updated":
            return _session_updated(_dict(wire.session))
        case "input_audio_buffer.speech_started":
            return SpeechStarted(item_id)
        case "input_audio_buffer.speech_stopped":
            return SpeechStopped(item_id)
        case "conversation.item.added":
            return _item_added(_dict(wire.item))
        case "conversation.item.input_audio_transcription.updated":
            return InputTranscript(item_id, wire.transcript or "", final=False)
        case "conversation.item.input_audio_transcription.completed":
            return InputTranscript(item_id, wire.transcript or "", final=wire.status in {None, "completed"})
        case "response.created":
            return ResponseCreated(_text(_dict(wire.response), "id")[:MAX_ID_CHARS] or response_id)
        case "response.output_audio.done" | "response.audio.done":
            return AudioDone(response_id, item_id)
        case "response.output_audio_transcript.delta" | "response.audio_transcript.delta":
            return OutputTranscript(response_id, item_id, wire.delta or "", final=False)
        case "response.output_audio_transcript.done" | "response.audio_transcript.done":
            return OutputTranscript(response_id, item_id, wire.transcript or "", final=True)
        case "response.function_call_arguments.done":
            return FunctionCall(response_id, wire.call_id or "", wire.name or "", wire.arguments or "")
        case "response.output_item.done" if _dict(wire.item).get("type") == "function_call":
            item = _dict(wire.item)
            return FunctionCall(
                response_id, _text(item, "call_id")[:MAX_ID_CHARS], _text(item, "name"), _text(item, "arguments")
            )
        case "response.done" | "response.cancelled":
            response, usage = _dict(wire.response), _dict(wire.usage)
            seconds = usage.get("output_audio_seconds")
            error = _dict(_dict(response.get("status_details")).get("error"))
            return ResponseDone(
                _text(response, "id")[:MAX_ID_CHARS] or response_id,
                _text(response, "status") or ("cancelled" if wire.type == "response.cancelled" else ""),
                float(seconds) if isinstance(seconds, int | float) else 0.0,
                _text(error, "code"),
                _text(error, "message"),
            )
        case "error":
            error = _dict(wire.error)
            return ServerError(_text(error, "type"), _text(error, "code"), _text(error, "message"))
        case other:
            return Ignored(other)


def _item_added(item: dict[str, Any]) -> ServerEvent:
    """A spoken user item may carry its transcript already (section 2.6)."""
    if item.get("role") == "user":
        content = item.get("content")
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and part.get("type") == "input_audio" and (text := _text(part, "transcript")):
                return InputTranscript(_text(item, "id"), text, final=True)
    return Ignored("conversation.item.added")


def _session_updated(session: dict[str, Any]) -> SessionUpdated:
    """The turn detection stands at the top, or beside the input's format (OpenAI)."""
    audio = _dict(session.get("audio"))
    incoming = _dict(audio.get("input"))
    detection = session.get("turn_detection") or incoming.get("turn_detection")
    return SessionUpdated(
        input_format=_text(_dict(incoming.get("format")), "type"),
        output_format=_text(_dict(_dict(audio.get("output")).get("format")), "type"),
        turn_detection=_text(_dict(detection), "type"),
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(mapping: dict[str, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


# --- what we say

APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = b'"}'


def append(payload: bytes) -> bytes:
    """`input_audio_buffer.append` of one frame: three byte strings, since it is sent fifty times a second."""
    return APPEND_HEAD + pybase64.b64encode(payload) + APPEND_TAIL


def _encode(**message: Any) -> bytes:
    return msgspec.json.encode(message)


def session_update(session: dict[str, Any]) -> bytes:
    """`session.update`; keys left out keep their value."""
    return _encode(type="session.update", session=session)


def force_message(text: str, *, interruptible: bool = True) -> bytes:
    """xAI's own item: the text is spoken word for word; no `response.create` may follow it (section 2.2)."""
    return _encode(
        type="conversation.item.create",
        item={
            "type": "force_message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text}],
            "interruptible": interruptible,
        },
    )


def system_message(text: str) -> bytes:
    """A `message` item of role system: the model acts on it, nobody hears it (section 2.2)."""
    return _encode(
        type="conversation.item.create",
        item={"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]},
    )


def response_cancel() -> bytes:
    """`response.cancel`: whatever is being answered is not."""
    return _encode(type="response.cancel")


def function_call_output(call_id: str, output: str) -> bytes:
    """The result of a function call; one `response.create` must follow the last of them."""
    return _encode(
        type="conversation.item.create",
        item={"type": "function_call_output", "call_id": call_id, "output": output},
    )


def response_create(**response: Any) -> bytes:
    """`response.create`; what is given holds for this response instead of what the session has."""
    return _encode(type="response.create", response=response) if response else _encode(type="response.create")


def truncate(item_id: str, audio_end_ms: int) -> bytes:
    """`conversation.item.truncate` to what the caller has heard; no answer may be waited for (section 5.3)."""
    return _encode(type="conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)
