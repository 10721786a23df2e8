"""An agent hands a caller over: to a phone, with and without asking first, to a queue, by REFER; and what if not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.audio import SAMPLE_RATE_HZ, Law, encode, resample
from sipagent.outcome import Reason
from sipagent.phone.phone import Phone
from sipagent.speech import Flite
from sipagent.standin.config import StandinConfig
from sipagent.tones import looped
from tests.e2e.conftest import Rig
from tests.e2e.desk import ANSWERS, BUSY, DECLINES, LEAVES, RINGS, desk, says
from tests.e2e.referred import caller, holds, obeys, refers
from tests.e2e.test_flow import company, hears, steps
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]

SCRIPT = """
greeting = "Hello."
fallback = "Pardon?"
nudge = "Please go on."
check_in = "Are you there?"
"""
INTENT = """
[[intent]]
name = "{name}"
phrases = ["{phrase}"]
reply = "One moment."
[intent.tool]
name = "{tool}"
arguments = {{ {arguments} }}
done = "It is done."
failed = "Nobody there."
missing = "I cannot do that."
"""


def script(folder: Path, target: str) -> StandinConfig:
    """A stand-in that transfers to `target` on request, and that a colleague may tell yes or no."""
    file = folder / "script.toml"
    summary = f'target = "{target}", summary = "A bicycle has a flat tyre."'
    file.write_text(
        SCRIPT
        + INTENT.format(name="sales", phrase="connect me to sales", tool="transfer_call", arguments=summary)
        + INTENT.format(name="yes", phrase="yes i am free to talk", tool="accept_call", arguments="")
        + INTENT.format(name="no", phrase="what is your address", tool="decline_call", arguments="")
        + INTENT.format(name="bye", phrase="where is my order", tool="hang_up", arguments="")
    )
    return StandinConfig(script=file)


def places(**changes: Any) -> dict[str, Any]:
    """A company whose agent may transfer to `desk` (how: by `changes`) and to the queue."""
    return {
        "routes": [{"to": "100", "go": "agent:reception"}],
        "agent": {"transfers": ["desk", "line"], "greeting": "Hello."},
        "transfers": {
            "desk": {"description": "Sales.", "to": "dial:desk", **changes},
            "line": {"description": "Everybody else.", "to": "announcement:bye"},
        },
    }


async def say(phone: Phone, root: Root, text: str) -> None:
    pcm, rate_hz = await Flite(root.command("flite"), "kal16").synthesize(text)
    await phone.wait_quiet(500)
    await phone.say_pcm(pcm, rate_hz)


def result(node: Rig) -> str:
    ended = node.of(model.TransferEnded)
    return ended[-1].result if ended else ""


async def asks_for_sales(phone: Phone, root: Root) -> None:
    await phone.dial("100")
    await phone.hear_agent_start()
    await say(phone, root, "connect me to sales")


async def echo_comes(phone: Phone) -> None:
    said = bytes(range(1, 161)) * 10
    await phone.say(said)
    await until(lambda: said[160:480] in phone.media.received_payload(), "the desk's echo")


async def test_a_phone_rings_answers_and_is_joined(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places())
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: result(node) == "answered", "the transfer")
            await until(lambda: not node.standin.live, "the model to be gone")
            await echo_comes(phone)
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_the_other_side_hangs_up_after_the_transfer(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), LEAVES, tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places())
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await phone.wait_ended(15)
        outcome = await node.ended()
        assert (outcome.reason, outcome.detail) == (Reason.COMPLETED, "transferred to desk")
        await node.nothing_left()


@pytest.mark.parametrize(
    ("scenario", "why"), [(BUSY, "busy"), (DECLINES, "declined"), (RINGS, "no answer")], ids=["busy", "603", "rings"]
)
async def test_nobody_takes_it_and_the_agent_goes_on(
    company: Company, root: Root, tmp_path: Path, scenario: str, why: str
) -> None:
    async with desk(root.command("sipp"), scenario, tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places())
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: result(node) == why, f"the transfer to fail: {why}")
            mark = len(phone.media.voiced_in)
            await until(lambda: len(phone.media.voiced_in) > mark + 20, "the agent to say so")
            assert not phone.ended
            assert node.standin.live
            if scenario is RINGS:
                ring = looped("ringback", Law.ULAW)
                assert ring[:8000] in phone.media.received_payload()
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_the_caller_leaves_while_it_rings(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places())
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: bool(node.of(model.TransferStarted)), "the ringing")
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_into_the_flow(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(standin=script(tmp_path, "line"), **places())
    async with node.phone() as phone:
        await asks_for_sales(phone, root)
        await hears(phone, node, "Good bye.")
        await phone.wait_ended(5)
    assert steps(node) == ["agent:reception", "announcement:bye", "hangup"]
    assert result(node) == "handed over"
    await node.nothing_left()


async def test_the_agent_hangs_up(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(standin=script(tmp_path, "line"), **places())
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, "where is my order")
        await phone.wait_ended(10)
    outcome = await node.ended()
    assert (outcome.reason, outcome.detail) == (Reason.COMPLETED, "the agent hung up")
    await node.nothing_left()


async def voice(root: Root, folder: Path, text: str) -> tuple[Path, bytes]:
    """A colleague's words as µ-law: first they listen, then they speak."""
    pcm, rate_hz = await Flite(root.command("flite"), "kal16").synthesize(text)
    words = encode(resample(pcm, rate_hz, SAMPLE_RATE_HZ), Law.ULAW)
    words = words[: len(words) // 160 * 160]
    file = folder / "colleague.ulaw"
    file.write_bytes(b"\xff" * 160 * 200 + words + b"\xff" * 160 * 150)
    return file, words


async def test_a_colleague_takes_the_call(company: Company, root: Root, tmp_path: Path) -> None:
    file, words = await voice(root, tmp_path, "yes i am free to talk")
    async with desk(root.command("sipp"), says(file), tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places(how="warm"))
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            hold = looped("hold", Law.ULAW)
            await until(lambda: hold[:8000] in phone.media.received_payload(), "music while they speak")
            assert words[:1600] not in phone.media.received_payload()  # the caller does not hear them yet
            await until(lambda: result(node) == "answered", "the colleague to take it")
            await until(lambda: not node.standin.live, "both models to be gone")
            await until(lambda: words[1600:3200] in phone.media.received_payload(), "the colleague")
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_a_colleague_declines(company: Company, root: Root, tmp_path: Path) -> None:
    file, words = await voice(root, tmp_path, "what is your address")
    async with desk(root.command("sipp"), says(file), tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places(how="warm"))
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: result(node) == "declined", "the colleague to decline")
            await phone.wait_quiet(500)
            assert words[:1600] not in phone.media.received_payload()
            assert len(node.standin.live) == 1
        await node.ended()
        await node.nothing_left()


