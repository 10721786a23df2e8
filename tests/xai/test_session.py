"""The rules of a realtime session, with the wire's quirks, no socket and a fake clock."""

import base64
import json
from typing import Any

import pytest

from sipagent.audio import Law
from sipagent.xai import events as wire
from sipagent.xai import session as xai
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.session import ACK_TIMEOUT_S, BACKLOG_MS, STANDBY_ACK_TIMEOUT_S, RealtimeSession

CONFIG = SessionConfig(law=Law.ALAW, model="grok-voice-latest", voice="eve", instructions="be kind", language="en")
FRAME = b"\xd5" * 160


class Server:
    """The other side: says events into the session, reads its outbox."""

    def __init__(self, config: SessionConfig = CONFIG) -> None:
        self.session = RealtimeSession(config)
        self.now = 100.0

    def say(self, kind: str, **fields: Any) -> list[xai.SessionEvent]:
        return self.session.receive(json.dumps({"type": kind, **fields}), self.now)

    def heard(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.session.take_outbox()]

    def open(self, model: str = "grok-voice-think-fast-2.0") -> list[xai.SessionEvent]:
        return [
            *self.say("session.created", session={"id": "s", "model": model}),
            *self.say("conversation.created", conversation={"id": "c"}),
            *self.say("session.updated", session={"turn_detection": {"type": "server_vad"}}),
        ]

    def audio(self, response: str, data: bytes = FRAME, ms: float = 20, item: str = "i") -> list[xai.SessionEvent]:
        return self.say(
            "response.output_audio.delta",
            response_id=response,
            item_id=item,
            delta=base64.b64encode(data).decode(),
            audio_duration_ms=ms,
        )

    def respond(self, response: str) -> list[xai.SessionEvent]:
        return self.say("response.created", response={"id": response})

    def call(self, response: str, call_id: str = "c") -> wire.FunctionCall:
        """The model calls a function, and its response is not done yet."""
        kind = "response.function_call_arguments.done"
        assert self.say(kind, response_id=response, call_id=call_id, name="transfer_call", arguments="{}") == []
        return wire.FunctionCall(response, call_id, "transfer_call", "{}")

    def done(self, response: str, status: str = "completed") -> list[xai.SessionEvent]:
        return self.say("response.done", response={"id": response} | ({"status": status} if status else {}))

    def stale(self) -> int:
        return self.session.counts["function_calls_stale"]


def ready() -> Server:
    server = Server()
    server.open()
    server.heard()
    return server


def test_the_update_waits_for_the_first_opening_event_whichever_it_is() -> None:
    for first in ("session.created", "conversation.created"):
        server = Server()
        assert server.heard() == []
        server.say(first, session={}, conversation={})
        updates = server.heard()
        assert [m["type"] for m in updates] == ["session.update"]
        other = "conversation.created" if first == "session.created" else "session.created"
        server.say(other, session={}, conversation={"id": "c"})
        assert server.heard() == []


def standing_by() -> Server:
    server = Server()
    server.session = RealtimeSession(CONFIG, standby=True)
    server.say("session.created", session={"id": "s", "model": "grok-voice-think-fast-2.0"})
    server.say("conversation.created", conversation={"id": "c"})
    return server


def test_a_session_that_stands_by_is_in_manual_mode_until_it_is_somebodys() -> None:
    server = standing_by()
    (update,) = server.heard()
    assert update["session"] == {"turn_detection": {"type": None}}
    assert not server.session.stands_by
    assert server.say("session.updated", session={"turn_detection": {}}) == [xai.StandsBy()]
    assert server.session.stands_by
    assert server.session.next_timer() is None
    server.session.configure(CONFIG, server.now)
    assert server.session.append_audio(FRAME) is None
    (update,) = server.heard()
    assert update["session"] == CONFIG.dialect.session(CONFIG)
    acknowledged = server.say("session.updated", session={"turn_detection": {"type": "server_vad"}})
    assert acknowledged == [xai.Ready("grok-voice-think-fast-2.0", "c", acknowledged=True)]
    assert [message["type"] for message in server.heard()] == ["input_audio_buffer.append"]


def test_a_session_that_does_not_answer_does_not_stand_by_and_is_nobodys() -> None:
    server = standing_by()
    due = server.session.next_timer()
    assert due == server.now + ACK_TIMEOUT_S
    dead = [xai.Fatal("ack_missing", "a session that was to stand by does not answer")]
    assert server.session.handle_timer(due) == dead
    assert server.session.next_timer() is None
    with pytest.raises(RuntimeError):
        server.session.configure(CONFIG, server.now)
    # And when it answered once, but not when it is needed.
    server = standing_by()
    server.say("session.updated", session={})
    server.session.configure(CONFIG, server.now)
    due = server.session.next_timer()
    assert due == server.now + STANDBY_ACK_TIMEOUT_S
    assert server.session.handle_timer(due) == dead


