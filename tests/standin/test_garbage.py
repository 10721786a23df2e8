"""Whatever a client sends, in either dialect, the session answers with an error event and goes on."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz.mutate import ODD
from sipagent.standin import openai_schema
from sipagent.standin.wire import encode
from tests.standin.ga import GaRig, session
from tests.standin.harness import VAD, Rig, loud, quiet

Event = dict[str, Any]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    "type", "realtime", "audio", "input", "output", "format", "turn_detection", "tools", "voice", "role", "content",
    "message", "metadata", "instructions", "server_vad", "transcription", "conversation", "tool_choice", "name",
    "function", "transport", "modalities", "resumption", "replace", "speed",
]  # fmt: skip
NEAR = st.recursive(
    JSON | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
"""JSON that gets past the first checks now and then."""
FIELDS = ["session", "audio", "item", "item_id", "response", "response_id", "audio_end_ms", "content_index", "event_id"]
CALL = {"type": "function_call", "name": "t", "arguments": "{}", "call_id": "c"}
COMMON: list[Event] = [
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(loud(300)).decode()},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(quiet(300)).decode()},
    {"type": "conversation.item.create", "item": CALL},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "{}"}},
    {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 5},
    {"type": "conversation.item.delete", "item_id": "x"},
    {"type": "response.cancel"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]
NESTED = [
    "[" * 100_000,
    '{"type":' * 50_000,
    '{"type":"session.update","session":' + "[" * 20_000,
    '{"type":"session.update","session":{"instructions":"\\ud800"}}',
    '{"type":1e999}',
    '{"type":"input_audio_buffer.append","audio":null}',
]


@dataclass(frozen=True)
class Spoken:
    """What one of the two dialects is tried with."""

    rig: Callable[..., Rig]
    events: Sequence[str]
    """The names of what a client may send."""
    good: Sequence[Event]
    whole: Event
    """A `session` with everything in it."""
    nothing: Event
    """A `session` that changes nothing."""
    values: st.SearchStrategy[Any]
    faults: Sequence[str]
    nested: Sequence[str]

    def still_alive(self, rig: Rig) -> None:
        for event in rig.events:
            assert json.loads(encode(event))
        before = len(rig.of("session.updated"))
        rig.send("session.update", session=self.nothing)
        assert len(rig.of("session.updated")) == before + 1


def said(form: str, **item: str) -> Event:
    return {"type": "conversation.item.create", "item": item | {"content": [{"type": form, "text": "hello"}]}}


BY_USER = {"type": "message", "role": "user"}
ULAW_IN = {"input": {"format": {"type": "audio/pcmu"}}}
DEEP = '{"type":"session.update","session":{"type":"realtime","tools":[{"type":"function","name":"a","parameters":'
XAI = Spoken(
    rig=Rig,
    events=[
        "session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear",
        "conversation.item.create", "conversation.item.delete", "conversation.item.truncate", "response.create",
        "response.cancel",
    ],
    good=[
        *COMMON,
        {"type": "session.update", "session": {"turn_detection": VAD, "audio": ULAW_IN}},
        said("output_text", **BY_USER),
        said("output_text", type="force_message"),
        {"type": "response.create", "response": {"metadata": {"a": "b"}}},
    ],
    whole={
        "instructions": "Be kind.", "voice": "eve", "reasoning": {"effort": "none"}, "modalities": ["audio"],
        "turn_detection": {**VAD, "idle_timeout_ms": 5000}, "resumption": {"enabled": True}, "replace": {"a": "b"},
        "input_audio_format": "pcm16", "output_audio_format": "pcm16",
        "tools": [{"type": "function", "function": {"name": "a"}}, {"type": "web_search"}],
        "audio": {
            "input": {"format": {"type": "audio/pcm", "rate": 8000}, "transport": "json", "turn_detection": VAD,
                      "transcription": {"model": "grok-transcribe", "keyterms": ["x"]}},
            "output": {"format": {"type": "audio/pcmu"}, "voice": "eve", "speed": 1.0},
        },
    },
    nothing={},
    values=NEAR,
    faults=["ack-truncate", "garbage", "dead-deltas", "repeat-transcripts", "repeat-speech-started", "unknown-events"],
    nested=[
        *NESTED,
        '{"type":"input_audio_buffer.append","audio":"===="}',
        '{"type":"input_audio_buffer.append"}',
    ],
)  # fmt: skip
ASIDE = {"conversation": "none", "input": [CALL], "tools": [], "tool_choice": "none"}
OPENAI = Spoken(
    rig=GaRig,
    events=openai_schema.EVENTS,
    good=[
        *COMMON,
        {"type": "session.update", "session": session()},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
        said("input_text", **BY_USER),
        {"type": "conversation.item.retrieve", "item_id": "x"},
        {"type": "response.create", "response": {"instructions": 'Say:\n"Good day."', "metadata": {"a": "b"}}},
        {"type": "response.create", "response": ASIDE},
    ],
    whole=session(
        instructions="Be kind.",
        tools=[{"type": "function", "name": "a", "parameters": {"type": "object"}}],
        tool_choice={"type": "function", "name": "a"},
        tracing={"group_id": "a"},
        reasoning={"effort": "low"},
        truncation={"type": "retention_ratio", "retention_ratio": 0.5},
        max_output_tokens="inf",
    ),
    nothing={"type": "realtime"},
    values=NEAR,
    faults=["dead-deltas", "repeat-transcripts", "repeat-speech-started"],
    nested=[*NESTED, DEEP + "[" * 20_000],
)
in_each_dialect = pytest.mark.parametrize("spoken", [pytest.param(XAI, id="xai"), pytest.param(OPENAI, id="openai")])


@in_each_dialect
@given(texts=st.lists(st.text(max_size=200), max_size=5))
def test_any_text(spoken: Spoken, texts: list[str]) -> None:
    rig = spoken.rig()
    for text in texts:
        rig.text(text)
    assert len(rig.errors()) == len(texts)
    spoken.still_alive(rig)


@in_each_dialect
@settings(deadline=None)
@given(data=st.data())
def test_any_fields(spoken: Spoken, data: st.DataObject) -> None:
    bodies = st.dictionaries(st.sampled_from(FIELDS), spoken.values, max_size=4)
    named = st.sampled_from([*spoken.events, "unheard.of"])
    rig = spoken.rig(mode="script")
    for type_, body in data.draw(st.lists(st.tuples(named, bodies), max_size=6)):
        rig.send(type_, **body)
        rig.run(0.3)
    spoken.still_alive(rig)


def bent(value: Any) -> Iterator[Any]:
    """The value with another one in each of its places, its own included."""
    yield from ODD
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        for other in bent(inner):
            again = copy.copy(value)
            again[key] = other
            yield again


@in_each_dialect
def test_any_odd_value_in_any_place_of_a_session(spoken: Spoken) -> None:
    rig = spoken.rig()
    tried = [{"type": "session.update", "session": session} for session in bent(spoken.whole)]
    for event in tried:
        rig.text(json.dumps(event))
    assert len(rig.errors()) + len(rig.of("session.updated")) == len(tried)
    rig.send("session.update", session=spoken.whole)
    spoken.still_alive(rig)


@in_each_dialect
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_mutated_bytes(spoken: Spoken, data: st.DataObject) -> None:
    wounds = st.tuples(st.sampled_from(spoken.good), st.integers(0, 400), st.integers(0, 255))
    rig = spoken.rig(*spoken.faults)
    for event, at, byte in data.draw(st.lists(wounds, max_size=10)):
        raw = bytearray(json.dumps(event).encode())
        if at < len(raw):
            raw[at] = byte
        rig.text(raw.decode("utf-8", "replace"))
        rig.run(0.2)
    spoken.still_alive(rig)


@in_each_dialect
@settings(deadline=None, max_examples=60)
@given(data=st.data(), mode=st.sampled_from(["script", "deterministic"]))
def test_good_events_in_any_order_and_pace(spoken: Spoken, data: st.DataObject, mode: str) -> None:
    rig = spoken.rig(mode=mode)
    for event, pause in data.draw(st.lists(st.tuples(st.sampled_from(spoken.good), st.floats(0, 1.5)), max_size=14)):
        rig.text(json.dumps(event))
        rig.run(pause)
    rig.run(30)
    created = [event["response"]["id"] for event in rig.of("response.created")]
    done = [event["response"]["id"] for event in rig.of("response.done")]
    assert len(created) == len(set(created))
    assert set(done) <= set(created)
    assert len(done) == len(set(done))
    spoken.still_alive(rig)


@in_each_dialect
def test_deep_nesting_huge_numbers_and_lone_surrogates(spoken: Spoken) -> None:
    rig = spoken.rig()
    for text in spoken.nested:
        rig.text(text)
    assert len(rig.errors()) == len(spoken.nested)
    spoken.still_alive(rig)


def test_nested_so_deep_that_it_is_in_doubt_is_taken_or_refused_and_not_both() -> None:
    rig = GaRig()
    rig.text(DEEP + "[" * 800 + "]" * 800 + "}]}}")
    assert len(rig.errors()) + len(rig.of("session.updated")) == 1
    OPENAI.still_alive(rig)


def test_no_limit_is_a_number_of_turn_detections() -> None:
    rig = GaRig()
    rig.detect(**{**VAD, "silence_duration_ms": 2**70})
    rig.refused("integer_above_max_value", "session.audio.input.turn_detection.silence_duration_ms")


def test_huge_append_is_bounded() -> None:
    rig = Rig(record_bytes=0)
    rig.setup(turn_detection=None)
    rig.send("input_audio_buffer.append", audio=base64.b64encode(loud(60_000)).decode())
    assert len(rig.session._manual) == 30 * 8000