async def test_the_policy_says_no(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(standin=script(tmp_path, "desk"), **places(), dial_policy={"deny": ["401"]})
    async with node.phone() as phone:
        await asks_for_sales(phone, root)
        await until(lambda: result(node).startswith("refused by the dial policy"), "the refusal")
        assert not phone.ended
    await node.nothing_left()


TRUNK = {"pbx": {"preset": "generic-ip", "hosts": ["192.0.2.9"], "qualify": 0, "refer": "pbx"}}


async def wants_sales(root: Root, folder: Path) -> Path:
    """A caller's words, with time for the agent to speak before and after."""
    pcm, rate_hz = await Flite(root.command("flite"), "kal16").synthesize("connect me to sales")
    words = encode(resample(pcm, rate_hz, SAMPLE_RATE_HZ), Law.ULAW)
    file = folder / "caller.ulaw"
    file.write_bytes(b"\xff" * 160 * 100 + words[: len(words) // 160 * 160] + b"\xff" * 160 * 2000)
    return file


async def test_the_callers_side_is_asked_to_call_there(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(standin=script(tmp_path, "desk"), **places(how="refer"), trunks=TRUNK)
    words = await wants_sales(root, tmp_path)
    sipp, config = root.command("sipp"), node.asterisk.config
    async with caller(sipp, config, words, obeys(config.phone_user, "202 Accepted"), tmp_path) as log:
        await until(lambda: result(node) == "answered", "the REFER to be accepted")
        outcome = await node.ended()
        assert (outcome.reason, outcome.detail) == (Reason.COMPLETED, "transferred to desk by REFER")
        await until(lambda: "sip:401@192.0.2.9" in log.read_text(), "the log of what was asked")
    await node.nothing_left()


async def test_a_refused_refer_becomes_a_second_leg(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        trunks = {"pbx": TRUNK["pbx"] | {"hosts": [f"127.0.0.1:{port}"]}}
        node = await company(standin=script(tmp_path, "desk"), **places(how="refer"), trunks=trunks)
        words = await wants_sales(root, tmp_path)
        sipp, config = root.command("sipp"), node.asterisk.config
        async with caller(sipp, config, words, obeys(config.phone_user, "603 Decline"), tmp_path):
            await until(lambda: result(node) == "answered", "the second leg")
            await until(lambda: not node.standin.live, "the model to be gone")
            assert node.of(model.CallEnded) == []
        await node.asterisk.cli("channel request hangup all")  # the caller's process has been killed
        await node.ended()
        await node.nothing_left()


async def test_a_full_trunk_is_not_tried(company: Company, root: Root, tmp_path: Path) -> None:
    """One call out fills it: the next one, of a route or of an agent, is told at once."""
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        trunks = {"pbx": {"preset": "generic-ip", "hosts": [f"127.0.0.1:{port}"], "qualify": 0, "channels": 1}}
        routes = [*places()["routes"], {"to": "400", "go": "dial:desk"}]
        node = await company(standin=script(tmp_path, "desk"), **places() | {"trunks": trunks, "routes": routes})
        async with node.phone() as first, node.phone() as second, node.phone() as third:
            await first.dial("400")
            assert await first.wait_answered()
            await second.dial("400")
            await hears(second, node, "Good bye.")
            await asks_for_sales(third, root)
            await until(lambda: result(node) == "all lines are busy", "the refusal")
            assert not third.ended
        await node.nothing_left()


async def test_a_third_one_joins_and_the_agent_stays(company: Company, root: Root, tmp_path: Path) -> None:
    file, _ = await voice(root, tmp_path, "yes i am free to talk")
    async with desk(root.command("sipp"), says(file), tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places(how="conference"))
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: result(node) == "answered", "the third one")
            # A mixed bridge changes the samples: loud is enough.
            mark = len(phone.media.voiced_in)
            await until(lambda: len(phone.media.voiced_in) > mark + 20, "the third one to be heard")
            assert len(node.standin.live) == 1
            await node.ari.request("DELETE", f"channels/{node.of(model.LegDialled)[0].leg}")
            await until(lambda: bool(node.of(model.LegEnded)), "the third one to leave")
            (session,) = node.standin.live
            told = session.record.received_events("conversation.item.create")
            assert "desk has left the call" in str(told[-1]["item"])
            assert node.of(model.CallEnded) == []
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_the_conversation_travels_with_the_call(company: Company, root: Root, tmp_path: Path) -> None:
    """As a header of the second leg's INVITE, and as variables of both channels."""
    log = tmp_path / "invite.log"
    look = '<ereg regexp=".*" search_in="hdr" header="X-Summary:" assign_to="sum"/><log message="[$sum]"/>'
    seen = ANSWERS.replace("</action></recv>", look + "</action></recv>", 1)
    async with desk(root.command("sipp"), seen, tmp_path, "sum", log) as port:
        trunks = {"pbx": {"preset": "generic-ip", "hosts": [f"127.0.0.1:{port}"], "qualify": 0,
                          "summary_header": "X-Summary"}}  # fmt: skip
        node = await company(standin=script(tmp_path, "desk"), **places(), trunks=trunks)
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: result(node) == "answered", "the transfer")
            assert "A bicycle has a flat tyre." in log.read_text()
            channels = {channel.id: channel for channel in await node.ari.channels()}
            for channel_id in (node.of(model.CallStarted)[0].call_id, node.of(model.LegDialled)[0].leg):
                assert channel_id in channels
                value = await node.ari.request(
                    "GET", f"channels/{channel_id}/variable", {"variable": "SIPAGENT_TRANSCRIPT"}
                )
                assert "Caller: connect me to sales" in value["value"]
        await node.ended()
        await node.nothing_left()


@pytest.mark.parametrize("caller_id", [{}, {"allow": ["+442079460123"]}], ids=["the caller", "a number of ours"])
async def test_who_is_shown_to_the_desk(
    company: Company, root: Root, tmp_path: Path, caller_id: dict[str, list[str]]
) -> None:
    log = tmp_path / "invite.log"
    seen = ANSWERS.replace("</action></recv>", '<log message="[$them]"/></action></recv>', 1)
    async with desk(root.command("sipp"), seen, tmp_path, log=log) as port:
        trunks = {"pbx": {"preset": "generic-ip", "hosts": [f"127.0.0.1:{port}"], "qualify": 0,
                          "caller_id": caller_id}}  # fmt: skip
        node = await company(standin=script(tmp_path, "desk"), **places(), trunks=trunks)
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: result(node) == "answered", "the transfer")
        shown = "442079460123" if caller_id else node.asterisk.config.phone_user
        assert f"sip:{shown}@" in log.read_text().replace("+", "")
        await node.ended()
        await node.nothing_left()


async def test_a_caller_who_holds_is_waited_for(company: Company, root: Root, tmp_path: Path) -> None:
    """The model hears no music, no patience runs out, and what was being said goes on where it stopped."""
    changes = places() | {"agent": {"greeting": "Hello.", "no_input_s": 2.0}, "transfers": {}}
    node = await company(**changes)
    config = node.asterisk.config
    quiet = tmp_path / "quiet.ulaw"
    quiet.write_bytes(b"\xff" * 160 * 500)
    async with caller(root.command("sipp"), config, quiet, holds(config.phone_user), tmp_path):
        await until(lambda: bool(node.of(model.CallHeld)), "the hold")
        (session,) = node.standin.live
        heard = session.record.received_types["input_audio_buffer.append"]
        asked = len(node.of(model.NoInputStep))
        await until(lambda: bool(node.of(model.CallRetrieved)), "the caller to be back")
        assert session.record.received_types["input_audio_buffer.append"] <= heard + 5
        assert len(node.of(model.NoInputStep)) == asked
        await until(lambda: session.record.received_types["input_audio_buffer.append"] > heard + 20, "their voice")
    await node.asterisk.cli("channel request hangup all")
    await node.ended()
    await node.nothing_left()


async def test_a_caller_asks_us_to_go_on_with_somebody_else(company: Company, root: Root, tmp_path: Path) -> None:
    file, words = await voice(root, tmp_path, "yes i am free to talk")
    async with desk(root.command("sipp"), says(file), tmp_path) as port:
        node = await company(port, script(tmp_path, "desk"), **places(), outbound={"trunks": ["pbx"]},
                             dial_policy={"allow": ["401"]})  # fmt: skip
        config = node.asterisk.config
        quiet = tmp_path / "quiet.ulaw"
        quiet.write_bytes(b"\xff" * 160 * 500)
        async with caller(root.command("sipp"), config, quiet, refers(config.phone_user, "401"), tmp_path) as log:
            await until(lambda: result(node) == "answered", "the other one to take their place")
            await until(lambda: log.exists() and "SIP/2.0 200" in log.read_text(), "the caller to be told")
            (session,) = node.standin.live
            await until(lambda: words[:1600] in session.record.caller_audio, "the model to hear them")
        assert node.of(model.CallEnded) == []
        await node.asterisk.cli("channel request hangup all")
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_a_caller_may_not_send_us_anywhere(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(standin=script(tmp_path, "desk"), **places(), outbound={"trunks": ["pbx"]},
                         dial_policy={"allow": ["402"]})  # fmt: skip
    config = node.asterisk.config
    quiet = tmp_path / "quiet.ulaw"
    quiet.write_bytes(b"\xff" * 160 * 500)
    async with caller(root.command("sipp"), config, quiet, refers(config.phone_user, "401"), tmp_path) as log:
        await until(lambda: log.exists() and "SIP/2.0 6" in log.read_text(), "the refusal")
        assert node.of(model.LegDialled) == []
        assert len(node.of(model.DialRefused)) == 1
        assert len(node.standin.live) == 1
    await node.asterisk.cli("channel request hangup all")
    await node.ended()
    await node.nothing_left()
