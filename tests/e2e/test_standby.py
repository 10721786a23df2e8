"""Sessions that stand by, under real calls: the caller has one at once, and a dead one costs nobody their call."""

from __future__ import annotations

import pytest

from sipagent import model
from sipagent.audio import Law
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import MakeRig, Rig
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

STANDIN = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=600)
WORDS = pattern(Law.ULAW, 50, 0, 4000)


async def standing_by(rig: MakeRig, count: int = 1) -> Rig:
    node = await rig(STANDIN, realtime={"standby": count})
    await until(lambda: node.worker.standby.ready == count, "sessions that stand by")
    return node


async def leave(node: Rig) -> None:
    """The call is over; what stands by goes with the worker."""
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    node.worker.standby.stop()
    await node.nothing_left()


async def test_a_caller_has_the_session_that_was_open_already(rig: MakeRig) -> None:
    node = await standing_by(rig)
    node.standin.faults = parse_faults(["hang-handshake"])  # another one could not be had
    async with node.phone(Law.ALAW) as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(400)
        await phone.say(WORDS)
        await phone.hear_agent_start()
        await phone.hang_up()
    session = node.standin.sessions[0]
    assert session.settings.input.law is Law.ALAW
    assert WORDS in session.record.caller_audio
    (opened,) = node.of(model.SessionOpened)
    assert opened.acknowledged
    assert node.worker.standby.counts["taken"] == 1
    await leave(node)


async def test_one_that_died_unnoticed_costs_the_caller_a_moment_and_nothing_else(rig: MakeRig) -> None:
    node = await standing_by(rig)
    node.standin.misbehave(parse_faults(["freeze@0"]))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.hang_up()
    (opened,) = node.of(model.SessionOpened)
    assert node.of(model.RealtimeTrouble) == []
    assert opened.endpoint == "main"
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    node.worker.standby.stop()
    await node.nothing_left(standin_sees=False)


async def test_more_callers_than_stand_by_are_served_all_the_same(rig: MakeRig) -> None:
    node = await standing_by(rig)
    async with node.phone() as first, node.phone() as second:
        await first.dial("100")
        await first.hear_agent_start()
        await second.dial("100")
        await second.hear_agent_start()
    await node.ended(2)
    assert len(node.of(model.SessionOpened)) == 2
    await leave(node)
