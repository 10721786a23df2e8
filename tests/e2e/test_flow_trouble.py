"""Menus, queues, mailboxes and other phones when somebody leaves, breaks or dies in the middle of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from sipagent import model
from sipagent.ari.objects import ChannelHandle
from sipagent.asterisk.root import Root
from sipagent.audio import Law
from sipagent.flow.machine import Flow
from sipagent.flow.steps.announcement import AnnouncementStep
from sipagent.orders import HangUp
from sipagent.outcome import Fault, Reason
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.standin.pattern import pattern
from tests.asterisk.fixtures import free_port, rtp_ports
from tests.e2e.conftest import Rig
from tests.e2e.desk import ANSWERS, RINGS, desk
from tests.e2e.test_flow import MENUS, company, hears, steps
from tests.e2e.test_processes import environment, get, nobody_is_listed, output_of, ready, sipagent
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]
PATIENT = {"front": {"members": ["401@pbx"], "announce_position": False, "keys": {"1": "announcement:bye"}}}


async def _in_the_menu(node: Rig, phone: Phone) -> None:
    await phone.dial("100")
    await phone.hear_agent_start()


async def _in_the_queue(node: Rig, phone: Phone) -> None:
    await phone.dial("200")
    await until(lambda: "queue:front" in steps(node), "the queue")
    await _in_the_dialplan(node)


async def _at_the_other_phone(node: Rig, phone: Phone) -> None:
    await phone.dial("400")
    assert await phone.wait_answered()


async def _in_the_mailbox(node: Rig, phone: Phone) -> None:
    await _in_the_menu(node, phone)
    await phone.press("3")
    await hears(phone, node, "Leave a message.")
    await _in_the_dialplan(node)


async def _in_the_dialplan(node: Rig) -> None:
    async def away() -> bool:
        return any(c.dialplan.app_name in {"Queue", "VoiceMail"} for c in await node.ari.channels())

    await until(away, "the caller to be elsewhere")


@pytest.mark.parametrize("moment", [_in_the_menu, _in_the_queue, _at_the_other_phone, _in_the_mailbox])
async def test_the_operator_ends_a_call_wherever_the_caller_is(
    company: Company, root: Root, tmp_path: Path, moment: Callable[[Rig, Phone], Awaitable[None]]
) -> None:
    scenario = RINGS if moment is _in_the_queue else ANSWERS
    async with desk(root.command("sipp"), scenario, tmp_path) as port:
        node = await company(port, queues=PATIENT)
        async with node.phone() as phone:
            await moment(node, phone)
            node.worker.obey(HangUp(call_id=node.of(model.CallStarted)[0].call_id))
            assert (await phone.wait_ended(5)).cause == 16
        assert (await node.ended()).reason is Reason.OPERATOR_HANGUP
        await node.nothing_left()


async def test_a_wrong_key_costs_nobody_their_place(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port, queues=PATIENT)
        async with node.phone() as phone:
            await _in_the_queue(node, phone)
            await phone.press("5#2")
            await _in_the_dialplan(node)
            assert steps(node) == ["queue:front"]
            await phone.press("1")
            await hears(phone, node, "Good bye.")
        await node.ended()
        await node.nothing_left()


async def test_a_queue_without_anybody_goes_on_at_once(company: Company) -> None:
    """Back within milliseconds, when the channels of before are hardly gone."""
    trunks = {
        "pbx": {"preset": "generic-ip", "hosts": ["127.0.0.1:9"], "qualify": 0},
        "anna": {"preset": "phone", "auth": {"password": "never-registered"}},
    }
    node = await company(trunks=trunks, queues={"front": {"members": ["anna"], "then": "voicemail:office"}})
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.press("0")
        await hears(phone, node, "Leave a message.")
    await node.ended()
    assert steps(node) == ["menu:main", "queue:front", "voicemail:office"]
    await node.nothing_left()


async def test_a_header_decides(company: Company) -> None:
    """Names of headers are written as one likes (RFC 3261, 7.3.1); one that is not there fits nothing."""
    routes = [
        {"to": "500", "headers": {"X-Dept": "."}, "go": "reject:busy"},
        {"to": "500", "headers": {"User-Agent": "^somebody else$"}, "go": "reject:declined"},
        {"to": "500", "headers": {"user-agent": "^sipagent-phone$"}, "go": "announcement:bye"},
    ]
    node = await company(routes=[*MENUS["routes"][:2], *routes])
    async with node.phone() as phone:
        await phone.dial("500")
        await hears(phone, node, "Good bye.")
    await node.ended()
    await node.nothing_left()


async def test_a_step_that_breaks_is_one_callers_trouble(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is told that a prompt has been heard: the pacer serves everybody."""

    def broken(_self: AnnouncementStep, _flow: Flow) -> None:
        raise RuntimeError("a step of one's own")

    monkeypatch.setattr(AnnouncementStep, "heard", broken)
    routes = [{"to": "700", "go": "announcement:bye"}, {"to": "800", "go": "agent:reception"}]
    node = await company(routes=[*MENUS["routes"], *routes])
    async with node.phone() as other, node.phone() as phone:
        await other.dial("800")
        await other.hear_agent_start()
        await phone.dial("700")
        await hears(phone, node, "Good bye.")
        before = len(phone.media.voiced_in)
        await phone.wait_ended(15)
        assert len(phone.media.voiced_in) - before > 50  # Asterisk says sorry
        assert node.outcome.reason is Reason.INTERNAL_ERROR
        await other.wait_quiet(300)
        await other.say(pattern(Law.ULAW, 50, 0, 4000))
        await other.hear_agent_start()
    await node.ended(2)
    await node.nothing_left()


