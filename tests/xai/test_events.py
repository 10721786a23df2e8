"""xAI's wire, as captured (xai-realtime reference, appendix A), and everything that is not it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.xai import events


def message(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, "event_id": "3f0c", "previous_item_id": None, **fields})


def test_audio_delta_with_the_wires_extras() -> None:
    text = message(
        "response.output_audio.delta",
        response_id="r",
        item_id="i",
        content_index=0,
        output_index=0,
        delta=base64.b64encode(b"\x80" * 571).decode(),
        rid="x",
        audio_duration_ms=71,
        ts=1790000000000,
        latency="0.63",
    )
    assert events.parse(text) == events.AudioDelta("r", "i", b"\x80" * 571, 71.0)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (
            message(
                "session.created", session={"id": "ab", "model": "grok-voice-think-fast-2.0", "turn_detection": {}}
            ),
            events.SessionCreated("ab", "grok-voice-think-fast-2.0"),
        ),
        (message("conversation.created", conversation={"id": "c"}), events.ConversationCreated("c")),
        (
            message(
                "session.updated",
                session={
                    "turn_detection": {"type": "server_vad"},
                    "temperature": -1,
                    "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcm"}}},
                },
            ),
            events.SessionUpdated("audio/pcmu", "audio/pcm", "server_vad"),
        ),
        (message("session.updated", session={"turn_detection": {}}), events.SessionUpdated("", "", "")),
        (message("input_audio_buffer.speech_started", item_id="u"), events.SpeechStarted("u")),
        (message("input_audio_buffer.speech_stopped", item_id="u", audio_end_ms=5), events.SpeechStopped("u")),
        (
            message(
                "conversation.item.added",
                item={"id": "u", "role": "user", "content": [{"type": "input_audio", "transcript": "hello"}]},
            ),
            events.InputTranscript("u", "hello", final=True),
        ),
        (
            message("conversation.item.added", item={"id": "a", "role": "assistant", "content": []}),
            events.Ignored("conversation.item.added"),
        ),
        (
            message("conversation.item.input_audio_transcription.updated", item_id="u", transcript="hel"),
            events.InputTranscript("u", "hel", final=False),
        ),
        (
            message(
                "conversation.item.input_audio_transcription.completed",
                item_id="u",
                transcript="h",
                status="in_progress",
            ),
            events.InputTranscript("u", "h", final=False),
        ),
        (
            message("response.created", response={"id": "r", "status_details": "unimplemented", "usage": {}}),
            events.ResponseCreated("r"),
        ),
        (
            message("response.done", response={"id": "r", "status": "completed"}, usage={"output_audio_seconds": 0.71}),
            events.ResponseDone("r", "completed", 0.71),
        ),
        (message("response.done", response_id="r"), events.ResponseDone("r", "", 0.0)),
        (message("response.cancelled", response_id="r"), events.ResponseDone("r", "cancelled", 0.0)),
        (message("response.output_audio.done", response_id="r", item_id="i"), events.AudioDone("r", "i")),
        (
            message("response.function_call_arguments.done", call_id="c", name="f", arguments="{}"),
            events.FunctionCall("", "c", "f", "{}"),
        ),
        (
            message("response.output_item.done", item={"type": "function_call", "call_id": "c", "name": "f"}),
            events.FunctionCall("", "c", "f", ""),
        ),
        (
            message("error", error={"type": "invalid_request_error", "code": "x", "message": "m", "param": None}),
            events.ServerError("invalid_request_error", "x", "m"),
        ),
        (message("ping", timestamp=1), events.Ignored("ping")),
        (message("some.future.event", session=5), events.Ignored("some.future.event")),
    ],
)
def test_events_we_act_on(text: str, event: events.ServerEvent) -> None:
    assert events.parse(text) == event
    assert events.parse(text.encode()) == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"type":5}',
        '{"type":"response.output_audio.delta","delta":17}',
        '{"type":"response.output_audio.delta","delta":"not base64!"}',
        '{"type":"error"',
        '{"type":"input_audio_buffer.speech_started","audio_start_ms":"soon","item_id":null}',
        b"\xff\xfe",
    ],
)
def test_garbage_is_a_value(text: str | bytes) -> None:
    assert isinstance(events.parse(text), events.Garbage)


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    assert events.parse(data) is not None


TYPES = [
    "session.created",
    "session.updated",
    "conversation.created",
    "conversation.item.added",
    "response.created",
    "response.done",
    "response.output_item.done",
    "response.output_audio.delta",
    "error",
]
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
OBJECT = st.dictionaries(st.sampled_from(["id", "type", "role", "content", "transcript"]), LEAF, max_size=3)
JSON = (
    LEAF
    | OBJECT
    | st.lists(OBJECT | LEAF, max_size=2)
    | st.fixed_dictionaries({"content": st.lists(OBJECT, max_size=2)})
)
FIELDS = [
    "item_id",
    "delta",
    "audio_duration_ms",
    "session",
    "response",
    "item",
    "error",
    "usage",
    "conversation",
    "status",
]


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_fields_of_any_shape_never_raise(kind: str, fields: dict[str, object]) -> None:
    events.parse(json.dumps({"type": kind, **fields}))


def test_what_we_send_is_the_wires_json() -> None:
    assert json.loads(events.append(b"\xff" * 160)) == {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(b"\xff" * 160).decode(),
    }
    assert json.loads(events.truncate("i", 120)) == {
        "type": "conversation.item.truncate",
        "item_id": "i",
        "content_index": 0,
        "audio_end_ms": 120,
    }
    assert json.loads(events.force_message('say "hi"'))["item"]["content"] == [
        {"type": "output_text", "text": 'say "hi"'}
    ]
