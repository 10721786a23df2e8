"""OpenAI's dialect, held to the types of openai-python: what we send is what they say a server takes, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.realtime import RealtimeClientEvent, RealtimeSessionCreateRequest
from pydantic import BaseModel, TypeAdapter, ValidationError

from sipagent.audio import Law
from sipagent.config import RealtimeSettings
from sipagent.config.sections import Fallback
from sipagent.xai import events as wire
from sipagent.xai import session as xai
from sipagent.xai.dialect import OPENAI, SessionConfig
from sipagent.xai.session import RealtimeSession

CONFIG = SessionConfig(
    law=Law.ALAW,
    model="gpt-realtime-2.1",
    voice="marin",
    instructions="Be brief.",
    language="es-MX",
    tools=(
        {"type": "function", "name": "look_up", "description": "Look it up.", "parameters": {"type": "object"}},
        {"type": "web_search"},
        {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example", "authorization": "secret"},
    ),
    dialect=OPENAI,
)
BUSY = "Conversation already has an active response in progress: resp_1. Wait until the response is finished."


def strict(kind: Any, value: object) -> Any:
    """`value` as this type of the SDK; a key that the type does not have fails, which the SDK itself lets pass."""
    found = TypeAdapter(kind).validate_python(value)
    extra = list(_extra(found))
    assert extra == [], f"unknown keys: {extra}"
    return found


def _extra(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from (f"{type(value).__name__}.{key}" for key in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _extra(getattr(value, name))
    elif isinstance(value, list):
        for entry in value:
            yield from _extra(entry)


class Server:
    """OpenAI's side: says events, reads ours, each of which must be one that the SDK knows."""

    def __init__(self, config: SessionConfig = CONFIG) -> None:
        self.session = RealtimeSession(config)

    def say(self, kind: str, **fields: Any) -> list[xai.SessionEvent]:
        return self.session.receive(json.dumps({"type": kind, "event_id": "event_1", **fields}), 100.0)

    def heard(self) -> list[dict[str, Any]]:
        messages = [json.loads(message) for message in self.session.take_outbox()]
        for message in messages:
            strict(RealtimeClientEvent, message)
        return messages

    def refuse(self, message: str, code: str = "", kind: str = "invalid_request_error") -> list[xai.SessionEvent]:
        return self.say("error", error={"type": kind, "code": code, "message": message, "param": None})


def ready() -> Server:
    server = Server()
    server.say("session.created", session={"type": "realtime", "id": "sess_1", "model": "gpt-realtime-2.1-2026-09-01"})
    server.say("session.updated", session={"type": "realtime"})
    server.heard()
    return server


def test_the_check_of_these_tests_sees_a_foreign_key() -> None:
    with pytest.raises(AssertionError, match="transport"):
        strict(RealtimeSessionCreateRequest, {"type": "realtime", "audio": {"input": {"transport": "json"}}})
    with pytest.raises(ValidationError):
        strict(RealtimeClientEvent, {"type": "session.update", "session": {"type": "realtime", "audio": 1}})


def test_the_session_is_one_that_openai_takes_whole() -> None:
    server = Server()
    events = server.say("session.created", session={"id": "sess_1", "model": "gpt-realtime-2.1-2026-09-01"})
    assert events == []  # a dated name of the model that was asked for is no other model
    (update,) = server.heard()
    session = strict(RealtimeSessionCreateRequest, update["session"])
    assert session.audio.input.format.type == session.audio.output.format.type == "audio/pcma"
    assert session.audio.input.turn_detection.interrupt_response is True
    assert session.audio.input.transcription.language == "es"
    assert session.audio.output.voice == "marin"
    assert session.reasoning is None


def test_tools_that_xai_runs_and_their_secrets_stay_at_home() -> None:
    session = OPENAI.session(CONFIG)
    assert [tool["type"] for tool in session["tools"]] == ["function"]
    assert "secret" not in json.dumps(session)


def test_everything_that_is_said_to_openai_is_an_event_of_its_own() -> None:
    server = ready()
    session = server.session
    session.say('Hello, this is "Anna".')
    session.whisper("The caller is a customer.")
    session.respond()
    session.interrupt("item_1", 480)
    session.silence()
    session.answer_function_calls({"call_1": "{}"})
    kinds = [message["type"] for message in server.heard()]
    assert kinds == [
        "response.create",
        "conversation.item.create",
        "response.create",
        "conversation.item.truncate",
        "response.cancel",
        "conversation.item.create",
        "response.create",
    ]
    strict(RealtimeClientEvent, json.loads(wire.append(b"\xd5" * 160)))


def test_a_text_to_be_said_stands_in_the_last_line_as_json() -> None:
    server = ready()
    text = 'Two\nlines, "quoted", and an é'
    server.session.say(text)
    (message,) = server.heard()
    assert json.loads(message["response"]["instructions"].rpartition("\n")[2]) == text


def test_openai_takes_no_conversation_up_again() -> None:
    server = Server()
    server.say("session.created", session={"id": "sess_1", "model": CONFIG.model})
    server.say("conversation.created", conversation={"id": "conv_1", "object": "realtime.conversation"})
    session = {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}
    *troubles, is_ready = server.say("session.updated", session=session)
    assert is_ready == xai.Ready(CONFIG.model, "", acknowledged=True)
    assert [trouble.what for trouble in troubles if isinstance(trouble, xai.Trouble)] == ["vad_substituted"]


