"""Each ordered fault, on the fake clock; those of the handshake are in test_server."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sipagent.audio import Law
from sipagent.standin import mischief
from sipagent.standin.faults import parse_faults
from sipagent.standin.outputs import Close, Drop, Freeze, Hear, Speak
from sipagent.standin.wire import encode
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.events import FunctionCall
from sipagent.xai.session import FunctionCallCut, RealtimeSession, Trouble
from tests.sounds import frames, vowel
from tests.standin.ga import GaRig
from tests.standin.harness import Rig, loud, quiet


def converse(*faults: str, turns: int = 1, **config: object) -> Rig:
    rig = Rig(*faults, **config)  # type: ignore[arg-type]
    rig.setup()
    for _ in range(turns):
        rig.turn()
        rig.run(2)
    return rig


def test_no_ack() -> None:
    rig = converse("no-ack")
    assert not rig.of("session.updated")
    assert rig.of("response.done")


def test_slow_ack() -> None:
    rig = Rig("slow-ack=2.5")
    rig.setup()
    rig.run(2.4)
    assert not rig.of("session.updated")
    rig.run(0.2)
    assert rig.of("session.updated")


def test_refuse_update() -> None:
    rig = Rig("refuse-update")
    rig.setup()
    assert rig.errors()
    assert not rig.of("session.updated")
    assert rig.session.settings.turn_detection is None


def test_reversed_opening() -> None:
    assert Rig("reversed-opening").types() == ["conversation.created", "session.created"]


def test_drop_at() -> None:
    rig = Rig("drop@3.5")
    rig.run(3.4)
    assert not rig.ends
    rig.run(0.2)
    assert rig.ends == [(103.5, Drop())]


def test_faults_may_be_ordered_in_the_middle_of_a_session() -> None:
    rig = Rig()
    rig.setup()
    rig.session.misbehave(parse_faults(["drop@1"]), rig.now)
    rig.run(0.9)
    assert not rig.ends
    rig.run(0.2)
    assert [end for _, end in rig.ends] == [Drop()]


def test_drop_in_answer() -> None:
    rig = Rig("drop@answer")
    rig.setup()
    rig.turn()
    rig.run(2)
    assert rig.ends[0][1] == Drop()
    assert 1600 <= len(rig.sound()) < 3200


def test_close_with_a_code() -> None:
    rig = Rig("close=1011@1")
    rig.run(2)
    assert isinstance(rig.ends[0][1], Close)
    assert rig.ends[0][1].code == 1011


def test_expire() -> None:
    rig = Rig("expire@1")
    rig.run(2)
    assert rig.errors()[0]["type"] == "max_duration"
    assert isinstance(rig.ends[0][1], Close)


def test_freeze() -> None:
    rig = Rig("freeze@1")
    rig.run(2)
    assert rig.ends == [(101.0, Freeze())]


def test_abandon() -> None:
    rig = converse("abandon", turns=2)
    assert len(rig.of("response.created")) == 2
    assert not rig.of("response.done")
    assert 0 < len(rig.sound()) < 2 * 3200


class Scripted:
    """A conversation with tools in speech, without ears and without a voice."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.setup(tools=[{"type": "function", "name": "order_status", "parameters": {"type": "object"}}])

    def ask(self, words: str) -> None:
        """The caller says it, and is heard; 0.5 s later the answer begins, of 0.4 s at ten times their speed."""
        for frame in frames(vowel(300)):
            self.rig.say(frame)
        self.rig.say(quiet(300))
        for ask in self.rig.asks:
            if isinstance(ask, Hear):
                self.rig.session.heard(ask.ticket, words, self.rig.now)
        self.rig.collect()
        for ask in self.rig.asks:
            if isinstance(ask, Speak):
                self.rig.session.spoken(ask.ticket, loud(400), self.rig.now)
        self.rig.asks.clear()
        self.rig.collect()