def test_the_update_asks_for_the_callers_law_without_a_rate() -> None:
    server = Server()
    server.say("session.created", session={})
    session = server.heard()[0]["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcma"}
    assert session["audio"]["output"] == {"format": {"type": "audio/pcma"}, "transport": "json"}
    assert session["turn_detection"]["type"] == "server_vad"


def test_first_words_wait_for_the_acknowledgement_and_are_then_sent_in_order() -> None:
    server = Server()
    for n in range(3):
        assert server.session.append_audio(bytes([n]) * 160) is None
    events = server.open()
    assert events[-1] == xai.Ready("grok-voice-think-fast-2.0", "c", acknowledged=True)
    sent = [base64.b64decode(m["audio"])[0] for m in server.heard() if m["type"] == "input_audio_buffer.append"]
    assert sent == [0, 1, 2]
    assert server.session.append_audio(FRAME) == wire.append(FRAME)


def test_the_backlog_is_bounded_and_drops_the_oldest() -> None:
    server = Server()
    frames = BACKLOG_MS // 20
    for n in range(frames + 5):
        server.session.append_audio(bytes([n % 256]) * 160)
    server.open()
    sent = [m for m in server.heard() if m["type"] == "input_audio_buffer.append"]
    assert len(sent) == frames
    assert base64.b64decode(sent[0]["audio"])[0] == 5
    assert server.session.counts["backlog_dropped"] == 5


def test_a_missing_acknowledgement_is_counted_and_passed_over() -> None:
    server = Server()
    server.say("session.created", session={"model": "m"})
    due = server.session.next_timer()
    assert due == server.now + ACK_TIMEOUT_S
    assert server.session.handle_timer(due - 0.001) == []
    events = server.session.handle_timer(due)
    assert isinstance(events[0], xai.Trouble)
    assert events[-1] == xai.Ready("m", "", acknowledged=False)
    assert server.session.next_timer() is None
    assert server.say("session.updated", session={}) == []
    assert server.session.counts["ack_missing"] == 1


def test_a_pinned_model_that_is_not_honoured_is_told() -> None:
    pinned = Server(SessionConfig(law=Law.ULAW, model="grok-voice-think-fast-2.0", voice="", instructions=""))
    events = pinned.open(model="grok-voice-3.0")
    assert [e.what for e in events if isinstance(e, xai.Trouble)] == ["model_substituted"]
    assert not any(isinstance(e, xai.Trouble) for e in Server().open(model="grok-voice-3.0"))


def test_an_echo_of_another_format_is_told() -> None:
    server = Server()
    server.say("session.created", session={})
    events = server.say("session.updated", session={"audio": {"output": {"format": {"type": "audio/pcm"}}}})
    assert [e.what for e in events if isinstance(e, xai.Trouble)] == ["format_substituted"]


def test_audio_passes_untouched() -> None:
    server = ready()
    server.respond("r")
    assert server.audio("r", b"exactly these", ms=13 / 8) == [xai.AgentAudio("i", b"exactly these")]
    assert server.say("response.output_audio.done", response_id="r", item_id="i") == [xai.AgentAudioDone("i")]


def test_a_response_that_was_spoken_over_is_dead_until_the_next() -> None:
    server = ready()
    server.respond("r1")
    server.audio("r1")
    assert server.say("input_audio_buffer.speech_started", item_id="u") == [wire.SpeechStarted("u")]
    assert server.say("input_audio_buffer.speech_started", item_id="u") == [wire.SpeechStarted("u")]
    assert server.audio("r1") == []
    assert server.say("response.output_audio.done", response_id="r1", item_id="i") == []
    server.respond("r2")
    assert server.audio("r1") == []
    assert server.audio("r2") != []
    assert server.session.counts["dead_deltas"] == 2


def test_a_newer_response_supersedes_one_that_never_ended() -> None:
    server = ready()
    server.respond("r1")
    server.respond("r2")
    assert server.audio("r1") == []
    assert server.audio("r2") != []


def test_deltas_of_a_response_nobody_announced_are_counted() -> None:
    server = ready()
    assert server.audio("never") == []
    server.respond("r")
    server.say("response.done", response={"id": "r", "status": "completed"})
    assert server.audio("r") == []
    assert server.session.counts["unannounced_deltas"] == 2


