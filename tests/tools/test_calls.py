"""When tools run and when the model hears of them: the rules of xai-realtime section 4, with time as an argument."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sipagent.tools.calls import (
    HOLD,
    OWED_S,
    STUCK_S,
    Action,
    Answer,
    Fill,
    Function,
    Hush,
    Refused,
    Respond,
    Run,
    ToolCalls,
)
from sipagent.xai.events import FunctionCall

ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
FUNCTIONS = {
    "order_status": Function("order_status", "Where it is.", ORDER, filler="One moment.", hold_sound=True),
    "weather": Function("weather", "The weather.", {"type": "object"}, filler="One moment."),
    "quiet": Function("quiet", "No filler.", {"type": "object"}),
}
GIVEN = '{"order": "4711"}'


def call(call_id: str, name: str = "order_status", arguments: str = GIVEN) -> FunctionCall:
    return FunctionCall("r1", call_id, name, arguments)


def actions(core: ToolCalls) -> list[Action]:
    out = []
    while (action := core.poll()) is not None:
        out.append(action)
    return out


def begun(*calls: FunctionCall, **options: Any) -> tuple[ToolCalls, list[Action]]:
    """A core whose model has made these calls in one response, done at 0.0."""
    core = ToolCalls(FUNCTIONS, **options)
    core.response_created("r1", -1.0)
    for one in calls:
        core.called(one)
    assert actions(core) == []
    core.response_done("r1", "completed", 0.0)
    return core, actions(core)


def test_a_call_runs_when_its_response_is_done_and_is_answered_once() -> None:
    core, first = begun(call("c1"))
    assert first == [Run("c1", "order_status", {"order": "4711"})]
    core.returned("c1", '{"status": "sent"}', 0.3)
    assert actions(core) == [Answer({"c1": '{"status": "sent"}'}, respond=True)]
    core.response_created("r2", 0.5)
    core.response_done("r2", "completed", 1.0)
    assert actions(core) == []
    assert not core.busy
    assert core.deadline is None


def test_parallel_calls_are_answered_together() -> None:
    core, first = begun(call("c1"), call("c2", "weather", "{}"))
    assert [type(action) for action in first] == [Run, Run]
    core.returned("c2", "sun", 0.1)
    assert actions(core) == []
    core.returned("c1", "sent", 0.2)
    assert actions(core) == [Answer({"c2": "sun", "c1": "sent"}, respond=True)]


def test_a_call_announced_again_runs_once() -> None:
    core, first = begun(call("c1"), call("c1"))
    assert len(first) == 1
    core.called(call("c1"))
    core.response_done("r1", "completed", 0.1)
    assert actions(core) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "no JSON"),
        ("[1]", "a JSON object"),
        ("{}", "'order' is a required property"),
        ('{"order": 5}', "order: 5 is not of type 'string'"),
        ('{"order": NaN}', "no JSON"),
        ('{"order": "7 \\ud83d"}', "no JSON"),  # half of a smiley: nobody on our wires can pass it on
        ("[" * 15_000, "no JSON"),
        ('{"order": "' + "x" * 17_000 + '"}', "too long"),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_model(arguments: str, told: str) -> None:
    core, (refused, answer) = begun(call("c1", arguments=arguments))
    assert isinstance(refused, Refused)
    assert told in refused.why
    assert isinstance(answer, Answer)
    assert told in json.loads(answer.outputs["c1"])["error"]
    assert not core.busy


def test_unknown_names_are_refused_and_the_others_run() -> None:
    core, first = begun(call("c1", "invented"), call("c2"))
    assert [type(action) for action in first] == [Refused, Run]
    core.returned("c2", "sent", 0.2)
    (answer,) = actions(core)
    assert isinstance(answer, Answer)
    assert "order_status" in json.loads(answer.outputs["c1"])["error"]


def test_the_servers_own_tools_are_not_answered() -> None:
    core, first = begun(call("c1", "x_keyword_search", "{}"), server_tools=True)
    assert first == []
    assert not core.busy


def test_calls_of_a_response_that_was_cut_short_are_not_carried_out() -> None:
    core = ToolCalls(FUNCTIONS)
    core.response_created("r1", -1.0)
    core.called(call("c1"))
    core.response_done("r1", "cancelled", 0.0)
    refused, answer = actions(core)
    assert isinstance(refused, Refused)
    assert isinstance(answer, Answer)


def test_a_tool_of_the_servers_own_is_not_ours_to_refuse_when_it_is_cut_short() -> None:
    core = ToolCalls(FUNCTIONS, server_tools=True)
    core.response_created("r1", -1.0)
    core.called(call("c1", "x_keyword_search", "{}"))
    core.response_done("r1", "cancelled", 0.0)
    assert actions(core) == []


def test_results_wait_for_an_active_response() -> None:
    core, _ = begun(call("c1"))
    core.response_created("r2", 0.1)  # of what the caller said meanwhile
    core.returned("c1", "sent", 0.3)
    assert actions(core) == []
    core.response_done("r2", "completed", 1.0)
    assert actions(core) == [Answer({"c1": "sent"}, respond=True)]


def test_a_second_response_does_not_wait_for_the_calls_of_the_first() -> None:
    core, _ = begun(call("c1"))
    core.response_created("r2", 1.0)
    core.called(call("c2", "weather", "{}"))
    core.response_done("r2", "completed", 1.5)
    actions(core)
    core.returned("c2", "sun", 1.6)
    assert actions(core) == [Answer({"c2": "sun"}, respond=True)]
    assert core.busy
    core.response_created("r3", 1.7)
    core.response_done("r3", "completed", 2.0)
    core.returned("c1", "sent", 5.0)
    assert actions(core) == [Answer({"c1": "sent"}, respond=True)]


def test_a_response_that_is_never_closed_does_not_hold_results_for_ever() -> None:
    core, _ = begun(call("c1"))
    core.response_created("r2", 0.1)
    core.returned("c1", "sent", 0.3)
    assert core.deadline == 0.1 + STUCK_S
    core.handle_timer(0.1 + STUCK_S)
    assert actions(core) == [Answer({"c1": "sent"}, respond=True)]


def test_a_response_create_that_found_another_response_is_sent_once_more() -> None:
    core, _ = begun(call("c1"))
    core.returned("c1", "sent", 0.3)
    actions(core)
    core.response_done("rx", "completed", 0.4)  # we had not known of it; ours was refused
    assert actions(core) == [Respond()]
    core.response_created("r3", 0.5)
    core.response_done("r3", "completed", 0.9)
    assert actions(core) == []


def test_while_the_caller_speaks_results_go_without_response_create() -> None:
    core, _ = begun(call("c1"))
    core.caller(speaks=True, now=0.2)
    core.returned("c1", "sent", 0.3)
    assert actions(core) == [Answer({"c1": "sent"}, respond=False)]
    core.caller(speaks=False, now=1.0)
    core.response_created("r2", 1.1)  # the server's own
    core.handle_timer(1.0 + OWED_S)
    assert actions(core) == []


def test_a_noise_that_brings_no_response_does_not_lose_the_answer() -> None:
    core, _ = begun(call("c1"))
    core.caller(speaks=True, now=0.2)
    core.returned("c1", "sent", 0.3)
    core.caller(speaks=False, now=0.5)
    actions(core)
    assert core.deadline == 0.5 + OWED_S
    core.handle_timer(0.5 + OWED_S)
    assert actions(core) == [Respond()]


def test_after_the_callers_pause_results_wait_for_the_servers_answer() -> None:
    core, _ = begun(call("c1"))
    core.caller(speaks=True, now=0.1)
    core.caller(speaks=False, now=0.2)
    core.returned("c1", "sent", 0.3)
    assert actions(core) == []
    assert core.deadline == 0.2 + OWED_S
    core.handle_timer(0.2 + OWED_S)
    assert actions(core) == [Answer({"c1": "sent"}, respond=True)]


def test_a_silence_is_filled_with_words_once_and_then_the_soft_sound() -> None:
    core, _ = begun(call("c1"))
    assert core.deadline == 0.7
    core.handle_timer(0.7)
    assert actions(core) == [Fill("One moment.")]
    core.agent(speaks=True, now=0.75)
    assert core.deadline is None
    core.agent(speaks=False, now=2.0)
    core.handle_timer(2.7)
    assert actions(core) == [Fill(HOLD)]
    core.agent(speaks=True, now=2.8)
    core.returned("c1", "sent", 5.0)
    actions(core)
    core.response_created("r2", 5.5)
    assert core.filling
    core.audio()
    core.audio()
    assert actions(core) == [Hush()]


def test_a_filler_does_not_cut_into_the_agents_own_words() -> None:
    core = ToolCalls(FUNCTIONS)
    core.response_created("r1", -1.0)
    core.agent(speaks=True, now=-0.5)
    core.called(call("c1"))
    core.response_done("r1", "completed", 0.0)
    actions(core)
    assert core.deadline is None
    core.agent(speaks=False, now=3.0)
    assert core.deadline == 3.7


def test_a_filler_does_not_speak_over_the_caller() -> None:
    core, _ = begun(call("c1"))
    core.caller(speaks=True, now=0.5)
    assert core.deadline is None
    core.caller(speaks=False, now=2.0)
    assert core.deadline == 2.7


def test_a_quick_tool_and_one_without_filler_are_not_filled() -> None:
    core, _ = begun(call("c1", "quiet", "{}"))
    assert core.deadline is None
    core, _ = begun(call("c1"))
    core.returned("c1", "sent", 0.3)
    assert core.deadline is None