@pytest.mark.parametrize("make", [Rig, GaRig], ids=["xai", "openai"])
@pytest.mark.parametrize("end", ["completed", "cancelled", "never"])
def test_early_calls_are_carried_out_if_their_response_is_completed(make: type[Rig], end: str) -> None:
    """The stand-in against our own session: between the call and its `response.done` the caller may speak."""
    rig = make("early-calls=0.5", *(["abandon=1"] if end == "never" else []), mode="script")
    talk = Scripted(rig)
    talk.ask("where is my order")
    rig.run(0.6)
    assert rig.of("response.output_item.done")[-1]["item"]["type"] == "function_call"
    assert not rig.of("response.done")
    if end != "cancelled":
        rig.run(1)
    talk.ask("what is your address")
    rig.run(2)
    done = [event["response"]["status"] for event in rig.of("response.done")]
    assert done == {"never": ["completed"]}.get(end, [end, "completed"])
    call = rig.last("response.function_call_arguments.done")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "{}"}
    rig.send("conversation.item.create", item=output)
    ours = RealtimeSession(SessionConfig(Law.ULAW, "", "eve", ""))
    told = [one for event in rig.events for one in ours.receive(encode(event), 0.0)]
    called = FunctionCall(call["response_id"], call["call_id"], "order_status", call["arguments"])
    assert [one for one in told if isinstance(one, FunctionCall)] == ([called] if end == "completed" else [])
    assert [one for one in told if isinstance(one, FunctionCallCut)] == (
        [FunctionCallCut(called)] if end == "cancelled" else []
    )
    assert ours.counts["function_calls_stale"] == (0 if end == "completed" else 1)
    # Of a call whose response was cancelled xAI may know nothing: that is no trouble to us.
    assert len(rig.errors()) == {"completed": 0, "cancelled": int(make is Rig), "never": 1}[end]
    assert len([one for one in told if isinstance(one, Trouble)]) == (1 if end == "never" else 0)


def test_abandon_one_of_several() -> None:
    rig = converse("abandon=1", turns=2)
    assert len(rig.of("response.done")) == 1


def test_stuck() -> None:
    rig = converse("stuck=1", turns=2)
    assert len(rig.of("response.created")) == 2
    first, second = (event["response"]["id"] for event in rig.of("response.created"))
    assert not rig.sound(first)
    assert rig.sound(second)


def test_garbage_between_good_events() -> None:
    rig = converse("garbage")
    assert len(rig.raw) == 2 * len(mischief.GARBAGE)
    assert rig.of("response.done")


def test_unknown_events() -> None:
    rig = converse("unknown-events")
    assert rig.of("conversation.weather.changed")
    assert rig.of("response.done")


def test_wrong_format_with_honest_durations() -> None:
    rig = converse("wrong-format")
    assert rig.last("session.updated")["session"]["audio"]["output"]["format"]["type"] == "audio/pcmu"
    deltas = rig.of("response.output_audio.delta")
    assert all(abs(len(event["delta"]) / 48 - event["audio_duration_ms"]) <= 0.5 for event in deltas)


def test_dead_deltas() -> None:
    rig = converse("dead-deltas")
    known = {event["response"]["id"] for event in rig.of("response.created")}
    dead = [e for e in rig.of("response.output_audio.delta") if e["response_id"] not in known]
    assert dead
    after = rig.events[rig.events.index(rig.last("response.done")) + 1 :]
    assert any(e["type"] == "response.output_audio.delta" and e["response_id"] in known for e in after)


def test_repeated_transcripts_grow() -> None:
    rig = converse("repeat-transcripts")
    found = rig.of("conversation.item.input_audio_transcription.completed")
    texts = [event["transcript"] for event in found]
    assert len(texts) > 2
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert len({event["item_id"] for event in found}) == 1


def test_repeated_speech_started() -> None:
    rig = converse("repeat-speech-started")
    started = rig.of("input_audio_buffer.speech_started")
    assert len(started) == 2
    assert started[0]["item_id"] == started[1]["item_id"]


def test_another_model() -> None:
    assert Rig("model=other-1").last("session.created")["session"]["model"] == "other-1"
