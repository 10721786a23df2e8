"""script: loading with errors that name the key, and which line answers what; tools end to end in a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sipagent.errors import ConfigError
from sipagent.standin.outputs import Hear, Speak
from sipagent.standin.script import load_script, parse_script
from tests.standin.harness import Rig

GOOD: dict[str, Any] = {
    "greeting": "g", "fallback": "f", "nudge": "n", "check_in": "c",
    "intent": [{"name": "a", "phrases": ["hello there"], "reply": "r"}],
}  # fmt: skip
TOOL = {"name": "t", "done": "d {x}", "failed": "f", "missing": "m"}


def changed(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "intent": [{**GOOD["intent"][0], **changes}]}


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({**GOOD, "greeting": ""}, "greeting"),
        ({**GOOD, "fallback": 3}, "fallback"),
        ({k: v for k, v in GOOD.items() if k != "nudge"}, "nudge"),
        ({**GOOD, "check_in": "x" * 3000}, "check_in"),
        ({**GOOD, "colour": "red"}, "colour"),
        ({**GOOD, "intent": []}, "intent"),
        ({**GOOD, "intent": ["x"]}, r"intent\[1\]"),
        (changed(phrases=[]), r"intent\[1\].phrases"),
        (changed(phrases=["Hello!"]), r"intent\[1\].phrases"),
        (changed(reply=""), r"intent\[1\].reply"),
        (changed(extra=1), r"intent\[1\].extra"),
        (changed(tool={**TOOL, "done": ""}), r"intent\[1\].tool.done"),
        (changed(tool={**TOOL, "wrong": ""}), r"intent\[1\].tool.wrong"),
        (changed(tool=[TOOL, {**TOOL, "wrong": ""}]), r"intent\[1\].tool\[2\].wrong"),
        (changed(tool={**TOOL, "arguments": 4}), r"intent\[1\].tool.arguments"),
        ({**GOOD, "intent": GOOD["intent"] * 2}, "two intents"),
    ],
)
def test_errors_name_file_and_key(data: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^s\.toml: .*{key}"):
        parse_script(data, "s.toml")


def test_errors_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_script(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("x = [")
    with pytest.raises(ConfigError, match="not TOML"):
        load_script(bad)


def test_matching_is_by_whole_words_and_the_longest_phrase() -> None:
    script = load_script()
    assert script.intent("Well, what are your OPENING HOURS, please?").name == "opening_hours"  # type: ignore[union-attr]
    assert script.intent("is my order ready").name == "order_status"  # type: ignore[union-attr]
    assert script.intent("i stopped smoking") is None
    assert script.intent("") is None


def test_every_intent_of_the_shipped_script_is_reachable_by_each_phrase() -> None:
    script = load_script()
    for intent in script.intents:
        for phrase in intent.phrases:
            assert script.intent(phrase) is intent


def test_it_is_honest() -> None:
    script = load_script()
    assert "scripted stand-in" in script.intent("who are you").reply  # type: ignore[union-attr]
    lines = " ".join([script.greeting, script.fallback, *(intent.reply for intent in script.intents)]).lower()
    assert "grok" not in lines
    assert "xai" not in lines


TRANSFER = {"type": "function", "name": "transfer_call", "parameters": {}}


class Talk(Rig):
    """A scripted session whose ears and voice answer at once."""

    def __init__(self, *faults: str, **config: Any) -> None:
        super().__init__(*faults, mode="script", **config)
        self.setup(turn_detection=None, tools=[TRANSFER])

    def ask(self, text: str) -> str:
        self.type_in(text)
        return self.answer()

    def answer(self) -> str:
        self.send("response.create")
        return self.speak()

    def speak(self) -> str:
        said = ""
        while self.asks:
            match self.asks.pop(0):
                case Speak(ticket, said, form):
                    self.session.spoken(ticket, bytes(form.bytes_per_s), self.now)
                case Hear(ticket, _, _):
                    self.session.heard(ticket, "hello", self.now)
            self.collect()
        self.run(2)
        return said


def test_standing_lines() -> None:
    talk, script = Talk(), load_script()
    assert talk.answer() == script.greeting
    assert talk.answer() == script.nudge
    assert talk.ask("purple monkey") == script.fallback
    assert talk.ask("who are you") == script.intent("who are you").reply  # type: ignore[union-attr]


def test_tool_call_waits_for_its_output_and_one_response_create() -> None:
    talk = Talk()
    assert talk.ask("transfer me please") == "I will connect you to a colleague."
    done = talk.last("response.function_call_arguments.done")
    assert done["name"] == "transfer_call"
    assert json.loads(done["arguments"]) == {"reason": "transfer me please"}
    assert [item["type"] for item in talk.last("response.done")["response"]["output"]] == ["message", "function_call"]
    types = talk.types()
    assert types.index("response.output_audio.delta") < types.index("response.function_call_arguments.delta")
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": '{"ok": true}'}
    talk.send("conversation.item.create", item=output)
    talk.run(3)
    assert len(talk.of("response.created")) == 1
    assert talk.answer() == "I am connecting you now."


def test_failed_tool_is_spoken_of() -> None:
    talk = Talk()
    talk.ask("transfer me please")
    call_id = talk.last("response.function_call_arguments.done")["call_id"]
    for output in ('{"error": "busy"}', '{"ok": false}'):
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        talk.send("conversation.item.create", item=item)
        assert talk.answer() == "I am sorry, nobody is free to take your call just now."


def test_output_before_response_done_is_refused() -> None:
    talk = Talk()
    talk.type_in("transfer me please")
    talk.send("response.create")
    (call,) = talk.session._responder.active.calls  # type: ignore[union-attr]
    assert call is not None
    item = {"type": "function_call_output", "call_id": call.call_id, "output": "{}"}
    talk.send("conversation.item.create", item=item)
    assert talk.errors()[-1]["code"] == "invalid_tool_call_id"
    talk.speak()
    talk.send("conversation.item.create", item=item)
    assert len(talk.errors()) == 1


def test_undeclared_tool_is_not_called() -> None:
    talk = Talk()
    talk.send("session.update", session={"tools": []})
    assert "cannot connect you" in talk.ask("transfer me please")
    assert not talk.of("response.function_call_arguments.done")


def test_missing_key_of_an_output_is_speakable() -> None:
    script = parse_script(changed(tool=TOOL), "s")
    talk = Talk()
    conversation = talk.session.conversation
    conversation.calls["c"] = "t"
    conversation.add({"id": "1", "type": "function_call_output", "call_id": "c", "output": "not json"})
    assert script.reply(conversation, ()).text == "d unknown"


def test_response_waits_for_the_words_in_manual_mode() -> None:
    talk = Talk()
    talk.say(b"\x10" * 1600)
    talk.send("input_audio_buffer.commit")
    talk.send("response.create")
    assert [type(ask) for ask in talk.asks] == [Hear]
    assert talk.speak() == "Hello. What can I do for you?"
    assert talk.last("conversation.item.input_audio_transcription.completed")["transcript"] == "hello"


def test_failing_ears_and_voice_are_told() -> None:
    talk = Talk()
    talk.say(b"\x10" * 1600)
    talk.send("input_audio_buffer.commit")
    talk.send("response.create")
    hear = talk.asks.pop()
    assert isinstance(hear, Hear)
    talk.session.failed(hear.ticket, "no ears", talk.now)
    talk.collect()
    speak = talk.asks.pop()
    assert isinstance(speak, Speak)
    assert speak.text == load_script().fallback
    talk.session.failed(speak.ticket, "no voice", talk.now)
    talk.collect()
    assert [error["type"] for error in talk.errors()] == ["internal_error", "internal_error"]
    assert talk.last("response.done")["response"]["status"] == "incomplete"
