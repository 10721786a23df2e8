"""Whatever a client sends, the session answers with an error event and goes on."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.standin.wire import encode
from tests.standin.harness import VAD, Rig, loud, quiet

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
TYPES = [
    "session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear",
    "conversation.item.create", "conversation.item.delete", "conversation.item.truncate", "response.create",
    "response.cancel", "unheard.of",
]  # fmt: skip
PART = {"type": "output_text", "text": "hello"}
ULAW_IN = {"input": {"format": {"type": "audio/pcmu"}}}
CALL = {"type": "function_call", "name": "t", "arguments": "{}", "call_id": "c"}
GOOD: list[dict[str, Any]] = [
    {"type": "session.update", "session": {"turn_detection": VAD, "audio": ULAW_IN}},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(loud(300)).decode()},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(quiet(300)).decode()},
    {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [PART]}},
    {"type": "conversation.item.create", "item": {"type": "force_message", "content": [PART]}},
    {"type": "conversation.item.create", "item": CALL},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "{}"}},
    {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 5},
    {"type": "conversation.item.delete", "item_id": "x"},
    {"type": "response.create", "response": {"metadata": {"a": "b"}}},
    {"type": "response.cancel"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]  # fmt: skip
FAULTS = ["ack-truncate", "garbage", "dead-deltas", "repeat-transcripts", "repeat-speech-started", "unknown-events"]


def still_alive(rig: Rig) -> None:
    for event in rig.events:
        assert json.loads(encode(event))
    before = len(rig.of("session.updated"))
    rig.send("session.update", session={})
    assert len(rig.of("session.updated")) == before + 1


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_text(texts: list[str]) -> None:
    rig = Rig()
    for text in texts:
        rig.text(text)
    assert len(rig.errors()) == len(texts)
    still_alive(rig)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(TYPES),
            st.dictionaries(
                st.sampled_from(
                    ["session", "audio", "item", "item_id", "response", "response_id", "audio_end_ms", "event_id"]
                ),
                JSON,
            ),
        ),
        max_size=6,
    )
)
def test_any_fields(events: list[tuple[str, dict[str, Any]]]) -> None:  # fmt: skip
    rig = Rig(mode="script")
    for type_, body in events:
        rig.send(type_, **body)
        rig.run(0.3)
    still_alive(rig)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(GOOD), st.integers(0, 400), st.integers(0, 255)), max_size=10))
def test_mutated_bytes(events: list[tuple[dict[str, Any], int, int]]) -> None:
    rig = Rig(*FAULTS)
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
    rig = Rig(mode="script" if script else "deterministic")
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
    rig = Rig()
    for text in ("[" * 100_000, '{"type":' * 50_000, '{"type":"session.update","session":' + "[" * 20_000,
                 '{"type":"session.update","session":{"instructions":"\\ud800"}}', '{"type":1e999}',
                 '{"type":"input_audio_buffer.append","audio":"===="}', '{"type":"input_audio_buffer.append"}',
                 '{"type":"input_audio_buffer.append","audio":null}'):  # fmt: skip
        rig.text(text)
    assert len(rig.errors()) == 8
    still_alive(rig)


def test_huge_append_is_bounded() -> None:
    rig = Rig(record_bytes=0)
    rig.setup(turn_detection=None)
    rig.send("input_audio_buffer.append", audio=base64.b64encode(loud(60_000)).decode())
    assert len(rig.session._manual) == 30 * 8000
