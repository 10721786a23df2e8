"""Talks: what a caller says is recognised and answered; many at once; silence, length and orders end calls."""

import asyncio
from pathlib import Path

import pytest

from sipagent import model, orders
from sipagent.asterisk.root import Root
from sipagent.audio import Law, level_dbov, resample
from sipagent.dialogue import DEMO, converse
from sipagent.model import Role
from sipagent.outcome import CallOutcome, Fault, Reason, Result
from sipagent.speech import Flite
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import MakeRig
from tests.garbage import left_by_a_call
from tests.phone import baresip
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def test_three_turns_recognised_and_answered_one_of_them_a_barge_in(rig: MakeRig) -> None:
    node = await rig(StandinConfig())
    caller = Flite(node.root.command("flite"), "kal")
    async with node.phone(Law.ALAW) as phone:
        summary = await converse(phone, "100", DEMO, caller.synthesize)
    assert (await node.ended()).result is Result.SUCCESS
    said = {event.item_id: event for event in node.of(model.Transcript)}
    heard = [event.text for event in said.values() if event.role is Role.CALLER]
    assert heard == ["what are your opening hours", "tell me about your services", "what is your address"]
    answers = " ".join(event.text for event in said.values() if event.role is Role.AGENT)
    assert "Monday to Friday" in answers
    assert "twelve River Street" in answers
    assert len(node.of(model.BargeIn)) == 1
    assert len(summary.turns) == 3
    assert all(turn.response_ms is not None for turn in summary.turns)
    assert [turn.was_barge_in for turn in summary.turns] == [False, False, True]
    assert summary.packets_lost == 0
    # Asterisk tells us nothing that nobody here reads.
    assert [name for name in node.worker.ari.counts if name.startswith("unread:")] == []
    await node.nothing_left()


async def test_a_softphone_that_we_did_not_write_talks_to_the_agent(
    rig: MakeRig, baresip_root: Root, tmp_path: Path
) -> None:
    node = await rig(StandinConfig())
    pcm, rate_hz = await Flite(node.root.command("flite"), "rms").synthesize("what is your address")
    question = bytes(3 * 16000) + resample(pcm, rate_hz, 8000) + bytes(10 * 16000)
    heard = await baresip.call(baresip_root, node.asterisk.config, tmp_path, "100", question, seconds=9)
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    final = node.of(model.Transcript)
    assert [event.text for event in final if event.role is Role.CALLER][-1] == "what is your address"
    assert "twelve River Street" in [event.text for event in final if event.role is Role.AGENT][-1]
    voiced_ms = 20 * sum(level_dbov(heard[at : at + 320]) > -45 for at in range(0, len(heard), 320))
    assert voiced_ms > 2000  # the greeting and the answer
    assert node.of(model.CallEnded)[0].counters["rtp_lost"] == 0
    await node.nothing_left()


async def test_twenty_calls_at_once(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=1000))
    words = pattern(Law.ULAW, 50, 0, 4000)

    async def one() -> bytes:
        async with node.phone() as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()
            await phone.wait_quiet(300)
            await phone.say(words)
            await phone.hear_agent_start()
            await phone.wait_quiet(300)
            await phone.hang_up()
            return phone.media.received_payload()

    heard = await asyncio.gather(*(one() for _ in range(20)))
    await node.ended(20)
    answer = pattern(Law.ULAW, 2, 0, 8000)
    assert sum(answer in each for each in heard) == 20
    assert {event.outcome.reason for event in node.of(model.CallEnded)} == {Reason.CALLER_HANGUP}
    assert sum(event.counters["rtp_lost"] + event.counters["rtp_foreign"] for event in node.of(model.CallEnded)) == 0
    await node.nothing_left()


async def test_a_silent_caller_is_asked_twice_and_then_released(rig: MakeRig) -> None:
    node = await rig(
        StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=300),
        agent={"no_input_s": 2, "reprompts": ("Are you there?", "Hello?"), "goodbye": "Goodbye."},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        end = await phone.wait_ended(20)
        spoken = [event["item"]["content"][0]["text"] for event in _forced(node.standin.sessions[-1])]
    assert end.cause == 16
    assert await node.ended() == CallOutcome(Reason.NO_INPUT)
    assert [event.step for event in node.of(model.NoInputStep)] == [1, 2, 3]
    assert spoken == ["Hello.", "Are you there?", "Hello?", "Goodbye."]
    await node.nothing_left()


def _forced(session) -> list[dict]:  # type: ignore[no-untyped-def,type-arg]
    created = session.record.received_events("conversation.item.create")
    return [event for event in created if event["item"]["type"] == "force_message"]


async def test_the_longest_call_ends_with_a_word(rig: MakeRig) -> None:
    node = await rig(
        StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=300), agent={"max_duration_s": 10, "no_input_s": 120}
    )
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.wait_ended(20)
    assert (await node.ended()).reason is Reason.MAX_DURATION
    assert _forced(node.standin.sessions[-1])[-1]["item"]["content"][0]["text"].startswith("We have reached")


async def test_the_operator_hangs_up(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        node.worker.obey(orders.HangUp(call_id=node.of(model.CallStarted)[0].call_id))
        await phone.wait_ended(5)
    assert (await node.ended()).reason is Reason.OPERATOR_HANGUP
    await node.nothing_left()


async def test_a_number_of_no_agent_gets_404(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC))
    async with node.phone() as phone:
        await phone.dial("999")
        end = await phone.wait_ended(5)
    assert end.status == 404
    assert (await node.ended()).fault is Fault.CALLER
    assert not node.standin.sessions
    await node.nothing_left()


async def test_a_worker_that_stops_releases_its_calls(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        running = next(task for task in asyncio.all_tasks() if task.get_name() == "worker")
        running.cancel()
        await phone.wait_ended(5)
    assert node.outcome.reason is Reason.SHUTDOWN
    await until(lambda: not node.standin.live, "realtime socket closed")


async def test_without_a_worker_the_caller_hears_asterisk_say_sorry(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC))
    running = next(task for task in asyncio.all_tasks() if task.get_name() == "worker")
    running.cancel()
    await asyncio.wait({running})
    async with node.phone() as phone:
        await phone.dial("100")
        end = await phone.wait_ended(15)
        spoken_ms = 20 * len(phone.media.voiced_in)
    assert end.status == 503
    assert spoken_ms > 1000


async def test_a_call_leaves_nothing_for_the_garbage_collector(rig: MakeRig) -> None:
    """A worker never collects while calls are up, so a cycle a call would grow for a day."""
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC, think_ms=50, answer_ms=400))
    for number in range(2):  # the first call imports, caches and warms up
        with left_by_a_call() as garbage:
            async with node.phone() as phone:
                await phone.dial("100")
                assert await phone.wait_answered()
                await phone.hear_agent_start()
                await phone.wait_quiet(300)
                await phone.say(pattern(Law.ULAW, 50, 0, 4000))
                await phone.hear_agent_start()
                await phone.hang_up()
            await node.ended(number + 1)
            await node.nothing_left()
    assert garbage == []
