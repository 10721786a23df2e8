"""Calls at a server that speaks OpenAI's dialect: from the first word, and when xAI is lost in the middle of a talk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from pydantic import SecretStr

from sipagent import model
from sipagent.audio import Law
from sipagent.outcome import Reason
from sipagent.standin.config import Dialect, Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.pattern import pattern
from sipagent.standin.server import StandinServer
from tests.e2e.conftest import MakeRig, Rig
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

STANDIN = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=600)
OPENAI = replace(STANDIN, dialect=Dialect.OPENAI)
NAMES = {"dialect": "openai", "model": "sipagent-standin-1", "voice": "marin"}
WORDS = pattern(Law.ULAW, 50, 0, 4000)


@pytest_asyncio.fixture(loop_scope="module")
async def openai() -> AsyncIterator[StandinServer]:
    async with StandinServer(OPENAI) as server:
        yield server


def no_misunderstandings(node: Rig) -> None:
    """The server has understood everything, and we have."""
    counters = node.of(model.CallEnded)[-1].counters
    assert {name: count for name, count in counters.items() if "error" in name or "garbage" in name} == {}
    assert node.of(model.RealtimeTrouble) == []


async def test_a_call_from_the_greeting_to_the_goodbye(rig: MakeRig) -> None:
    node = await rig(OPENAI, realtime=NAMES, agent={"no_input_s": 2, "reprompts": ("Still there?",)})
    async with node.phone(Law.ALAW) as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(400)
        await phone.say(WORDS)
        await phone.hear_agent_start()
        assert await phone.wait_ended(30)  # nobody says a word any more
    assert (await node.ended()).reason is Reason.NO_INPUT
    (session,) = node.standin.sessions
    assert (session.settings.input.law, session.settings.instructions) == (Law.ALAW, "Be brief.")
    assert WORDS in session.record.caller_audio
    said = [event.text for event in node.of(model.Transcript) if event.role is model.Role.AGENT]
    assert said[0] == "Hello."
    assert said[-2:] == ["Still there?", node.settings.agents["reception"].goodbye]
    no_misunderstandings(node)
    await node.nothing_left()


async def test_who_speaks_over_the_agent_is_let_in_and_the_server_knows_what_was_heard(rig: MakeRig) -> None:
    node = await rig(replace(OPENAI, answer_ms=8000), realtime=NAMES)
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.say(WORDS * 2)
        await until(lambda: bool(node.of(model.BargeIn)), "the interruption")
        await phone.hear_agent_start()
        await phone.hang_up()
    await node.ended()
    (cut, *_) = node.of(model.BargeIn)
    truncated = node.standin.sessions[0].record.received_events("conversation.item.truncate")
    assert [event["audio_end_ms"] for event in truncated] == [cut.played_ms]
    no_misunderstandings(node)
    await node.nothing_left()


async def test_when_xai_is_lost_in_a_talk_it_goes_on_there(rig: MakeRig, openai: StandinServer) -> None:
    other = {"url": openai.url, "api_key": SecretStr("k"), "dialect": "openai", "model": "sipagent-standin-1"}
    node = await rig(STANDIN, realtime={"fallbacks": {"other": other}})
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.say(WORDS)
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        node.standin.faults = parse_faults(["refuse=503"])
        node.standin.misbehave(parse_faults(["drop@0"]))
        await until(lambda: bool(node.of(model.SessionRecovered)), "another session")
        await phone.say(WORDS)
        await phone.hear_agent_start()
        await phone.hang_up()
    await node.ended()
    assert [(event.how, event.endpoint) for event in node.of(model.SessionRecovered)] == [("primed", "other")]
    (session,) = openai.sessions
    assert (session.settings.voice, session.settings.input.law) == ("marin", Law.ULAW)
    told = [str(event) for event in session.record.received_events("conversation.item.create")]
    assert any("Agent: Hello." in text for text in told)
    await until(lambda: not openai.live, "its socket to close")
    assert node.of(model.CallEnded)[-1].counters.get("realtime_server_errors", 0) == 0
    await node.nothing_left()