async def test_callers_who_leave_at_random_moments_leave_nothing(company: Company, root: Root, tmp_path: Path) -> None:
    """Forty callers through the whole company, each with keys of their own, who hang up when they have had enough."""
    chance = random.Random(4)
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port, queues=PATIENT)
        lost: list[bool] = []

        async def impatient(number: str, keys: str, patience_ms: int) -> None:
            async with node.phone() as phone:
                await phone.dial(number)
                await asyncio.sleep(patience_ms / 1000)
                if keys and phone.answered and not phone.ended:
                    await phone.press(keys)
                await phone.hang_up()
                lost.append(phone.summary().outcome == "lost")

        ways = [("100", keys) for keys in ("", "1", "3", "3#", "0", "2471", "417", "11")]
        ways += [("200", ""), ("200", "1"), ("301", ""), ("400", "")]
        for _ in range(4):
            await asyncio.gather(*(impatient(*chance.choice(ways), chance.randrange(0, 1500)) for _ in range(10)))

        async def callers() -> list[str]:
            known = {event.call_id for event in node.of(model.CallStarted)}
            return [channel.id for channel in await node.ari.channels() if channel.id in known]

        async def only_lost_ones_are_left() -> bool:
            return len(await callers()) <= sum(lost)

        await until(only_lost_ones_are_left, "everybody who hung up to be gone")
        for channel_id in await callers():  # of phones whose BYE was never answered
            await ChannelHandle(node.ari, channel_id).hang_up(16)
        await until(lambda: len(node.of(model.CallEnded)) == len(node.of(model.CallStarted)), "all calls to end")
        assert {str(event.outcome) for event in node.of(model.CallEnded) if event.outcome.fault not in
                {Fault.CALLER, Fault.NONE}} == set()  # fmt: skip
        await node.nothing_left()


QUEUE = """
[agents.reception]
instructions = "Be brief."
[trunks.pbx]
preset = "generic-ip"
hosts = ["127.0.0.1:{port}"]
qualify = 0
[queues.front]
members = ["401@pbx"]
timeout_s = 8
announce_position = false
then = "announcement:bye"
[announcements.bye]
prompt = "Good bye."
[[routes]]
to = "200"
go = "queue:front"
[[routes]]
go = "reject:busy"
"""


async def test_a_caller_whose_worker_dies_meanwhile_goes_on(root: Root, tmp_path: Path) -> None:
    """They come back from the queue to a worker that did not send them there, and it knows where they go next."""
    file = tmp_path / "sipagent.toml"
    ports = {"HTTP_PORT": free_port(), "SIP_PORT": free_port(), "RTP_PORTS": list(rtp_ports())}
    env = environment(tmp_path / "run", **{f"ASTERISK__{name}": port for name, port in ports.items()})
    env["SIPAGENT_ASTERISK__PHONE_PASSWORD"] = "a-phone-of-the-test"
    async with desk(root.command("sipp"), RINGS, tmp_path) as desk_port:
        file.write_text(QUEUE.format(port=desk_port))
        async with (
            sipagent(env, "asterisk", "up", "--config", str(file)),
            sipagent(env, "run", "--standin", "--config", str(file)),
        ):
            await ready(env)
            login = PhoneConfig(f"127.0.0.1:{ports['SIP_PORT']}", "phone", "a-phone-of-the-test")
            async with Phone(login, root.command("sipp")) as phone:
                await phone.dial("200")
                assert await phone.wait_answered()

                async def waits() -> bool:
                    _, told = await output_of(env, "asterisk", "cli", "--config", str(file), "queue show front")
                    return "1 calls" in told

                await until(waits, "the caller to wait in the queue")
                _, body = await get(env, "/readyz")
                os.kill(body["workers"][0]["pid"], signal.SIGKILL)
                before = len(phone.media.voiced_in)
                end = await phone.wait_ended(30)
                assert end.cause == 16
                assert len(phone.media.voiced_in) - before > 25
            await ready(env)
            await until(partial(nobody_is_listed, env), "the call to be over")  # its worker tells of it a moment later
