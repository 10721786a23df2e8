"""Whatever a client sends in OpenAI's dialect, the session answers with an error event, in shape, and goes on."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.standin.openai_schema import EVENTS
from tests.standin.ga import GaRig, session
from tests.standin.harness import VAD, loud, quiet
from tests.standin.test_garbage import CALL, JSON

TEXT = {"type": "input_text", "text": "hello"}
SAID = {"instructions": 'Say:\n"Good day."', "metadata": {"a": "b"}}
ASIDE = {"conversation": "none", "input": [CALL], "tools": [], "tool_choice": "none"}
GOOD: list[dict[str, Any]] = [
    {"type": "session.update", "session": session()},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(loud(300)).decode()},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(quiet(300)).decode()},
    {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [TEXT]}},
    {"type": "conversation.item.create", "item": CALL},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "{}"}},
    {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 5},
    {"type": "conversation.item.delete", "item_id": "x"},
    {"type": "conversation.item.retrieve", "item_id": "x"},
    {"type": "response.create", "response": SAID},
    {"type": "response.create", "response": ASIDE},
    {"type": "response.cancel"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]
FIELDS = ["session", "audio", "item", "item_id", "response", "response_id", "audio_end_ms", "content_index", "event_id"]
KEYS = [
    "type", "realtime", "audio", "input", "output", "format", "turn_detection", "tools", "voice", "role", "content",
    "message", "metadata", "instructions", "server_vad", "transcription", "conversation", "tool_choice", "name",
]  # fmt: skip
NEAR = st.recursive(
    JSON | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
"""JSON that gets past the first checks now and then."""


def still_alive(rig: GaRig) -> None:
    before = len(rig.of("session.updated"))
    rig.send("session.update", session={"type": "realtime"})
    assert len(rig.of("session.updated")) == before + 1


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_text(texts: list[str]) -> None:
    rig = GaRig()
    for text in texts:
        rig.text(text)
    assert len(rig.errors()) == len(texts)
    still_alive(rig)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([*EVENTS, "unheard.of"]), st.dictionaries(st.sampled_from(FIELDS), NEAR, max_size=4)),
        max_size=6,
    )
)
def test_any_fields(events: list[tuple[str, dict[str, Any]]]) -> None:
    rig = GaRig(mode="script")
    for type_, body in events:
        rig.send(type_, **body)
        rig.run(0.3)
    still_alive(rig)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(GOOD), st.integers(0, 400), st.integers(0, 255)), max_size=10))
def test_mutated_bytes(events: list[tuple[dict[str, Any], int, int]]) -> None:
    rig = GaRig("dead-deltas", "repeat-transcripts", "repeat-speech-started")
    for event, at, byte in events:
        raw = bytearray(json.dumps(event).encode())
        if at < len(raw):
            raw[at] = byte
        rig.text(raw.decode("utf-8", "replace"))
        rig.run(0.2)
    still_alive(rig)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(GOOD), st.floats(0, 1.5)), max_size=14), st.booleans())
def test_good_events_in_any_order_and_pace(events: list[tuple[dict[str, Any], float]], script: bool) -> None:
    rig = GaRig(mode="script" if script else "deterministic")
    for event, pause in events:
        rig.text(json.dumps(event))
        rig.run(pause)
    rig.run(30)
    created = [event["response"]["id"] for event in rig.of("response.created")]
    done = [event["response"]["id"] for event in rig.of("response.done")]
    assert len(created) == len(set(created))
    assert set(done) <= set(created)
    assert len(done) == len(set(done))
    still_alive(rig)


def test_deep_nesting_huge_numbers_and_lone_surrogates() -> None:
    rig = GaRig()
    deep = '{"type":"session.update","session":{"type":"realtime","tools":[{"type":"function","name":"a","parameters":'
    for text in ("[" * 100_000, '{"type":' * 50_000, '{"type":"session.update","session":' + "[" * 20_000,
                 '{"type":"session.update","session":{"instructions":"\\ud800"}}', '{"type":1e999}',
                 deep + "[" * 20_000, '{"type":"input_audio_buffer.append","audio":null}'):  # fmt: skip
        rig.text(text)
    assert len(rig.errors()) == 7
    rig.text(deep + "[" * 800 + "]" * 800 + "}]}}")  # deep enough to be in doubt: taken or refused, not both
    still_alive(rig)


def test_no_limit_is_a_number_of_turn_detections() -> None:
    rig = GaRig()
    rig.detect(**{**VAD, "silence_duration_ms": 2**70})
    rig.refused("integer_above_max_value", "session.audio.input.turn_detection.silence_duration_ms")
