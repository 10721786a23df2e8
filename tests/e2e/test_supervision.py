"""Somebody of the operator's in a live call: who hears whom, checked by what each phone and the model got."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.audio import FRAME_BYTES, SAMPLE_RATE_HZ, Law, decode, encode
from sipagent.orders import Answer, Dismiss, Supervise, Tell
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import Faults, parse_faults
from tests.e2e.callee import callee
from tests.e2e.conftest import SHORT_PROMPTS, Rig
from tests.e2e.desk import BUSY, desk
from tests.e2e.test_flow import company
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]
CALLER_HZ, SUPERVISOR_HZ = 700, 1300


def tone(hz: int, seconds: int = 60) -> bytes:
    time_s = np.arange(seconds * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return encode((6000 * np.sin(2 * np.pi * hz * time_s)).astype("<i2").tobytes(), Law.ULAW)


def hears(payload: bytes, hz: int) -> bool:
    """Is the tone in the last half second of what was heard? By its line in the spectrum against all the rest."""
    samples = np.frombuffer(decode(payload[-25 * FRAME_BYTES :], Law.ULAW), "<i2").astype(float)
    if len(samples) < 25 * FRAME_BYTES:
        return False
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    line = round(hz * len(samples) / SAMPLE_RATE_HZ)
    return bool(spectrum[line - 3 : line + 4].sum() > 0.05 * spectrum.sum() and spectrum.sum() > 1e9)


def who(port: int) -> dict[str, Any]:
    return {
        "routes": [{"to": "100", "go": "agent:reception"}, {"to": "101", "go": "menu:main"}],
        "agent": {"greeting": "Hello.", "barge_in": {"enabled": False}},
        "supervisors": {"anna": {"to": "dial:401@pbx"}},
    }


async def told(node: Rig, order: Any) -> str:
    """What becomes of an order."""
    node.worker.obey(order)
    await until(lambda: any(answer.order == order.id for answer in node.of(Answer)), "the answer")
    return next(answer.error for answer in node.of(Answer) if answer.order == order.id)


def of(node: Rig, kind: Any, **facts: Any) -> Any:
    return kind(call_id=node.of(model.CallStarted)[0].call_id, **facts)


async def test_listen_speak_and_take_over(company: Company, root: Root, tmp_path: Path) -> None:
    async with callee(root.command("sipp"), tmp_path, tone(SUPERVISOR_HZ)) as anna:
        node = await company(anna.port, StandinConfig(mode=Mode.DETERMINISTIC), **who(anna.port))
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            phone.media.say(tone(CALLER_HZ))
            (session,) = node.standin.live

            def supervisor_is_heard() -> tuple[bool, bool]:
                caller = hears(phone.media.received_payload(), SUPERVISOR_HZ)
                return caller, hears(session.record.caller_audio, SUPERVISOR_HZ)

            assert await told(node, of(node, Supervise, supervisor="anna", how="monitor")) == ""
            await until(lambda: hears(anna.media.received_payload(), CALLER_HZ), "anna to hear the caller")
            assert supervisor_is_heard() == (False, False)

            assert await told(node, of(node, Supervise, supervisor="anna", how="barge")) == ""
            await until(lambda: supervisor_is_heard() == (True, True), "both to hear anna")
            await until(lambda: hears(anna.media.received_payload(), CALLER_HZ), "anna to hear the caller still")
            assert node.standin.live

            assert await told(node, of(node, Supervise, supervisor="anna", how="takeover")) == ""
            await until(lambda: not node.standin.live, "the agent to leave")
            await until(lambda: hears(phone.media.received_payload(), SUPERVISOR_HZ), "the caller to hear anna")
            assert node.of(model.CallEnded) == []
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
    seen = [(event.what, event.who, event.result) for event in node.of(model.Supervised)]
    assert seen == [("monitor", "anna", "ok"), ("barge", "anna", "ok"), ("takeover", "anna", "ok")]
    assert len(node.of(model.LegDialled)) == 1
    await node.nothing_left()


@pytest.mark.parametrize("when", ["before", "lost"])
async def test_who_waits_for_a_session_may_be_taken_over(
    company: Company, root: Root, tmp_path: Path, when: str
) -> None:
    """Whether there is none yet, or none any more: nobody waits for a session that nobody needs."""
    never = parse_faults(["slow-handshake=60"])
    standin = StandinConfig(mode=Mode.DETERMINISTIC, faults=never if when == "before" else Faults())
    realtime = {"connect_timeout_s": 60}
    async with callee(root.command("sipp"), tmp_path, tone(SUPERVISOR_HZ)) as anna:
        call = SHORT_PROMPTS | {"answer_within_s": 0.5}
        node = await company(anna.port, standin, realtime=realtime, call=call, **who(anna.port))
        async with node.phone() as phone:
            await phone.dial("100")
            if when == "lost":
                await phone.hear_agent_start()
                node.standin.faults = never
                node.standin.misbehave(parse_faults(["drop@0"]))
                await until(lambda: bool(node.of(model.SessionLost)), "the loss")
            else:
                assert await phone.wait_answered()
            assert await told(node, of(node, Supervise, supervisor="anna", how="takeover")) == ""
            await until(lambda: hears(phone.media.received_payload(), SUPERVISOR_HZ), "the caller to hear anna")
            assert node.of(model.SessionRecovered) == []
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_a_supervisor_leaves_and_the_call_goes_on(company: Company, root: Root, tmp_path: Path) -> None:
    async with callee(root.command("sipp"), tmp_path, tone(SUPERVISOR_HZ)) as anna:
        node = await company(anna.port, StandinConfig(mode=Mode.DETERMINISTIC), **who(anna.port))
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            assert await told(node, of(node, Supervise, supervisor="anna", how="barge")) == ""
            assert await told(node, of(node, Dismiss)) == ""
            await until(lambda: len(node.of(model.LegEnded)) == 1, "anna to be gone")
            assert node.standin.live
            assert not phone.ended
        await node.ended()
        await node.nothing_left()


async def test_the_call_ends_under_a_supervisor(company: Company, root: Root, tmp_path: Path) -> None:
    async with callee(root.command("sipp"), tmp_path, tone(SUPERVISOR_HZ)) as anna:
        node = await company(anna.port, StandinConfig(mode=Mode.DETERMINISTIC), **who(anna.port))
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            assert await told(node, of(node, Supervise, supervisor="anna", how="monitor")) == ""
        await node.ended()
        await node.nothing_left()
        assert len(node.of(model.LegEnded)) == 1


async def test_who_supervises_after_another_was_dismissed_is_released_with_the_call(
    company: Company, root: Root, tmp_path: Path
) -> None:
    async with callee(root.command("sipp"), tmp_path, tone(SUPERVISOR_HZ)) as anna:
        node = await company(anna.port, StandinConfig(mode=Mode.DETERMINISTIC), **who(anna.port))
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            assert await told(node, of(node, Supervise, supervisor="anna", how="monitor")) == ""
            assert await told(node, of(node, Dismiss)) == ""
            await until(lambda: len(node.of(model.LegEnded)) == 1, "anna to be gone")
            assert await told(node, of(node, Supervise, supervisor="anna", how="monitor")) == ""
        await node.ended()
        await node.nothing_left()
        assert len(node.of(model.LegEnded)) == 2


async def test_a_whisper_reaches_the_agent_alone(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(standin=StandinConfig(mode=Mode.DETERMINISTIC), **who(9))
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        (session,) = node.standin.live
        before = session.record.received_types["response.create"]
        assert await told(node, of(node, Tell, text="Offer ten percent.", answer=True)) == ""
        await until(lambda: session.record.received_types["response.create"] > before, "the agent to be asked")
        item = session.record.received_events("conversation.item.create")[-1]["item"]
        assert (item["role"], item["content"][0]["text"]) == ("system", "Offer ten percent.")
    await node.ended()
    assert await told(node, of(node, Tell, text="Too late.")) == "no such call"
    await node.nothing_left()


async def test_what_cannot_be_done_is_said(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), BUSY, tmp_path) as port:
        node = await company(port, StandinConfig(mode=Mode.DETERMINISTIC), **who(port))
        async with node.phone() as phone:
            await phone.dial("101")
            assert await phone.wait_answered()
            await until(lambda: bool(node.of(model.CallAnswered)), "the menu")
            assert await told(node, of(node, Supervise, supervisor="anna", how="monitor")) == "anna: busy"
            assert "no supervisor 'bert'; there is anna" in await told(
                node, of(node, Supervise, supervisor="bert", how="monitor")
            )
            assert "no agent" in await told(node, of(node, Tell, text="Hello?"))
            assert not phone.ended
        await node.ended()
        await node.nothing_left()


async def test_takeover_of_a_menu_is_refused_and_barging_in_is_not(
    company: Company, root: Root, tmp_path: Path
) -> None:
    async with callee(root.command("sipp"), tmp_path, tone(SUPERVISOR_HZ)) as anna:
        node = await company(anna.port, StandinConfig(mode=Mode.DETERMINISTIC), **who(anna.port))
        async with node.phone() as phone:
            await phone.dial("101")
            assert await phone.wait_answered()
            assert "barge in" in await told(node, of(node, Supervise, supervisor="anna", how="takeover"))
            assert await told(node, of(node, Supervise, supervisor="anna", how="barge")) == ""
            await until(lambda: hears(phone.media.received_payload(), SUPERVISOR_HZ), "the caller to hear anna")
        await node.ended()
        await node.nothing_left()


async def test_the_ear_of_these_tests_can_tell() -> None:
    assert hears(tone(CALLER_HZ, 1), CALLER_HZ)
    assert not hears(tone(CALLER_HZ, 1), SUPERVISOR_HZ)
    assert not hears(b"\xff" * 8000, CALLER_HZ)