def test_settings_that_are_refused_are_the_end_of_the_session() -> None:
    server = Server()
    server.say("session.created", session={"id": "sess_1", "model": "m"})
    (fatal,) = server.refuse("Invalid value: 'eve'.", "invalid_value")
    assert isinstance(fatal, xai.Fatal)
    assert (fatal.what, "'eve'" in fatal.detail) == ("refused", True)


def test_a_key_that_is_refused_after_the_upgrade_is_the_end_of_it() -> None:
    """As a probe of the live service met it: 101, this event, and a close with 3000."""
    (fatal,) = Server().refuse("Incorrect API key provided.", "invalid_api_key")
    assert fatal == xai.Fatal("refused", "invalid_request_error invalid_api_key: Incorrect API key provided.")


def test_a_last_word_behind_a_cancelled_answer_is_asked_for_again_when_that_is_over() -> None:
    server = ready()
    server.say("response.created", response={"id": "resp_1", "status": "in_progress"})
    server.session.silence()
    server.session.say("Goodbye.")
    cancel, goodbye = server.heard()
    assert cancel["type"] == "response.cancel"
    assert server.refuse(BUSY, "conversation_already_has_active_response") == []
    assert server.heard() == []
    server.say("response.done", response={"id": "resp_1", "status": "cancelled", "status_details": None})
    assert server.heard() == [goodbye]
    # And only once.
    server.say("response.done", response={"id": "resp_2", "status": "completed"})
    assert server.heard() == []


def test_an_answer_that_is_only_nudged_for_is_not_asked_for_twice() -> None:
    server = ready()
    server.session.respond()
    server.heard()
    server.say("response.created", response={"id": "resp_1"})
    server.refuse(BUSY)
    server.say("response.done", response={"id": "resp_1", "status": "completed"})
    assert server.heard() == []


def test_what_was_to_follow_is_stale_when_the_caller_speaks() -> None:
    server = ready()
    server.say("response.created", response={"id": "resp_1"})
    server.session.answer_function_calls({"call_1": "{}"})
    server.heard()
    server.refuse(BUSY)
    server.say("input_audio_buffer.speech_started", item_id="item_2", audio_start_ms=1)
    server.say("response.done", response={"id": "resp_1", "status": "cancelled"})
    assert server.heard() == []  # the server answers what they say, and knows the result by then


def test_a_call_of_a_response_that_the_caller_interrupted_is_not_carried_out() -> None:
    """Its item is whole and stands in the conversation; the response is not."""
    server = ready()
    server.say("response.created", response={"id": "resp_1", "status": "in_progress"})
    call = {"call_id": "call_1", "name": "look_up", "arguments": "{}"}
    where = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0}
    item = {"id": "item_1", "type": "function_call", "status": "completed", **call}
    server.say("response.function_call_arguments.done", **where, **call)
    server.say("response.output_item.done", response_id="resp_1", output_index=0, item=item)
    server.say("input_audio_buffer.speech_started", item_id="item_2", audio_start_ms=1)
    details = {"type": "cancelled", "reason": "turn_detected"}
    response = {"id": "resp_1", "status": "cancelled", "status_details": details, "output": [item]}
    cut, _done = server.say("response.done", response=response)
    assert cut == xai.FunctionCallCut(wire.FunctionCall("resp_1", "call_1", "look_up", "{}"))
    server.say("response.created", response={"id": "resp_2", "status": "in_progress"})
    assert len(server.say("response.done", response={"id": "resp_2", "status": "completed"})) == 1


def failed(code: str) -> dict[str, Any]:
    details = {"type": "failed", "error": {"type": "x", "code": code, "message": "no"}}
    return {"id": "resp_1", "status": "failed", "status_details": details}


def test_a_response_that_failed_says_why() -> None:
    server = ready()
    server.say("response.created", response={"id": "resp_1"})
    done, trouble = server.say("response.done", response=failed("rate_limit_exceeded"))
    assert isinstance(done, wire.ResponseDone)
    assert trouble == xai.Trouble("response_failed", "rate_limit_exceeded: no")


@pytest.mark.parametrize("code", ["insufficient_quota", "session_expired"])
def test_nobody_answers_any_more(code: str) -> None:
    done, fatal = ready().say("response.done", response=failed(code))
    assert fatal == xai.Fatal(code, "no")
    assert isinstance(done, wire.ResponseDone)
    assert ready().refuse("It is over.", code) == [xai.Fatal(code, f"invalid_request_error {code}: It is over.")]


def test_the_configuration_wants_names_that_openai_knows() -> None:
    url = "wss://api.openai.com/v1/realtime"
    with pytest.raises(ValidationError, match="gpt-realtime"):
        Fallback(dialect="openai", url=url)
    with pytest.raises(ValidationError, match="gpt-realtime"):
        RealtimeSettings(dialect="openai", model="gpt-realtime-2.1")
    realtime = RealtimeSettings(fallbacks={"other": Fallback(dialect="openai", url=url, model="gpt-realtime-2.1")})
    main, other = realtime.endpoints
    assert (main.dialect, main.voice) == ("xai", "")
    assert (other.dialect, other.model, other.voice) == ("openai", "gpt-realtime-2.1", "marin")
    assert RealtimeSettings(dialect="openai", model="gpt-realtime-2.1", voice="cedar").endpoint == url
