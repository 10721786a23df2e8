"""OpenAI's dialect on the fake clock: order, rules and errors. The rig judges the shape of every event."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sipagent import audio
from sipagent.errors import ConfigError
from sipagent.standin.config import MODEL_NAME, Burst, StandinConfig
from sipagent.standin.outputs import Close, Hear, Speak
from sipagent.standin.pattern import pattern
from sipagent.standin.script import load_script
from tests.standin.ga import GaRig, published, session
from tests.standin.harness import ULAW, VAD, loud, quiet
from tests.standin.test_session import squeezed

RESPONSE = [
    "response.created", "response.output_item.added", "conversation.item.added", "response.content_part.added",
    "response.output_audio.delta", "response.output_audio_transcript.delta",
    "response.output_audio.done", "response.output_audio_transcript.done", "response.content_part.done",
    "conversation.item.done", "response.output_item.done", "response.done", "rate_limits.updated",
]  # fmt: skip
HEARD = [
    "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
    "conversation.item.added", "conversation.item.done",
]  # fmt: skip
TRANSCRIBED = [
    "conversation.item.input_audio_transcription.delta", "conversation.item.input_audio_transcription.completed",
]  # fmt: skip
TOOL = {"type": "function", "name": "order_status", "description": "", "parameters": {"type": "object"}}


def answered(rig: GaRig, text: str) -> None:
    """Ears and voice do what they are asked: they hear `text`, and say half a second."""
    for ask in [*rig.asks]:
        rig.asks.remove(ask)
        if isinstance(ask, Hear):
            rig.session.heard(ask.ticket, text, rig.now)
        else:
            rig.session.spoken(ask.ticket, loud(500), rig.now)
        rig.collect()
    if rig.asks:
        answered(rig, text)


class TestOpening:
    def test_one_event_with_the_whole_session(self) -> None:
        rig = GaRig()
        assert rig.types() == ["session.created"]
        body = rig.events[0]["session"]
        assert body["model"] == MODEL_NAME
        assert body["expires_at"] == 1_790_000_000 + 100 + 3600
        assert body["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        assert body["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
        rig.run(60)
        assert len(rig.events) == 1  # no JSON pings

    def test_ids_have_prefixes(self) -> None:
        rig = GaRig()
        rig.setup(tools=[TOOL])
        rig.turn()
        rig.run(2)
        for event in rig.events:
            assert re.fullmatch(r"event_[0-9a-zA-Z]{21}", event["event_id"])
        assert rig.events[0]["session"]["id"].startswith("sess_")
        done = rig.last("response.done")["response"]
        assert done["id"].startswith("resp_")
        assert done["conversation_id"].startswith("conv_")
        assert done["output"][0]["id"].startswith("item_")

    def test_audio_before_any_update_is_heard(self) -> None:
        rig = GaRig()
        pcm = audio.resample(audio.decode(loud(500) + quiet(400), ULAW), 8000, 24000)
        rig.say(pcm, frame=4801)
        rig.run(3)
        assert rig.last("response.done")["response"]["status"] == "completed"
        assert len(rig.sound()) == 400 * 48

    def test_updates_merge_and_are_echoed_whole(self) -> None:
        rig = GaRig()
        rig.setup(instructions="Be kind.", tools=[TOOL])
        rig.send("session.update", session={"type": "realtime", "audio": {"output": {"speed": 1.2}}})
        body = rig.last("session.updated")["session"]
        assert body["instructions"] == "Be kind."
        assert body["tools"] == [TOOL]
        assert body["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "marin", "speed": 1.2}
        assert body["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200
        assert body["audio"]["input"]["transcription"]["language"] is None
        assert rig.session.settings.tools == ("order_status",)

    def test_semantic_vad(self) -> None:
        rig = GaRig()
        rig.setup()
        rig.detect(type="semantic_vad", eagerness="high")
        rig.say(loud(400) + quiet(500))
        rig.run(2)
        assert rig.of("response.done")


STRICT = [
    ({"voice": "eve"}, "missing_required_parameter", "session.type"),
    ({"type": "realtime", "voice": "eve"}, "unknown_parameter", "session.voice"),
    ({"type": "realtime", "turn_detection": VAD}, "unknown_parameter", "session.turn_detection"),
    ({"type": "realtime", "resumption": {"enabled": True}}, "unknown_parameter", "session.resumption"),
    ({"type": "realtime", "replace": {}}, "unknown_parameter", "session.replace"),
    ({"type": "realtime", "audio": {"input": {"transport": "json"}}}, "unknown_parameter",
     "session.audio.input.transport"),
    ({"type": "realtime", "audio": {"input": {"format": {"type": "audio/opus"}}}}, "invalid_value",
     "session.audio.input.format.type"),
    ({"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
     "integer_below_min_value", "session.audio.input.format.rate"),
    ({"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}}}, "unknown_parameter",
     "session.audio.input.format.rate"),
    ({"type": "realtime", "audio": {"input": {"turn_detection": {**VAD, "create_response": None}}}}, "invalid_type",
     "session.audio.input.turn_detection.create_response"),
    ({"type": "realtime", "audio": {"input": {"turn_detection": {**VAD, "threshold": 2}}}}, "decimal_above_max_value",
     "session.audio.input.turn_detection.threshold"),
    ({"type": "realtime", "tools": [{"type": "function", "function": {"name": "a"}}]}, "missing_required_parameter",
     "session.tools[0].name"),
    ({"type": "realtime", "tools": [{"type": "web_search"}]}, "invalid_value", "session.tools[0].type"),
    ({"type": "realtime", "tools": [{**TOOL, "meta": 1}]}, "unknown_parameter", "session.tools[0].meta"),
    ({"type": "realtime", "instructions": 5}, "invalid_type", "session.instructions"),
    ({"type": "realtime", "max_output_tokens": 9000}, "integer_above_max_value", "session.max_output_tokens"),
    ({"type": "realtime", "output_modalities": ["text"]}, "invalid_value", "session.output_modalities[0]"),
    ({"type": "transcription"}, "invalid_value", "session.type"),
    (None, "invalid_type", "session"),
]  # fmt: skip


class TestStrictness:
    @pytest.mark.parametrize(("update", "code", "param"), STRICT)
    def test_a_bad_update_is_refused_whole(self, update: Any, code: str, param: str) -> None:
        rig = GaRig()
        rig.setup(instructions="Be kind.")
        before = rig.session.settings
        if update and "type" in update:
            update = {**update, "tool_choice": "none"}
        rig.send("session.update", session=update)
        rig.refused(code, param)
        assert rig.session.settings is before
        assert len(rig.of("session.updated")) == 1

    def test_words(self) -> None:
        rig = GaRig()
        rig.send("session.update", session={"type": "realtime", "voice": "eve"})
        assert rig.refused("unknown_parameter", "session.voice") == "Unknown parameter: 'session.voice'."
        rig.send("session.update", session={})
        message = rig.refused("missing_required_parameter", "session.type")
        assert message == "Missing required parameter: 'session.type'."

    def test_what_is_no_event(self) -> None:
        rig = GaRig()
        for text, code, param in (
            ("not json", "invalid_json", None), ("[]", "invalid_type", None),
            ("{}", "missing_required_parameter", "type"),
            ('{"type": 3}', "invalid_type", "type"), ('{"type": "nope"}', "invalid_value", "type"),
            ('{"type": "ping"}', "invalid_value", "type"),
            ('{"type": "response.cancel", "why": 1}', "unknown_parameter", "why"),
            ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
            ('{"type": "input_audio_buffer.append", "audio": "=="}', "invalid_value", "audio"),
            ('{"type": "input_audio_buffer.append", "audio": 3}', "invalid_type", "audio"),
        ):  # fmt: skip
            rig.text(text)
            rig.refused(code, param)
        rig.session.receive_bytes(b"123", rig.now)
        rig.collect()
        rig.refused("invalid_event")

    def test_the_clients_event_id_comes_back(self) -> None:
        rig = GaRig()
        rig.send("response.cancel", event_id="mine_1")
        assert rig.errors()[-1]["event_id"] == "mine_1"
        rig.send("response.cancel")
        assert rig.errors()[-1]["event_id"] is None

    def test_the_voice_stands_once_it_was_heard(self) -> None:
        rig = GaRig()
        rig.setup()
        rig.turn()
        rig.run(2)
        rig.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "cedar"}}})
        rig.refused("cannot_update_voice")
        rig.setup()  # the same voice is no change
        assert len(rig.of("session.updated")) == 2


class TestSpokenTurn:
    def test_order_of_events(self) -> None:
        rig = GaRig(answer_ms=300)
        rig.setup()
        rig.turn()
        rig.run(2)
        opening = ["session.created", "session.updated"]
        assert squeezed(rig.types()) == [*opening, *HEARD, RESPONSE[0], *TRANSCRIBED, *RESPONSE[1:]]
        assert rig.sound() == pattern(ULAW, 1, 0, 2400)
        done = rig.last("response.done")["response"]
        assert done["status_details"] is None
        assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "(answer 1)"}]
        assert done["usage"]["output_token_details"]["audio_tokens"] == 6
        assert rig.of("conversation.item.added")[0]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
        assert (
            rig.of("conversation.item.added")[1]["previous_item_id"]
            == rig.last("input_audio_buffer.committed")["item_id"]
        )

    def test_answer_comes_think_ms_after_the_end_of_speech(self) -> None:
        rig = GaRig(think_ms=700)
        rig.setup()
        rig.turn()
        rig.run(2)
        delay = rig.at("response.output_audio.delta") - rig.at("input_audio_buffer.speech_stopped")
        assert delay == pytest.approx(0.7)

    def test_no_transcript_unless_asked_for(self) -> None:
        rig = GaRig()
        incoming = {"format": {"type": "audio/pcmu"}, "turn_detection": VAD}
        rig.send("session.update", session={"type": "realtime", "audio": {"input": incoming}})
        rig.turn()
        rig.run(2)
        assert not [type_ for type_ in rig.types() if "transcription" in type_]
        assert rig.of("response.done")

    def test_deltas_are_increments(self) -> None:
        rig = GaRig()
        rig.setup()
        rig.turn()
        kind = "conversation.item.input_audio_transcription."
        completed = rig.last(kind + "completed")
        assert "".join(event["delta"] for event in rig.of(kind + "delta")) == completed["transcript"]
        assert completed["usage"]["type"] == "tokens"

    def test_speech_cancels_and_every_stretch_is_a_turn(self) -> None:
        rig = GaRig(answer_ms=20_000, burst=Burst(speed=2))
        rig.setup()
        rig.turn()
        rig.run(0.1)  # created, not begun
        rig.turn()
        rig.run(0.7)  # begun
        rig.say(loud(200))
        first, second = (event["response"] for event in rig.of("response.done"))
        assert first["status"] == second["status"] == "cancelled"
        assert first["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert first["output"] == []
        assert second["output"][0]["status"] == "incomplete"
        assert len({event["item_id"] for event in rig.of("input_audio_buffer.speech_started")}) == 3
        assert rig.types()[-7:] == RESPONSE[6:]

    def test_interrupt_response_false(self) -> None:
        rig = GaRig(answer_ms=3000, burst=Burst(speed=1))
        rig.setup()
        rig.detect(**VAD, interrupt_response=False)
        rig.turn()
        rig.run(0.6)
        rig.turn()
        rig.run(4)
        assert [event["response"]["status"] for event in rig.of("response.done")] == ["completed"]

    def test_create_response_false(self) -> None:
        rig = GaRig()
        rig.setup()
        rig.detect(**VAD, create_response=False)
        rig.turn()
        rig.run(2)
        assert not rig.of("response.created")
        rig.send("response.create")
        rig.run(2)
        assert rig.of("response.done")

    def test_idle_timeout_commits_the_silence(self) -> None:
        rig = GaRig(answer_ms=300)
        rig.setup()
        rig.detect(**VAD, idle_timeout_ms=5000)
        rig.turn()
        rig.run(8)
        types = rig.types()
        at = types.index("input_audio_buffer.timeout_triggered")
        assert types[at + 1 : at + 5] == [*HEARD[2:], "response.created"]

    def test_in_script_mode_the_response_waits_for_the_words(self) -> None:
        rig = GaRig(mode="script", gate_dbov=-60)
        rig.setup()
        rig.session._gate._vad = None  # type: ignore[union-attr] - the rig's speech is noise
        rig.turn()
        assert rig.types()[-1] == "response.created"
        answered(rig, "opening hours")
        rig.run(3)
        assert "nine to six" in rig.last("response.output_audio_transcript.done")["transcript"]

    def test_a_transcript_comes_even_when_the_caller_has_gone_on(self) -> None:
        rig = GaRig(mode="script", gate_dbov=-60)
        rig.setup()
        rig.session._gate._vad = None  # type: ignore[union-attr]
        rig.turn()
        hear = rig.asks.pop()
        rig.say(loud(200))
        rig.session.heard(hear.ticket, "opening hours", rig.now)
        rig.collect()
        completed = rig.last("conversation.item.input_audio_transcription.completed")
        assert (completed["item_id"], completed["transcript"]) == (hear.ticket[0], "opening hours")
        assert rig.last("response.done")["response"]["status"] == "cancelled"
        assert not rig.asks

    def test_ears_or_voice_that_fail(self) -> None:
        rig = GaRig(mode="script", gate_dbov=-60)
        rig.setup()
        rig.session._gate._vad = None  # type: ignore[union-attr]
        rig.turn()
        hear = rig.asks.pop()
        rig.session.failed(hear.ticket, "busy", rig.now)
        rig.collect()
        assert rig.of("conversation.item.input_audio_transcription.failed")
        assert not rig.of("conversation.item.input_audio_transcription.completed")
        speak = rig.asks.pop()
        assert isinstance(speak, Speak)
        rig.session.failed(speak.ticket, "no flite", rig.now)
        rig.collect()
        assert rig.last("response.done")["response"]["status_details"]["error"]["type"] == "server_error"


class TestResponses:
    def test_typed_turn(self) -> None:
        rig = GaRig()
        rig.setup()
        rig.type_in("hello")
        rig.send("response.create", response={"metadata": {"why": "test"}})
        rig.run(2)
        assert squeezed(rig.types())[2:] == ["conversation.item.added", "conversation.item.done", *RESPONSE]
        assert rig.last("response.created")["response"]["metadata"] == {"why": "test"}

    @pytest.mark.parametrize("mode", ["script", "deterministic"])
    def test_a_json_string_at_the_end_is_said_word_for_word(self, mode: str) -> None:
        rig = GaRig(mode=mode)
        rig.setup()
        text = 'Good day, this is "Riverside".'
        rig.send("response.create", response={"instructions": f"Say exactly this:\n{json.dumps(text)}"})
        answered(rig, "")
        rig.run(2)
        assert rig.last("response.output_audio_transcript.done")["transcript"] == text

    @pytest.mark.parametrize("last", ["Be kind.", '"', '"a" and "b"', '""'])
    def test_other_instructions_are_an_answer_like_others(self, last: str) -> None:
        rig = GaRig()
        rig.send("response.create", response={"instructions": f"Say:\n{last}"})
        rig.run(2)
        assert rig.last("response.output_audio_transcript.done")["transcript"] == "(answer 1)"

    def test_outside_the_conversation(self) -> None:
        rig = GaRig(mode="script")
        rig.setup()
        rig.type_in("what is your address")
        part = {"type": "input_text", "text": "opening hours"}
        asked = {"type": "message", "role": "user", "content": [part]}
        rig.send("response.create", response={"conversation": "none", "input": [asked]})
        answered(rig, "")
        rig.run(2)
        assert "nine to six" in rig.last("response.output_audio_transcript.done")["transcript"]
        assert rig.last("response.done")["response"]["conversation_id"] is None
        assert len(rig.of("conversation.item.added")) == len(rig.session.conversation.items) == 1

    def test_tool_choice_none(self) -> None:
        rig = GaRig(mode="script")
        rig.setup(tools=[TOOL])
        rig.type_in("where is my order")
        rig.send("response.create", response={"tool_choice": "none"})
        answered(rig, "")
        rig.run(2)
        assert not rig.of("response.function_call_arguments.done")

    def test_function_call_and_its_output(self) -> None:
        rig = GaRig(mode="script")
        rig.setup(tools=[TOOL])
        rig.type_in("where is my order")
        rig.send("response.create")
        answered(rig, "")
        rig.run(2)
        call = rig.last("response.function_call_arguments.done")
        assert call["call_id"].startswith("call_")
        assert call["name"] == "order_status"
        message, item = rig.last("response.done")["response"]["output"]
        assert rig.last("conversation.item.done")["previous_item_id"] == message["id"]
        assert item["arguments"] == call["arguments"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"status": "on its way"}'}
        rig.send("conversation.item.create", item=output)
        rig.send("response.create")
        answered(rig, "")
        rig.run(2)
        assert rig.last("response.output_audio_transcript.done")["transcript"] == "Your order is on its way."

    def test_calls_without_a_word_leave_no_message(self, tmp_path: Path) -> None:
        text = files("sipagent.standin").joinpath("default.toml").read_text(encoding="utf-8")
        script = tmp_path / "script.toml"
        script.write_text(text.replace('reply = "One moment, I am looking for your order."', 'reply = ""'))
        rig = GaRig(mode="script")
        rig.session._responder._script = load_script(script)
        rig.setup(tools=[TOOL])
        rig.type_in("where is my order")
        rig.send("response.create")
        rig.run(2)
        (item,) = rig.last("response.done")["response"]["output"]
        assert [kept["type"] for kept in rig.session.conversation.items] == ["message", "function_call"]
        assert rig.last("conversation.item.done")["previous_item_id"] == rig.session.conversation.items[0]["id"]
        assert item["type"] == "function_call"

    def test_one_at_a_time(self) -> None:
        rig = GaRig()
        rig.send("response.create")
        rig.send("response.create")
        message = rig.refused("conversation_already_has_active_response")
        name = rig.last("response.created")["response"]["id"]
        assert message == (
            f"Conversation already has an active response in progress: {name}. "
            "Wait until the response is finished before creating a new one."
        )

    def test_cancel_by_the_client(self) -> None:
        rig = GaRig(answer_ms=20_000, burst=Burst(speed=2))
        rig.send("response.create")
        rig.run(1)
        rig.send("response.cancel", response_id="resp_other")
        rig.refused("response_cancel_not_active")
        rig.send("response.cancel")
        details = rig.last("response.done")["response"]["status_details"]
        assert details == {"type": "cancelled", "reason": "client_cancelled"}
        rig.send("response.cancel")
        assert rig.refused("response_cancel_not_active") == "Cancellation failed: no active response found"

    def test_commit_under_vad_and_empty_commit(self) -> None:
        rig = GaRig()
        rig.setup()
        rig.say(loud(300))
        rig.send("input_audio_buffer.commit")
        assert rig.of("input_audio_buffer.committed")
        assert not rig.of("response.created")
        rig.send("input_audio_buffer.commit")
        assert "buffer too small" in rig.refused("input_audio_buffer_commit_empty")
        rig.manual()
        rig.say(loud(300))
        rig.send("input_audio_buffer.commit")
        rig.send("response.create")
        rig.run(2)
        assert rig.of("response.done")


class TestItems:
    def test_force_message_is_xais(self) -> None:
        rig = GaRig()
        rig.force()
        message = rig.refused("invalid_value", "item.type")
        assert message.startswith("Invalid value: 'force_message'. Supported values are: 'message', 'function_call', ")

    def test_output_of_an_unknown_call(self) -> None:
        rig = GaRig()
        rig.send("conversation.item.create", item={"type": "function_call_output", "call_id": "call_x", "output": ""})
        assert rig.refused("invalid_tool_call_id") == "Tool call ID 'call_x' not found in conversation."

    def test_truncate(self) -> None:
        rig = GaRig(answer_ms=2000)
        rig.setup()
        rig.turn()
        rig.run(2)
        item = rig.last("response.done")["response"]["output"][0]["id"]
        where = {"item_id": item, "content_index": 0}
        rig.send("conversation.item.truncate", **where, audio_end_ms=3000)
        assert rig.refused("invalid_value") == "Audio content of 2000ms is already shorter than 3000ms"
        rig.send("conversation.item.truncate", **where, audio_end_ms=500)
        assert rig.last("conversation.item.truncated")["audio_end_ms"] == 500
        rig.send("conversation.item.retrieve", item_id=item)
        assert rig.last("conversation.item.retrieved")["item"]["content"][0]["transcript"] is None

    def test_truncate_while_it_is_said(self) -> None:
        rig = GaRig(answer_ms=20_000, burst=Burst(speed=1))
        rig.setup()
        rig.turn()
        rig.run(1.5)
        item = rig.last("response.output_audio.delta")["item_id"]
        rig.say(loud(200))
        rig.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=400)
        assert rig.of("conversation.item.truncated")

    def test_what_cannot_be_truncated(self) -> None:
        rig = GaRig()
        rig.type_in("hello")
        item = rig.last("conversation.item.added")["item"]["id"]
        rig.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=0)
        assert rig.refused(None) == "Only model output audio messages can be truncated"
        rig.send("conversation.item.truncate", item_id="nobody", content_index=0, audio_end_ms=0)
        rig.refused("item_truncate_invalid_item_id")
        rig.send("conversation.item.truncate", item_id=item)
        rig.refused("missing_required_parameter", "content_index")

    def test_delete_also_of_the_assistants(self) -> None:
        rig = GaRig()
        rig.send("response.create")
        rig.run(2)
        item = rig.last("response.output_item.done")["item"]["id"]
        rig.send("conversation.item.delete", item_id=item)
        assert rig.last("conversation.item.deleted")["item_id"] == item
        rig.send("conversation.item.delete", item_id=item)
        rig.refused("item_delete_invalid_item_id")
        rig.send("conversation.item.retrieve", item_id=item)
        rig.refused("item_retrieve_invalid_item_id")


class TestEnd:
    @pytest.mark.parametrize(("faults", "seconds"), [((), 3601.0), (("expire@5",), 6.0)])
    def test_the_time_is_over(self, faults: tuple[str, ...], seconds: float) -> None:
        rig = GaRig(*faults)
        rig.run(seconds)
        message = rig.refused("session_expired")
        assert message == "Your session hit the maximum duration of 60 minutes."
        assert [end for _, end in rig.ends] == [Close(1000, "session_expired")]


@pytest.mark.parametrize(
    "fault", ["dead-deltas", "wrong-format", "abandon", "stuck", "no-ack", "refuse-update", "repeat-transcripts"]
)
def test_faults_keep_the_shape(fault: str) -> None:
    rig = GaRig(fault)
    rig.setup()
    rig.turn()
    rig.run(2)
    assert ("response.done" in rig.types()) == (fault not in ("abandon", "stuck"))
    assert len(rig.of("conversation.item.input_audio_transcription.completed")) <= 1


def test_garbage_between_good_events() -> None:
    rig = GaRig("garbage", "unknown-events", judged=False)
    rig.setup()
    rig.turn()
    rig.run(2)
    assert rig.raw
    assert rig.of("response.done")


def test_an_unknown_dialect() -> None:
    with pytest.raises(ConfigError, match="known are xai, openai"):
        StandinConfig(dialect="klingon")  # type: ignore[arg-type]


class TestTheJudge:
    """A judge that lets everything pass would prove nothing."""

    def talk(self) -> list[dict[str, Any]]:
        rig = GaRig()
        rig.setup()
        rig.turn()
        rig.run(2)
        return rig.events

    def test_every_dropped_field_of_the_types_is_seen(self) -> None:
        free = {"previous_item_id", "content_index", "delta"}  # optional in some types
        for event in self.talk():
            for key in event.keys() - free - {"type"}:
                with pytest.raises((ValidationError, AssertionError)):
                    published({name: value for name, value in event.items() if name != key})

    def test_a_stranger_at_any_depth_is_seen(self) -> None:
        done = next(event for event in self.talk() if event["type"] == "response.done")
        published(done)
        for body in (done, done["response"], done["response"]["output"][0], done["response"]["usage"]):
            body["rid"] = "stray"
            with pytest.raises(AssertionError, match="rid"):
                published(done)
            del body["rid"]

    def test_xais_events_fail(self) -> None:
        updated = next(event for event in self.talk() if event["type"] == "session.updated")
        with pytest.raises((ValidationError, AssertionError)):
            published({**updated, "previous_item_id": None})
        assert session()["type"] == "realtime"