def test_pcm_instead_of_g711_is_detected_and_converted() -> None:
    server = ready()
    server.respond("r")
    heard = 0
    troubles = []
    for _ in range(10):
        for event in server.audio("r", b"\x10\x20" * 2400, ms=100):
            if isinstance(event, xai.AgentAudio):
                heard += len(event.audio)
            else:
                troubles.append(event)
    for event in server.say("response.output_audio.done", response_id="r", item_id="i"):
        heard += len(event.audio) if isinstance(event, xai.AgentAudio) else 0
    assert [t.what for t in troubles if isinstance(t, xai.Trouble)] == ["pcm_instead_of_g711"]
    assert heard == 8000  # one second, no sample lost in the resampler


def test_pcm_deltas_may_end_within_a_sample() -> None:
    server = ready()
    server.respond("r")
    pcm = bytes(range(256)) * 375  # one second at 48 bytes a millisecond is 48000
    pcm = pcm[:48000]
    heard = 0
    for start in range(0, len(pcm), 4801):
        piece = pcm[start : start + 4801]
        heard += sum(
            len(e.audio) for e in server.audio("r", piece, ms=len(piece) / 48) if isinstance(e, xai.AgentAudio)
        )
    events = server.say("response.output_audio.done", response_id="r", item_id="i")
    heard += sum(len(e.audio) for e in events if isinstance(e, xai.AgentAudio))
    assert heard == 8000


def test_audio_of_no_known_format_ends_the_session() -> None:
    server = ready()
    server.respond("r")
    assert type(next(iter(server.audio("r", b"x" * 2000, ms=100)))) is xai.Fatal


def test_an_interruption_of_ours_kills_the_rest_and_tells_what_was_heard() -> None:
    server = ready()
    server.respond("r")
    assert server.audio("r")
    server.session.interrupt("i", 340)
    assert server.audio("r") == []
    (truncated,) = server.heard()
    assert (truncated["type"], truncated["item_id"], truncated["audio_end_ms"]) == (
        "conversation.item.truncate",
        "i",
        340,
    )
    server.respond("next")
    assert server.audio("next")


def test_the_model_can_be_asked_to_go_on() -> None:
    server = ready()
    server.session.respond()
    assert [message["type"] for message in server.heard()] == ["response.create"]


def test_a_server_that_talks_without_end_does_not_fill_memory() -> None:
    server = ready()
    server.respond("r")
    for n in range(60):
        server.say("response.output_audio_transcript.delta", response_id="r", item_id=f"i{n}", delta="x" * 3000)
        server.say(
            "response.function_call_arguments.done", response_id="r", call_id=f"c{n}", name="f", arguments="x" * 200_000
        )
        server.audio(f"unknown{n}", bytes(8000))
    kept = sum(map(len, server.session._answer.texts.values()))
    assert kept <= xai.MAX_TEXT_CHARS
    assert server.session._calls == []
    counts = server.session.counts
    assert counts["text_dropped"] == 60 - xai.MAX_TEXT_CHARS // 3002
    assert (counts["function_calls_dropped"], counts["unannounced_deltas"]) == (60, 60)
    server.say("response.created", response={"id": "y" * 1_000_000})
    assert len(server.session._answer.response_id) == wire.MAX_ID_CHARS
    server.say("response.output_audio.done", response_id="z" * 1_000_000, item_id="i")
    assert counts["garbage"] == 1


def test_transcripts_grow_and_are_replaced() -> None:
    server = ready()
    server.respond("r")
    kind = "response.output_audio_transcript."
    assert server.say(kind + "delta", response_id="r", item_id="i", delta="Hel") == [
        xai.AgentTranscript("i", "Hel", final=False)
    ]
    assert server.say(kind + "delta", response_id="r", item_id="i", delta="lo") == [
        xai.AgentTranscript("i", "Hello", final=False)
    ]
    assert server.say(kind + "done", response_id="r", item_id="i", transcript="Hello.") == [
        xai.AgentTranscript("i", "Hello.", final=True)
    ]


def test_function_calls_wait_for_the_end_of_the_response_and_come_once() -> None:
    server = ready()
    server.respond("r")
    for _ in range(2):
        assert (
            server.say("response.function_call_arguments.done", response_id="r", call_id="c", name="f", arguments="{}")
            == []
        )
    assert server.say("response.output_item.done", item={"type": "function_call", "call_id": "c", "name": "f"}) == []
    events = server.say("response.done", response={"id": "r", "status": "completed"})
    assert [e for e in events if isinstance(e, wire.FunctionCall)] == [wire.FunctionCall("r", "c", "f", "{}")]
    server.session.answer_function_calls({"c": "{}", "d": "{}"})
    assert [m["type"] for m in server.heard()] == ["conversation.item.create"] * 2 + ["response.create"]


