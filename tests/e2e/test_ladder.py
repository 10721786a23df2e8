"""The voice model is lost in the middle of a call: the caller hears something at once, and the talk goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.audio import Law
from sipagent.flow.phrases import Phrase
from sipagent.outcome import Reason
from sipagent.phone.sipp import free_udp_port
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import Faults, parse_faults
from sipagent.standin.server import StandinServer
from sipagent.xai.health import FAILURES, PAUSE_S
from tests.e2e.conftest import MakeRig, Rig
from tests.e2e.test_flow import company, hears
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


def faulty(*faults: str, **changes: object) -> StandinConfig:
    base: dict[str, Any] = {"mode": Mode.DETERMINISTIC, "think_ms": 100, "answer_ms": 600}
    return StandinConfig(**base | changes, faults=parse_faults(faults))


def recovered(node: Rig) -> list[tuple[str, str]]:
    return [(event.how, event.endpoint) for event in node.of(model.SessionRecovered)]


def one_moment(node: Rig) -> bytes:
    phrase = Phrase(node.settings.call.one_moment)
    return node.worker.house.policy.prompts.get(phrase, Law.ULAW).rstrip(b"\xff")[:8000]


@pytest.mark.parametrize(("fault", "how"), [("drop@2", "resumed"), ("close=1011@2", "resumed"), ("freeze@2", "primed")])
async def test_a_lost_session_is_taken_up_again(rig: MakeRig, fault: str, how: str) -> None:
    """A reset, a polite close, and a peer that says nothing and reads nothing any more (half-open).

    The last still has the conversation for its own: it must be told anew.
    """
    node = await rig(faulty(fault))
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        node.standin.faults = Faults()  # for the next session
        await until(lambda: recovered(node) == [(how, "main")], "another session")
        before = len(node.of(model.AgentSpoke))
        await phone.wait_quiet(300)
        await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: len(node.of(model.AgentSpoke)) > before, "an answer of the new session")
        assert not phone.ended
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    ids = [event.conversation_id for event in node.of(model.SessionOpened)]
    assert (ids[0] == ids[1]) == (how == "resumed")
    assert len(node.of(model.SessionClosed)) == 2
    await node.nothing_left(standin_sees=not fault.startswith("freeze"))


async def test_what_the_caller_says_meanwhile_is_heard_by_the_next_session(rig: MakeRig) -> None:
    node = await rig(faulty("drop@2"))
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        node.standin.faults = parse_faults(["slow-handshake=1"])
        await until(lambda: bool(node.of(model.SessionLost)), "the loss")
        said = bytes(range(1, 161)) * 40
        await phone.say(said)
        await until(lambda: bool(recovered(node)), "another session")
        session = node.standin.sessions[-1]
        await until(lambda: said in session.record.caller_audio, "every frame of it")
    await node.ended()
    await node.nothing_left()


async def test_who_is_in_the_middle_of_a_word_need_not_say_it_again(rig: MakeRig) -> None:
    """The next session hears them from their first sound, and answers as if nothing had been."""
    node = await rig(faulty())
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        said = b"".join(bytes(range(1, 160)) + bytes([n]) for n in range(100))
        saying = asyncio.create_task(phone.say(said))
        await until(lambda: len(node.standin.live[0].record.caller_audio.partition(said[:800])[2]) > 8000, "a second")
        node.standin.misbehave(parse_faults(["drop@0"]))
        await saying
        await phone.hear_agent_start(3)  # not when the ladder of silence finds out
        assert said in node.standin.sessions[-1].record.caller_audio
        assert recovered(node) == [("resumed", "main")]
    await node.ended()
    await node.nothing_left()


async def test_who_has_asked_a_session_that_was_dead_is_answered_by_the_next(rig: MakeRig) -> None:
    """Half-open: nobody told us that they were heard, yet they were, by us."""
    node = await rig(faulty(), agent={"greeting": "Hello.", "no_input_s": 20})
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        node.standin.misbehave(parse_faults(["freeze@0"]))
        await phone.say(bytes(range(1, 161)) * 50)
        await phone.hear_agent_start(10)
        assert recovered(node) == [("primed", "main")]
    await node.ended()
    await node.nothing_left(standin_sees=False)


async def test_who_waits_for_a_session_hears_that_it_takes_a_moment(rig: MakeRig) -> None:
    node = await rig(faulty("drop@2"))
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        node.standin.faults = parse_faults(["slow-handshake=1.5"])
        await until(lambda: one_moment(node) in phone.media.received_payload(), "the word")
        assert node.of(model.SessionRecovered) == []
        await until(lambda: recovered(node) == [("resumed", "main")], "the session")
    await node.ended()
    await node.nothing_left()


async def test_a_server_that_forgot_is_told(rig: MakeRig) -> None:
    """Another endpoint takes over: it gets the talk so far as one item, and the caller is not greeted again."""
    other = StandinServer(faulty())
    async with other:
        node = await rig(
            faulty("drop@2"),
            realtime={"fallbacks": {"second": {"url": other.url, "api_key": "key", "model": "another"}}},
        )
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            node.standin.faults = parse_faults(["refuse=503"])
            await until(lambda: recovered(node) == [("primed", "second")], "the other endpoint")
            session = other.sessions[-1]
            await until(lambda: bool(session.record.received_events("conversation.item.create")), "the talk so far")
            items = [event["item"] for event in session.record.received_events("conversation.item.create")]
            assert [item["type"] for item in items] == ["message"]
            assert "Agent: Hello." in items[0]["content"][0]["text"]
            assert [event.endpoint for event in node.of(model.SessionOpened)] == ["main", "second"]
        await node.ended()
        await node.nothing_left()


async def test_an_endpoint_that_refuses_is_followed_by_the_next(rig: MakeRig) -> None:
    """And after some calls it is not even asked."""
    other = StandinServer(faulty())
    async with other:
        node = await rig(faulty("refuse=429"), realtime={"fallbacks": {"second": {"url": other.url, "api_key": "key"}}})
        for calls in range(1, 5):
            async with node.phone() as phone:
                await phone.dial("100")
                await phone.hear_agent_start()
            await node.ended(calls)
        opened = [event.endpoint for event in node.of(model.SessionOpened)]
        assert opened == ["second"] * 4
        failed = [event for event in node.of(model.RealtimeTrouble) if event.what == "endpoint_failed"]
        assert len(failed) == 3
        assert "429" in failed[0].detail
        await node.nothing_left()


async def test_who_calls_does_not_wait_long_for_an_endpoint_that_says_nothing_while_there_is_another(
    rig: MakeRig,
) -> None:
    """It takes the connection and never answers the upgrade; the one time-out for all of them is 60 s here."""
    other = StandinServer(faulty())
    async with other:
        fallbacks = {"second": {"url": other.url, "api_key": "key"}}
        node = await rig(faulty("hang-handshake"), realtime={"connect_timeout_s": 60, "fallbacks": fallbacks})
        async with node.phone() as phone:
            await phone.dial("100")
            await until(lambda: [event.endpoint for event in node.of(model.SessionOpened)] == ["second"], "the second")
            await phone.hear_agent_start()
        await node.ended()
        (failed,) = [event for event in node.of(model.RealtimeTrouble) if event.what == "endpoint_failed"]
        assert failed.detail.startswith("main: ")
        await node.nothing_left()
        await until(lambda: not other.live, "the second's socket to be closed")


@pytest.mark.parametrize("found_away_s", [0, PAUSE_S + 1], ids=["just-now", "before"])
async def test_who_calls_gets_an_endpoint_that_others_found_away_where_no_other_gives_a_session(
    rig: MakeRig, found_away_s: float
) -> None:
    """Calls that need it not have gone before: they have made no trial, and it is not left alone for theirs."""
    other = StandinServer(faulty())
    async with other:
        fallbacks = {"second": {"url": other.url, "api_key": "key"}}
        node = await rig(faulty(), realtime={"fallbacks": fallbacks})
        health = node.worker.house.policy.health
        for _ in range(FAILURES):
            health.bad("second", asyncio.get_running_loop().time() - found_away_s)
        for calls, endpoint in enumerate(("main", "main", "second"), 1):
            if endpoint == "second":
                node.standin.faults = parse_faults(["refuse=503"])
            async with node.phone() as phone:
                await phone.dial("100")
                await phone.hear_agent_start()
            await node.ended(calls)
            assert node.of(model.SessionOpened)[-1].endpoint == endpoint
        assert health.away(asyncio.get_running_loop().time()) == []
        await node.nothing_left()
        await until(lambda: not other.live, "the second's socket to be closed")


async def test_who_is_in_a_talk_is_not_given_away_because_others_found_an_endpoint_away(rig: MakeRig) -> None:
    """It may be back, and when many calls lose their sessions together only one of them makes the trial."""
    node = await rig(faulty())
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        health = node.worker.house.policy.health
        for _ in range(FAILURES):
            health.bad("main", asyncio.get_running_loop().time())
        node.standin.misbehave(parse_faults(["drop@0"]))
        await until(lambda: recovered(node) == [("resumed", "main")], "another session")
        assert health.away(asyncio.get_running_loop().time()) == []
    await node.ended()
    await node.nothing_left()


async def test_an_agent_that_speaks_on_through_a_loss_is_not_taken_for_silent(rig: MakeRig) -> None:
    """What was still to be heard ends where the next answer begins: there is no moment at which it starts to speak."""
    node = await rig(faulty(answer_ms=5000), agent={"greeting": "Hello.", "no_input_s": 2})
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        node.standin.misbehave(parse_faults(["drop@1"]))
        await until(lambda: recovered(node) == [("resumed", "main")], "another session")
        await until(lambda: len(phone.media.voiced_in) > 50 * 4.5, "the rest of it")
        assert node.of(model.NoInputStep) == []
    await node.ended()
    assert len(node.of(model.SessionLost)) == 1
    await node.nothing_left()


async def test_an_endless_fall_ends_with_somebody_else(company: Any, root: Root) -> None:
    """The line breaks again and again: the caller is given to the agent's fallback, and told."""
    node = await company(
        standin=faulty("drop@0.7"),
        routes=[{"to": "100", "go": "agent:reception"}],
        agent={"fallback": "announcement:bye", "greeting": "Hello."},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await hears(phone, node, node.settings.call.handover)
        await hears(phone, node, "Good bye.")
        await phone.wait_ended(10)
    assert (await node.ended()).reason is Reason.COMPLETED
    assert len(node.of(model.SessionLost)) == 4
    await node.nothing_left()


async def test_who_comes_back_from_the_fallback_can_interrupt_the_agent_again(company: Any, root: Root) -> None:
    """The last word of the talk before was to be heard to its end; this one's words are not."""
    node = await company(
        standin=faulty("drop@0.7", answer_ms=5000),
        routes=[{"to": "100", "go": "agent:reception"}],
        menus={"away": {"prompt": "Press one.", "keys": {"1": "agent:reception"}}},
        agent={"fallback": "menu:away", "greeting": "Hello."},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await hears(phone, node, node.settings.call.handover)
        node.standin.faults = Faults()
        await hears(phone, node, "Press one.")
        spoken = len(node.of(model.AgentSpoke))
        await phone.press("1")
        await until(lambda: len(node.of(model.AgentSpoke)) > spoken, "the agent's first words in another talk")
        await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: bool(node.of(model.BargeIn)), "the agent to be cut")
        await phone.hang_up()
    await node.ended()
    await node.nothing_left()


async def test_no_model_at_all_and_the_caller_gets_the_fallback(company: Any, root: Root) -> None:
    node = await company(
        routes=[{"to": "100", "go": "agent:reception"}],
        agent={"fallback": "announcement:bye", "greeting": "Hello."},
        realtime={"url": f"ws://127.0.0.1:{free_udp_port('127.0.0.1')}"},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await hears(phone, node, "Good bye.")
    await node.ended()
    await node.nothing_left()


@pytest.mark.parametrize("which", ["stuck", "stuck=2"], ids=["greeting", "answer"])
async def test_who_waits_long_for_the_model_hears_that_they_are_not_alone(rig: MakeRig, which: str) -> None:
    node = await rig(faulty(which), agent={"greeting": "Hello.", "no_input_s": 4.0})
    async with node.phone() as phone:
        await phone.dial("100")
        if which == "stuck=2":
            await phone.hear_agent_start()
            await phone.wait_quiet(300)
            await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: one_moment(node) in phone.media.received_payload(), "the word")
        spoken = len(node.of(model.AgentSpoke))
        assert spoken == (1 if which == "stuck=2" else 0)  # which is no answer, and counts as none
        node.standin.faults = Faults()
        await until(lambda: bool(recovered(node)), "another session")
        await until(lambda: len(node.of(model.AgentSpoke)) > spoken, "its voice, and not behind the soft sound")
    await node.ended()
    await node.nothing_left()


async def test_who_asks_again_and_gets_no_answer_again_need_not_wait_for_the_whole_patience(rig: MakeRig) -> None:
    node = await rig(faulty())  # no_input_s is 10
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        node.standin.misbehave(parse_faults(["stuck"]))
        await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: one_moment(node) in phone.media.received_payload(), "the word")
        await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: bool(recovered(node)), "another session")
    await node.ended()
    await node.nothing_left()


