"""The phone against a real Asterisk: bit-exact both ways, each ending told, figures that make sense."""

from __future__ import annotations

import asyncio
import contextlib
import random
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sipagent.asterisk.run import Asterisk
from sipagent.audio import FRAME_BYTES, PTIME_MS, SILENCE_FRAME, Law
from sipagent.errors import ConfigError, ToolError
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.phone.sipp import SipEvent
from tests.asterisk.fixtures import no_channels_left

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ECHO = "600"
TIMEOUT_S = 5


def noise(seed: int, frames: int) -> bytes:
    """Every byte value: any recoding on the way would change it."""
    return random.Random(seed).randbytes(FRAME_BYTES * frames)


def process_list() -> list[bytes]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            lines.append(entry.read_bytes())
    return lines


async def heard_until(phone: Phone, payload: bytes) -> bool:
    """Whether `payload` comes back before the time is up."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while payload not in phone.media.received_payload():
                await phone.media.changed()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("law", Law)
async def test_bit_exact_both_ways(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig, law: Law, tmp_path: Path
) -> None:
    said = noise(1, 50)
    async with Phone(replace(phone_config, law=law), sipp) as phone:
        await phone.dial(ECHO)
        assert await phone.wait_answered(TIMEOUT_S)
        utterance = await phone.say(said)
        assert utterance is not None
        assert await heard_until(phone, said)
        await phone.hang_up()
        await phone.hang_up()
        phone.save_wav(tmp_path / "call.wav")
    summary = phone.summary()
    assert (summary.outcome, summary.status, summary.ended_by, summary.law) == ("answered", 200, "caller", law.value)
    assert phone.end is not None
    assert phone.end.event is SipEvent.HUNG_UP
    assert summary.packets_lost == 0
    assert 0 < (summary.setup_ms or 0) < 1000 * TIMEOUT_S
    assert b"".join(payload for _, payload in phone.media.sent).count(said) == 1
    with wave.open(str(tmp_path / "call.wav")) as wav:
        assert (wav.getnchannels(), wav.getframerate()) == (2, 8000)
        assert wav.getnframes() >= 50 * FRAME_BYTES


async def test_the_clock_does_not_drift(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    """Absolute deadlines: frame n leaves n times 20 ms after the first, and never before its time."""
    async with Phone(phone_config, sipp) as phone:
        await phone.dial(ECHO)
        assert await phone.wait_answered(TIMEOUT_S)
        await phone.say(SILENCE_FRAME[Law.ULAW] * 50)
        times = [at for at, _ in phone.media.sent]
    late = [at - times[0] - index * PTIME_MS / 1000 for index, at in enumerate(times)]
    assert min(late) > -0.005
    assert sorted(late)[len(late) // 2] < 0.01


async def test_a_wrong_password_is_reported(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    async with Phone(replace(phone_config, password="wrong"), sipp) as phone:
        await phone.dial(ECHO)
        assert not await phone.wait_answered(TIMEOUT_S)
    summary = phone.summary()
    assert (summary.outcome, summary.status, summary.ended_by) == ("refused", 401, "far end")
    assert summary.setup_ms is None


async def test_an_unknown_user_is_challenged_like_any_other(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    async with Phone(replace(phone_config, user="stranger"), sipp) as phone:
        await phone.dial(ECHO)
        assert not await phone.wait_answered(TIMEOUT_S)
    assert phone.summary().status == 401


async def test_a_number_that_nobody_has(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    async with Phone(phone_config, sipp) as phone:
        await phone.dial("h")
        assert not await phone.wait_answered(TIMEOUT_S)
    assert (phone.summary().outcome, phone.summary().status) == ("refused", 404)


async def test_cancel_while_it_is_not_answered(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    """The apology without a worker is early media: a call that can be cancelled."""
    async with Phone(phone_config, sipp) as phone:
        await phone.dial("100")
        await phone.hear_agent_start(TIMEOUT_S)
        await phone.hang_up()
    assert phone.end is not None
    assert phone.end.event is SipEvent.CANCELLED
    assert (phone.summary().outcome, phone.summary().ended_by) == ("cancelled", "caller")


async def test_leaving_the_block_hangs_up(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    phone = Phone(phone_config, sipp)

    async def fail() -> None:
        async with phone:
            await phone.dial(ECHO)
            assert await phone.wait_answered(TIMEOUT_S)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await fail()
    assert phone.end is not None
    assert phone.end.event is SipEvent.HUNG_UP


async def test_twenty_at_once(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    async def call(seed: int) -> bool:
        said = noise(seed, 25)
        async with Phone(phone_config, sipp) as phone:
            await phone.dial(ECHO)
            assert await phone.wait_answered(15)
            await phone.say(said)
            return await heard_until(phone, said)

    assert all(await asyncio.gather(*(call(seed) for seed in range(20))))


async def test_the_password_is_in_no_process_list(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    async with Phone(phone_config, sipp) as phone:
        await phone.dial(ECHO)
        assert await phone.wait_answered(TIMEOUT_S)
        lines = await asyncio.to_thread(process_list)
    assert any(b"sipp" in line for line in lines)
    assert not any(phone_config.password.encode() in line for line in lines)


async def test_an_address_of_its_own_is_dialled(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    async with Phone(replace(phone_config, server="192.0.2.1"), sipp) as phone:
        await phone.dial(f"sip:{ECHO}@127.0.0.1:{asterisk.config.sip_port}")
        assert await phone.wait_answered(TIMEOUT_S)


async def test_digits_are_heard_as_digits(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    """Echo() sends digits back; each is a start and an end (RFC 4733)."""
    async with Phone(phone_config, sipp) as phone:
        await phone.dial(ECHO)
        assert await phone.wait_answered(TIMEOUT_S)
        await phone.press("15#")
        await phone.say(SILENCE_FRAME[Law.ULAW] * 25)
        events = [one.packet.payload[0] for one in phone.media.heard if one.packet.payload_type == 101]
    assert list(dict.fromkeys(events)) == [1, 5, 11]


async def test_one_phone_one_call(asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    async with Phone(phone_config, sipp) as phone:
        await phone.dial(ECHO)
        with pytest.raises(ToolError, match="one call"):
            await phone.dial(ECHO)


async def test_nothing_listens_there(sipp: Sequence[str], phone_config: PhoneConfig) -> None:
    """SIPp gives up when its retransmissions are refused; the phone does not wait for them."""
    async with Phone(replace(phone_config, server="127.0.0.1:9"), sipp) as phone:
        await phone.dial(ECHO)
        with pytest.raises(ToolError, match="not answered within"):
            await phone.wait_answered(0.3)
    assert phone.summary().outcome == "lost"


async def test_a_sipp_that_does_not_run(phone_config: PhoneConfig) -> None:
    async with Phone(phone_config, ["false"]) as phone:
        with pytest.raises(ToolError, match="SIPp ended at its start"):
            await phone.dial(ECHO)


@pytest.mark.parametrize("change", [{"user": "a b"}, {"password": "a]b"}, {"password": "a\nb"}])
async def test_a_login_that_would_break_the_scenario(phone_config: PhoneConfig, change: dict[str, str]) -> None:
    async with Phone(replace(phone_config, **change), ["false"]) as phone:
        with pytest.raises(ConfigError, match="printable ASCII"):
            await phone.dial(ECHO)


async def test_nothing_is_left_behind(asterisk: Asterisk) -> None:
    assert await no_channels_left(asterisk)
