"""session.Session on a fake clock: the opening, the turns, the responses, as the reference has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sipagent import audio
from sipagent.standin.config import MODEL_NAME, Burst
from sipagent.standin.conversation import KEPT_S, ConversationStore
from sipagent.standin.pattern import pattern
from sipagent.standin.wire import encode
from tests.standin.harness import ULAW, VAD, Rig, loud, quiet

RESPONSE = [
    "response.created", "response.output_item.added", "conversation.item.added", "response.content_part.added",
    "response.output_audio.delta", "response.output_audio_transcript.delta",
    "response.output_audio_transcript.done", "response.content_part.done", "response.output_audio.done",
    "response.output_item.done", "response.done",
]  # fmt: skip


def squeezed(types: list[str]) -> list[str]:
    """Runs of interleaved deltas as one pair."""
    out: list[str] = []
    for type_ in types:
        if type_.endswith(".delta") and type_ in out[-2:]:
            continue
        out.append(type_)
    return out


class TestOpening:
    def test_order_and_shape(self) -> None:
        rig = Rig()
        assert [event["type"] for event in rig.events] == ["session.created", "conversation.created", "ping"]
        created = rig.events[0]
        assert "previous_item_id" not in created
        assert rig.events[1]["previous_item_id"] is None
        assert created["session"]["model"] == MODEL_NAME
        assert len(created["session"]["id"]) == 32
        assert rig.events[2]["timestamp"] == 1_790_000_100_000

    def test_pings_go_on(self) -> None:
        rig = Rig()
        rig.run(35)
        assert len(rig.of("ping")) == 4

    def test_update_is_acknowledged_with_the_merged_session(self) -> None:
        rig = Rig()
        rig.setup(instructions="be kind")
        rig.send("session.update", session={"voice": "eve"})
        first, second = (event["session"] for event in rig.of("session.updated"))
        assert first == second
        assert first["instructions"] == "be kind"
        assert first["turn_detection"] == VAD

    def test_bad_update_keeps_the_old_settings(self) -> None:
        rig = Rig()
        rig.setup()
        before = rig.session.settings
        rig.send("session.update", session={"voice": "eve", "turn_detection": {"type": "server_vad", "threshold": 7}})
        assert rig.session.settings == before
        assert "turn_detection" in rig.errors()[0]["message"]
        assert len(rig.of("session.updated")) == 1


class TestSpokenTurn:
    def test_order_of_events(self) -> None:
        rig = Rig()
        rig.setup()
        rig.turn()
        rig.run(2)
        assert squeezed(rig.types()) == [
            "session.created", "conversation.created", "session.updated",
            "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed", "conversation.item.added",
            "conversation.item.input_audio_transcription.completed", *RESPONSE,
        ]  # fmt: skip
        item = rig.last("input_audio_buffer.committed")["item_id"]
        assert {event["item_id"] for event in rig.events if event["type"].startswith("input_audio_buffer")} == {item}
        assert rig.last("response.created")["response"]["metadata"] is None

    def test_answer_comes_think_ms_after_the_end_of_speech(self) -> None:
        rig = Rig(think_ms=700)
        rig.setup()
        rig.turn()
        rig.run(2)
        delay = rig.at("response.output_audio.delta") - rig.at("input_audio_buffer.speech_stopped")
        assert delay == pytest.approx(0.7)
        delta = rig.of("response.output_audio.delta")[0]
        assert delta["latency"] == "0.70"
        assert "latency" not in rig.last("response.output_audio.delta")

    def test_every_byte_is_predicted(self) -> None:
        rig = Rig(answer_ms=400, seed=5)
        rig.setup()
        rig.turn()
        rig.run(2)
        rig.turn()
        rig.run(2)
        first, second = (event["response"]["id"] for event in rig.of("response.done"))
        assert rig.sound(first) == pattern(ULAW, 5, 0, 3200)
        assert rig.sound(second) == pattern(ULAW, 6, 0, 3200)

    def test_burst_shape_and_honest_durations(self) -> None:
        rig = Rig(answer_ms=1000, burst=Burst((571, 683), speed=4))
        rig.setup()
        rig.turn()
        rig.run(3)
        deltas = rig.of("response.output_audio.delta")
        assert [len(event["delta"]) for event in deltas[:4]] == [571, 683, 571, 683]
        assert all(event["audio_duration_ms"] == round(len(event["delta"]) / 8) for event in deltas)
        times = [t for t, e in zip(rig.times, rig.events, strict=True) if e["type"] == "response.output_audio.delta"]
        assert times[-1] - times[0] == pytest.approx((8000 - len(deltas[-1]["delta"])) / 8000 / 4)

    def test_all_at_once(self) -> None:
        rig = Rig(answer_ms=1000, burst=Burst.even(20))
        rig.setup()
        rig.turn()
        rig.run(2)
        times = {t for t, e in zip(rig.times, rig.events, strict=True) if e["type"] == "response.output_audio.delta"}
        assert len(times) == 1
        assert len(rig.of("response.output_audio.delta")) == 50

    def test_no_answer_before_server_vad(self) -> None:
        rig = Rig()
        rig.turn()
        rig.run(5)
        assert rig.types() == ["session.created", "conversation.created"]

    def test_going_on_after_a_pause_keeps_the_item_and_drops_the_response_in_silence(self) -> None:
        rig = Rig()
        rig.setup()
        rig.turn()
        rig.run(0.1)  # the response is created, nothing said yet
        rig.turn()
        rig.run(2)
        started = rig.of("input_audio_buffer.speech_started")
        assert len(started) == 2
        assert started[0]["item_id"] == started[1]["item_id"]
        assert len(rig.of("response.created")) == 2
        assert len(rig.of("response.done")) == 1
        completed = rig.of("conversation.item.input_audio_transcription.completed")
        assert completed[1]["transcript"].startswith(completed[0]["transcript"])
        assert sum(item["role"] == "user" for item in rig.session.conversation.items) == 1

    def test_stopped_stream_ends_the_turn(self) -> None:
        rig = Rig()
        rig.setup()
        rig.say(loud(400))
        rig.run(3)
        assert len(rig.of("response.done")) == 1

    def test_endless_speech_is_cut(self) -> None:
        rig = Rig(answer_ms=20, record_bytes=0)
        rig.setup()
        rig.say(loud(65_000), frame=800)
        assert len(rig.of("input_audio_buffer.speech_stopped")) == 2

    def test_usage_stands_beside_the_response(self) -> None:
        rig = Rig(answer_ms=710)
        rig.setup()
        rig.turn()
        rig.run(2)
        done = rig.last("response.done")
        assert done["response"]["usage"] == {}
        assert done["response"]["status_details"] == "unimplemented"
        assert done["usage"]["output_audio_seconds"] == 0.71
        assert done["usage"]["billable_audio_seconds"] == 1
        assert done["response_id"] == done["response"]["id"]
        assert done["response"]["output"][0]["content"][0]["type"] == "audio"

    @pytest.mark.parametrize(("form", "size"), [("audio/pcma", 1), ("audio/pcm", 6)])
    def test_other_output_formats(self, form: str, size: int) -> None:
        rig = Rig(answer_ms=400)
        rig.setup(audio={"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": form}}})
        rig.turn()
        rig.run(2)
        assert len(rig.sound()) == 3200 * size

    def test_input_of_another_rate_is_heard(self) -> None:
        rig = Rig()
        rig.setup("audio/pcm")
        pcm = audio.resample(audio.decode(loud(500) + quiet(400), ULAW), 8000, 24000)
        rig.say(pcm, frame=4801)  # odd on purpose
        rig.run(3)
        assert len(rig.of("response.done")) == 1

    def test_echo_answers_with_what_was_heard(self) -> None:
        rig = Rig(mode="echo")
        rig.setup()
        caller = quiet(600) + loud(500, seed=4) + quiet(300)
        rig.say(caller)
        rig.run(3)
        assert loud(500, seed=4) in rig.sound()
        assert rig.sound() in caller


class TestBargeIn:
    def talk(self, rig: Rig) -> None:
        rig.setup()
        rig.turn()
        rig.run(0.6)
        assert rig.of("response.output_audio.delta")
        assert not rig.of("response.done")

    def test_streaming_response_is_cancelled_by_onset(self) -> None:
        rig = Rig(answer_ms=20_000, burst=Burst(speed=2))
        self.talk(rig)
        rig.say(loud(200))
        types = rig.types()
        assert types[-2:] == ["input_audio_buffer.speech_started", "response.done"]
        assert rig.last("response.done")["response"]["status"] == "cancelled"
        count = len(rig.of("response.output_audio.delta"))
        rig.say(quiet(240))
        rig.run(0.2)
        assert len(rig.of("response.output_audio.delta")) == count
        items = {event["item_id"] for event in rig.of("input_audio_buffer.speech_started")}
        assert len(items) == 2

    def test_finished_response_is_not_cancelled(self) -> None:
        rig = Rig(answer_ms=2000)
        rig.setup()
        rig.turn()
        rig.run(1)
        rig.say(loud(200))
        assert rig.types()[-1] == "input_audio_buffer.speech_started"
        assert [event["response"]["status"] for event in rig.of("response.done")] == ["completed"]

    def test_cancel_by_the_client(self) -> None:
        rig = Rig(answer_ms=20_000, burst=Burst(speed=2))
        self.talk(rig)
        rig.send("response.cancel", response_id="wrong")
        assert "does not match current response" in rig.errors()[-1]["message"]
        rig.send("response.cancel")
        assert rig.last("response.done")["response"]["status"] == "cancelled"
        rig.send("response.cancel")
        assert rig.errors()[-1]["message"] == "Cancellation failed: no active response found"

    def test_truncate_is_ignored_or_acknowledged(self) -> None:
        for faults, expected in (((), 0), (("ack-truncate",), 1)):
            rig = Rig(*faults)
            rig.setup()
            rig.turn()
            rig.run(2)
            item = rig.last("response.output_item.done")["item"]["id"]
            rig.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=120)
            assert len(rig.of("conversation.item.truncated")) == expected
            assert not rig.errors()


class TestForceMessage:
    def test_whole_response_in_its_own_words(self) -> None:
        rig = Rig(force_ms=100)
        rig.setup()
        at = rig.now
        rig.force("Good day to you.")
        rig.run(2)
        assert squeezed(rig.types())[3:] == RESPONSE
        assert rig.last("response.output_audio_transcript.done")["transcript"] == "Good day to you."
        assert rig.at("response.output_audio.delta") - at == pytest.approx(0.1)
        words = "".join(event["delta"] for event in rig.of("response.output_audio_transcript.delta"))
        assert words == "Good day to you."

    def test_uninterruptible_drops_the_caller_until_played_out(self) -> None:
        rig = Rig(answer_ms=2000, force_ms=100)
        rig.setup()
        rig.force("This call is recorded.", interruptible=False)
        rig.run(0.5)
        assert rig.of("response.done")  # sent, but not yet heard
        rig.say(loud(400) + quiet(240))
        assert not rig.of("input_audio_buffer.speech_started")
        rig.run(1.5)
        rig.turn()
        assert len(rig.of("input_audio_buffer.speech_started")) == 1

    def test_refused_without_text_or_while_active(self) -> None:
        rig = Rig()
        rig.setup()
        rig.force("  ")
        assert "force_message" in rig.errors()[-1]["message"]
        rig.force("One.")
        rig.force("Two.")
        assert "already has an active response" in rig.errors()[-1]["message"]


class TestManualMode:
    def test_commit_then_create(self) -> None:
        rig = Rig()
        rig.setup(turn_detection={"type": None})
        rig.say(loud(300))
        rig.send("input_audio_buffer.commit")
        rig.run(3)
        assert not rig.of("response.created")
        assert rig.of("input_audio_buffer.committed")
        rig.send("response.create", response={"metadata": {"why": "test"}})
        rig.run(2)
        assert rig.last("response.created")["response"]["metadata"] == {"why": "test"}
        assert rig.last("response.done")["response"]["metadata"] == {"why": "test"}

    def test_typed_turn_as_captured(self) -> None:
        rig = Rig()
        rig.type_in("Say hello")
        rig.send("response.create")
        rig.run(2)
        assert squeezed(rig.types())[2:] == ["conversation.item.added", *RESPONSE]
        assert "metadata" not in rig.last("response.created")["response"]
        user, assistant = rig.of("conversation.item.added")
        assert assistant["previous_item_id"] == user["item"]["id"]
        assert assistant["item"]["content"] == []
        assert "content" not in rig.last("response.output_item.added")["item"]
        assert "part" not in rig.last("response.content_part.done")

    def test_empty_commit_and_commit_under_vad(self) -> None:
        rig = Rig()
        rig.send("input_audio_buffer.commit")
        rig.setup()
        rig.send("input_audio_buffer.commit")
        assert len(rig.errors()) == 2

    def test_clear(self) -> None:
        rig = Rig()
        rig.setup(turn_detection=None)
        rig.say(loud(300))
        rig.send("input_audio_buffer.clear")
        rig.send("input_audio_buffer.commit")
        assert rig.of("input_audio_buffer.cleared")
        assert "empty" in rig.errors()[-1]["message"]

    def test_second_create_while_active(self) -> None:
        rig = Rig()
        rig.send("response.create")
        rig.send("response.create")
        assert "already has an active response" in rig.errors()[-1]["message"]
        rig.run(2)
        rig.send("response.create")
        assert len(rig.errors()) == 1


class TestItems:
    def test_delete(self) -> None:
        rig = Rig()
        rig.type_in("hello")
        item = rig.last("conversation.item.added")["item"]["id"]
        rig.send("conversation.item.delete", item_id=item)
        assert rig.last("conversation.item.deleted")["item_id"] == item
        rig.send("conversation.item.delete", item_id=item)
        assert rig.errors()[-1]["message"] == "Item not found"

    def test_assistant_items_cannot_be_deleted(self) -> None:
        rig = Rig()
        rig.send("response.create")
        rig.run(2)
        rig.send("conversation.item.delete", item_id=rig.last("response.output_item.done")["item"]["id"])
        assert rig.errors()[-1]["message"] == "Item not found"

    @pytest.mark.parametrize(
        "item",
        [None, [], {}, {"type": "message"}, {"type": "message", "role": "tool", "content": []}, {"type": "magic"},
         {"type": "message", "role": "user", "content": "hi"}, {"type": "message", "role": "user", "content": [1]},
         {"type": "function_call", "name": "x"}, {"type": "function_call_output", "call_id": "x", "output": {}},
         {"type": "force_message", "content": {}}],
    )  # fmt: skip
    def test_bad_items_are_refused(self, item: Any) -> None:
        rig = Rig()
        rig.send("conversation.item.create", item=item)
        assert len(rig.errors()) == 1
        assert not rig.session.conversation.items

    def test_metadata_limits(self) -> None:
        rig = Rig()
        for bad in ({str(i): "" for i in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}, {"k": 1}, []):
            rig.send("response.create", response={"metadata": bad})
        assert len(rig.errors()) == 5
        assert not rig.of("response.created")


class TestIdle:
    def test_idle_timeout_checks_in_after_play_out(self) -> None:
        rig = Rig(answer_ms=2000, burst=Burst.even(100))
        rig.setup(turn_detection=VAD | {"idle_timeout_ms": 3000})
        rig.turn()
        rig.run(5.0)  # 0.5 s to the answer, 2 s of it, and not yet 3 s of silence
        assert not rig.of("input_audio_buffer.timeout_triggered")
        rig.run(1.0)
        event = rig.last("input_audio_buffer.timeout_triggered")
        assert event["audio_end_ms"] - event["audio_start_ms"] == 3000
        rig.run(2)
        assert len(rig.of("response.done")) == 2

    def test_speech_disarms_it(self) -> None:
        rig = Rig(answer_ms=100)
        rig.setup(turn_detection=VAD | {"idle_timeout_ms": 1000})
        rig.turn()
        rig.run(1.0)
        rig.say(loud(3000))
        assert not rig.of("input_audio_buffer.timeout_triggered")


class TestResumption:
    def test_history_is_replayed_after_the_update(self) -> None:
        first = Rig()
        first.setup(resumption={"enabled": True})
        first.turn()
        first.run(2)
        second = Rig(resumed=first.session.conversation)
        assert second.events[1]["conversation"]["id"] == first.session.conversation.id
        assert not second.of("conversation.item.created")
        second.setup(resumption={"enabled": True})
        replayed = [event["item"] for event in second.of("conversation.item.created")]
        assert [item["role"] for item in replayed] == ["user", "assistant"]
        assert all(item["replayed"] for item in replayed)
        second.setup()
        assert len(second.of("conversation.item.created")) == 2

    def test_kept_thirty_minutes(self) -> None:
        store = ConversationStore()
        conversation = Rig().session.conversation
        store.keep(conversation, 1000.0)
        assert store.find(conversation.id, 1000.0 + KEPT_S) is conversation
        assert store.find(conversation.id, 1001.0 + KEPT_S) is None
        assert store.find("other", 1000.0) is None


def test_unknown_events_and_binary_leave_the_session_open() -> None:
    rig = Rig()
    rig.send("conversation.item.retrieve", item_id="x")
    assert rig.errors()[0]["type"] == rig.errors()[0]["code"] == "invalid_event"
    rig.session.receive_bytes(b"\x00" * 10, rig.now)
    rig.collect()
    assert len(rig.errors()) == 2
    rig.setup()
    assert rig.of("session.updated")


def test_record_keeps_what_was_heard_and_sent() -> None:
    rig = Rig()
    rig.setup()
    rig.turn(400)
    rig.run(2)
    record = rig.session.record
    assert record.caller_audio == loud(400) + quiet(240)
    assert record.audio[0][0] == 100.0
    assert record.received_events("session.update")[0]["session"]["turn_detection"] == VAD
    assert record.sent_audio() == rig.sound()
    assert record.sent_types["response.done"] == 1


def test_record_is_bounded() -> None:
    rig = Rig(record_bytes=10_000)
    rig.setup()
    rig.say(loud(3000))
    assert len(rig.session.record.caller_audio) <= 10_000
    for n in range(100):  # the echo of an item is as large as the item
        rig.send("session.update", session={"instructions": f"{n} {'x' * 3000}"})
        rig.type_in(f"{n} {'x' * 3000}")
        rig.send("input_audio_buffer.append", audio="")
    record = rig.session.record
    for kept in (record.received, record.sent):
        assert 3000 < len(encode({"": list(kept)})) <= 10_000
        assert " xxx" in str(kept[-1])
    assert len(record.audio) <= 100
    off = Rig(record_bytes=0)
    off.setup()
    off.turn()
    off.run(2)
    assert not off.session.record.audio
    assert not off.session.record.sent
    assert off.session.record.sent_types["response.done"] == 1


def test_events_are_json() -> None:
    rig = Rig()
    rig.setup()
    rig.turn()
    rig.run(2)

    for event in rig.events:
        assert json.loads(encode(event))["type"] == event["type"]