async def test_a_model_that_is_silent_once_is_replaced_whatever_was_lost_before(rig: MakeRig) -> None:
    node = await rig(faulty(), agent={"greeting": "Hello.", "fallback": "hangup"})
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        node.standin.misbehave(parse_faults(["drop@0"]))
        await until(lambda: len(recovered(node)) == 1, "another session")
        node.standin.misbehave(parse_faults(["stuck"]))
        await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: one_moment(node) in phone.media.received_payload(), "the word")
        await phone.say(bytes(range(1, 161)) * 50)
        await until(lambda: len(recovered(node)) == 2, "a third one")
        assert not phone.ended
    await node.ended()
    await node.nothing_left()


async def test_a_stuck_model_is_replaced(rig: MakeRig) -> None:
    """It hears and never speaks: the ladder of silence finds out, and another session goes on."""
    node = await rig(faulty("stuck"), agent={"greeting": "Hello.", "no_input_s": 2.0})
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await until(lambda: bool(node.of(model.SessionOpened)), "the session")
        node.standin.faults = Faults()
        await until(lambda: bool(node.of(model.SessionLost)), "the silence to be noticed")
        await until(lambda: bool(recovered(node)), "another session")
        await phone.hear_agent_start()
    await node.ended()
    await node.nothing_left()