@pytest.mark.parametrize("status", ["cancelled", "incomplete", "failed"])
def test_a_call_of_a_response_that_was_cut_short_is_told_as_such(status: str) -> None:
    server = ready()
    server.respond("r")
    call = server.call("r")
    assert server.done("r", status) == [xai.FunctionCallCut(call), wire.ResponseDone("r", status, 0.0)]
    server.respond("next")
    assert server.done("next") == [wire.ResponseDone("next", "completed", 0.0)]
    assert server.stale() == 1


def test_a_response_that_another_supersedes_takes_its_calls_with_it() -> None:
    """It may never be closed, and what closes later is another."""
    server = ready()
    server.respond("r1")
    server.call("r1")
    server.say("input_audio_buffer.speech_started", item_id="u")
    server.respond("r2")
    server.call("r1", "late")
    wanted = server.call("r2", "d")
    assert server.done("r1") == [wire.ResponseDone("r1", "completed", 0.0)]
    assert server.done("r2") == [wanted, wire.ResponseDone("r2", "completed", 0.0)]
    assert server.stale() == 2


@pytest.mark.parametrize("status", ["completed", "cancelled", ""])
def test_the_late_end_of_an_older_response_is_not_that_of_the_calls(status: str) -> None:
    server = ready()
    server.respond("r1")
    server.respond("r2")
    call = server.call("r2")
    assert server.done("r1", status) == [wire.ResponseDone("r1", status, 0.0)]
    assert server.done("r2") == [call, wire.ResponseDone("r2", "completed", 0.0)]
    assert server.stale() == 0


def test_a_response_that_was_spoken_over_has_to_say_that_it_is_completed() -> None:
    """Section 5.2: one that is interrupted ends with a bare `response.done`."""
    for spoken_over, status, carried_out in (
        (False, "completed", True), (False, "", True), (True, "completed", True), (True, "", False),
    ):  # fmt: skip
        server = ready()
        server.respond("r")
        call = server.call("r")
        if spoken_over:
            server.say("input_audio_buffer.speech_started", item_id="u")
        told, done = server.done("r", status)
        assert told == (call if carried_out else xai.FunctionCallCut(call))
        assert done == wire.ResponseDone("r", status if carried_out else "cancelled", 0.0)


def test_of_a_response_that_we_cancelled_no_call_is_wanted() -> None:
    server = ready()
    server.respond("r")
    server.call("r")
    server.session.silence()
    server.call("r", "late")
    assert server.done("r") == [wire.ResponseDone("r", "completed", 0.0)]
    assert server.stale() == 2


def test_a_call_of_no_response_is_not_carried_out() -> None:
    server = ready()
    server.call("never")
    server.done("never")
    server.respond("r")
    server.done("r")
    server.call("r", "late")
    assert server.done("r") == [wire.ResponseDone("r", "completed", 0.0)]
    assert server.stale() == 2


@pytest.mark.parametrize("created", ["r", ""])
@pytest.mark.parametrize("called", ["r", ""])
@pytest.mark.parametrize("done", ["r", ""])
def test_an_event_without_the_id_of_its_response_is_of_the_last_one(created: str, called: str, done: str) -> None:
    for status, told in (("completed", lambda call: call), ("cancelled", xai.FunctionCallCut)):
        server = ready()
        server.respond("older")
        server.call("older", "stale")
        server.respond(created)
        call = server.call(called)
        assert server.done(done, status) == [told(call), wire.ResponseDone(done, status, 0.0)]
        assert server.done(done) == [wire.ResponseDone(done, "completed", 0.0)]


def test_that_the_server_has_forgotten_a_call_it_cut_short_is_no_trouble() -> None:
    server = ready()
    server.respond("r")
    server.call("r", "7d0cc1f2")
    server.done("r", "cancelled")
    code = "invalid_tool_call_id"
    for call_id, told in (("7d0cc1f2", []), ("0a4b", [xai.Trouble])):
        message = f"Tool call ID {call_id!r} not found in conversation"
        events = server.say("error", error={"type": "invalid_request_error", "code": code, "message": message})
        assert [type(event) for event in events] == told


def test_harmless_errors_are_counted_and_others_told() -> None:
    server = ready()
    assert server.say("error", error={"message": "Cancellation failed: no active response found"}) == []
    assert isinstance(server.say("error", error={"type": "invalid_event", "message": "bad tools"})[0], xai.Trouble)
    assert isinstance(server.say("error", error={"type": "max_duration", "message": "over"})[0], xai.Fatal)


def test_garbage_is_told_once_and_counted() -> None:
    server = ready()
    told = [server.session.receive("{", 0.0) for _ in range(5)]
    assert [len(t) for t in told] == [1, 0, 0, 0, 0]
    assert server.session.counts["garbage"] == 5


def test_invented_event_names_do_not_fill_memory() -> None:
    server = ready()
    for n in range(1000):
        server.say(f"invented.{n}")
    assert len(server.session.counts) < 100
