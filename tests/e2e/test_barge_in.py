"""Interrupting, at the caller's ear and at the model's socket: who is let in, what is cut, what goes on."""

from dataclasses import replace

import pytest
from numpy import frombuffer

from sipagent import model
from sipagent.audio import Law, resample
from sipagent.speech import Flite
from sipagent.standin.config import Burst, Mode, StandinConfig
from sipagent.standin.pattern import pattern
from tests import sounds
from tests.e2e.conftest import MakeRig, Rig
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
ANSWER_MS = 6000
DEAF = 0.0
"""dBov: a gate of the stand-in that no sound passes, so that only our own detector can notice the caller."""


def standin(**changes: object) -> StandinConfig:
    plain = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=50, force_ms=50, answer_ms=ANSWER_MS)
    return replace(plain, **changes)  # type: ignore[arg-type]


async def voice(node: Rig, words: str) -> bytes:
    pcm, rate_hz = await Flite(node.root.command("flite"), "slt").synthesize(words)
    return b"".join(sounds.frames(frombuffer(resample(pcm, rate_hz, 8000), "<i2").astype(float)))


async def test_a_voice_cuts_the_answer_that_a_deaf_model_would_have_gone_on_with(rig: MakeRig) -> None:
    node = await rig(standin(gate_dbov=DEAF, burst=Burst.even(200)))
    words = await voice(node, "Wait a moment, please. I only wanted to know the price.")
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.say(words)
        heard = phone.media.received_payload()
        # Nobody is left in silence: the model, which noticed nothing, is asked to go on.
        await until(lambda: len(node.of(model.AgentSpoke)) == 2, "the agent to speak again")
        await phone.hang_up()
    await node.ended()
    (barge_in,) = node.of(model.BargeIn)
    assert barge_in.confirmed_by == "speech"
    assert barge_in.stop_ms is not None
    assert barge_in.stop_ms <= 60
    greeting = pattern(Law.ULAW, 1, 0, ANSWER_MS * 8)
    assert greeting[: barge_in.played_ms * 8] in heard
    assert greeting[: barge_in.played_ms * 8 + 160] not in heard
    record = node.standin.sessions[-1].record
    (truncated,) = record.received_events("conversation.item.truncate")
    assert truncated["audio_end_ms"] == barge_in.played_ms
    assert len(record.received_events("response.create")) == 1
    assert [trouble.what for trouble in node.of(model.RealtimeTrouble)] == ["caller_not_noticed"]
    await node.nothing_left()


@pytest.mark.parametrize("law", Law)
async def test_a_cough_pauses_the_agent_and_not_a_sample_is_lost(rig: MakeRig, law: Law) -> None:
    node = await rig(standin(gate_dbov=DEAF))
    async with node.phone(law) as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.say(b"".join([*sounds.frames(sounds.cough(240), law), *sounds.silence(800, law)]))
        await phone.say(b"".join([*sounds.frames(sounds.cough(120, seed=2), law), *sounds.silence(200, law)]))
        await until(lambda: len(node.of(model.FalseBargeIn)) == 2, "the second pause to end")
        await phone.wait_quiet(400)
        await phone.hang_up()
        heard = phone.media.received_payload()
    await node.ended()
    assert node.of(model.BargeIn) == []
    assert all(event.paused_ms <= 500 for event in node.of(model.FalseBargeIn))
    silence = bytes([law.silence]) * 160
    frames = [heard[at : at + 160] for at in range(0, len(heard), 160)]
    spoken = b"".join(frame for frame in frames if frame != silence)
    assert spoken == pattern(law, 1, 0, ANSWER_MS * 8)
    assert node.standin.sessions[-1].record.received_events("conversation.item.truncate") == []


async def test_off_leaves_it_to_the_model(rig: MakeRig) -> None:
    node = await rig(standin(gate_dbov=DEAF), agent={"barge_in": {"enabled": False}})
    words = await voice(node, "Wait a moment, please.")
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.say(words)
        await phone.wait_quiet(400)
        await phone.hang_up()
        heard = phone.media.received_payload()
    await node.ended()
    assert pattern(Law.ULAW, 1, 0, ANSWER_MS * 8) in heard
    assert node.of(model.BargeIn) == node.of(model.FalseBargeIn) == []


async def test_the_model_may_be_first_and_the_caller_is_timed_all_the_same(rig: MakeRig) -> None:
    node = await rig(standin(burst=Burst.even(200)), agent={"barge_in": {"confirm_ms": 0}})
    words = await voice(node, "Wait a moment, please.")
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.say(words)
        await phone.hear_agent_start()
        await phone.hang_up()
    await node.ended()
    (barge_in,) = node.of(model.BargeIn)
    assert barge_in.confirmed_by == "model"
    assert barge_in.stop_ms is not None
    assert barge_in.stop_ms <= 60


async def test_a_turns_latency_is_split_into_its_shares(rig: MakeRig) -> None:
    node = await rig(standin(answer_ms=400))
    words = await voice(node, "What do you sell?")
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.say(words)
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.hang_up()
    await node.ended()
    greeting, turn = node.of(model.AgentSpoke)
    assert (greeting.latency_ms, greeting.own_ms) == (None, None)
    shares = (turn.detection_ms, turn.model_ms, turn.network_ms, turn.own_ms)
    assert None not in shares
    assert turn.latency_ms == pytest.approx(sum(share or 0 for share in shares), abs=0.3)
    assert turn.detection_ms is not None
    assert turn.detection_ms > 400  # the 500 ms that the model was told to wait, from its own idea of the end
    assert turn.model_ms is not None
    assert turn.model_ms > 40  # think_ms
