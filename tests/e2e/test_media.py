"""Audio end to end: SIPp's leg, Asterisk, our worker, the realtime wire, and back, byte for byte."""

import asyncio
import os
import socket

import pytest

from sipagent import model
from sipagent.audio import Law
from sipagent.outcome import Reason
from sipagent.rtp.packet import RtpPacket
from sipagent.standin.config import Burst, Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import MakeRig
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SPEECH_MS = 1000


def deterministic(**changes: object) -> StandinConfig:
    """Answers of known bytes, in odd-sized bursts."""
    return StandinConfig(**{"mode": Mode.DETERMINISTIC, "think_ms": 100, "answer_ms": SPEECH_MS, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("law", list(Law))
async def test_both_ways_bit_exact(rig: MakeRig, law: Law) -> None:
    node = await rig(deterministic())
    caller = pattern(law, 77, 0, SPEECH_MS * 8)
    async with node.phone(law) as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.say(caller)
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.hang_up()
        heard = phone.media.received_payload()
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    session = node.standin.sessions[-1]
    assert caller in session.record.caller_audio
    for answer in range(2):  # the greeting, then the answer
        assert pattern(law, 1 + answer, 0, SPEECH_MS * 8) in heard
    ended = node.of(model.CallEnded)[0]
    assert ended.counters["uplink_dropped"] == 0
    assert ended.counters["rtp_lost"] == 0
    assert node.of(model.CallStarted)[0].codec == law
    await node.nothing_left()


async def test_junk_and_foreign_rtp_at_the_port_disturb_nothing(rig: MakeRig) -> None:
    node = await rig(deterministic())
    caller = pattern(Law.ULAW, 77, 0, SPEECH_MS * 8)
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        saying = asyncio.create_task(phone.say(caller))
        port = node.worker.house.ports.first
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for n in range(400):
                foreign = RtpPacket(0, n, n * 160, 0xBAD, b"\x00" * 160)
                stranger.sendto(bytes(foreign) if n % 2 else os.urandom(n), (node.settings.media.address, port))
                await asyncio.sleep(0)
        await saying
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.hang_up()
        heard = phone.media.received_payload()
    await node.ended()
    counters = node.of(model.CallEnded)[0].counters
    assert counters["rtp_foreign"] == 400
    assert counters["rtp_lost"] == 0
    assert caller in node.standin.sessions[-1].record.caller_audio
    assert pattern(Law.ULAW, 2, 0, SPEECH_MS * 8) in heard


async def test_barge_in_plays_not_one_frame_after_speech_started(rig: MakeRig) -> None:
    """The model has sent 30 s in advance; what the phone hears of it is what we say we played."""
    node = await rig(deterministic(answer_ms=30_000, burst=Burst.even(200)))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.say(pattern(Law.ULAW, 77, 0, 8000))
        await phone.wait_quiet(60)
        await phone.hang_up()
        heard = phone.media.received_payload()
    await node.ended()
    barge_in = node.of(model.BargeIn)[0]
    played = barge_in.played_ms * 8
    greeting = pattern(Law.ULAW, 1, 0, 30_000 * 8)
    assert 0 < barge_in.played_ms < 3000
    assert greeting[:played] in heard
    assert greeting[: played + 160] not in heard
    assert barge_in.dropped_ms > 20_000
    truncated = node.standin.sessions[-1].record.received_events("conversation.item.truncate")
    assert [event["audio_end_ms"] for event in truncated] == [barge_in.played_ms]


async def test_every_caller_frame_reaches_the_model_while_the_agent_speaks(rig: MakeRig) -> None:
    node = await rig(deterministic(answer_ms=5_000, gate_dbov=0.0))  # a gate nobody passes: no barge-in
    caller = pattern(Law.ULAW, 5, 0, 2000 * 8)
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.say(caller)
        await phone.hang_up()
    await node.ended()
    assert node.of(model.BargeIn) == []
    assert caller in node.standin.sessions[-1].record.caller_audio


@pytest.mark.parametrize("fault", ["slow-ack=2", "slow-handshake=2"])
async def test_first_words_are_not_lost_while_the_session_opens(rig: MakeRig, fault: str) -> None:
    node = await rig(deterministic(faults=parse_faults([fault])), call={"answer_within_s": 0})
    caller = pattern(Law.ULAW, 9, 0, 500 * 8)
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.say(caller)
        await until(
            lambda: bool(node.standin.sessions) and caller in node.standin.sessions[-1].record.caller_audio,
            "the model to hear it",
        )
        await phone.hang_up()
    await node.ended()


async def test_pcm_instead_of_g711_is_heard_all_the_same(rig: MakeRig) -> None:
    node = await rig(deterministic(faults=parse_faults(["wrong-format"])))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.hang_up()
        voiced_ms = 20 * len(phone.media.voiced_in)
    await node.ended()
    assert "pcm_instead_of_g711" in [trouble.what for trouble in node.of(model.RealtimeTrouble)]
    assert abs(voiced_ms - SPEECH_MS) <= 60  # not three times as long, nor a third
