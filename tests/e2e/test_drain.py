"""The service goes down under calls: whoever is still with it then goes on to somebody, or hears a goodbye."""

from __future__ import annotations

import signal
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import Prompts, current_folder
from sipagent.phone.phone import Phone
from tests.e2e.desk import ANSWERS, RINGS, desk
from tests.e2e.service_node import RECEPTION, STANDIN, ServiceNode, running, service_node, service_node_of_its_own
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

HANDOVER, GOODBYE = "Just a moment.", "We are closing. Goodbye."
TO_PEOPLE = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
[[routes]]
to = "100"
go = "agent:reception"
[[routes]]
to = "200"
go = "menu:main"
[menus.main]
prompt = "Press one for the reception."
keys = {{ "1" = "agent:reception" }}
timeout_s = 30
[call]
handover = "Just a moment."
[trunks.pbx]
preset = "generic-ip"
hosts = ["127.0.0.1:{port}"]
qualify = 0
[queues.front]
members = ["401@pbx"]
announce_position = false
keys = {{ "1" = "announcement:bye" }}
then = "voicemail:office"
[announcements.bye]
prompt = "Good bye."
[mailboxes.office]
greeting = "Leave a message."
[dials.desk]
number = "401"
trunk = "pbx"
[supervisors]
anna = {{ to = "dial:401@pbx" }}
[control]
drain_to = "{to}"
"""


@asynccontextmanager
async def with_somebody(
    root: Root, folder: Path, scenario: str, to: str, **settings: object
) -> AsyncIterator[ServiceNode]:
    """A node whose callers go on to `to`, where somebody behaves like this."""
    async with (
        desk(root.command("sipp"), scenario, folder) as port,
        service_node_of_its_own(root, folder, TO_PEOPLE.format(port=port, to=to), **settings) as node,
    ):
        yield node


async def hears(phone: Phone, node: ServiceNode, text: str) -> None:
    """Wait until the whole prompt has come, bit by bit as it was made."""
    prompts = Prompts(current_folder(node.file.parent / "run" / "prompts"), node.file.parent)
    phrase = Phrase(text)
    prompts.load([phrase])
    wanted = prompts.get(phrase, Law.ULAW).rstrip(b"\xff")
    wanted = wanted[: len(wanted) // 160 * 160]
    await until(lambda: wanted in phone.media.received_payload(), f"{text!r} to be heard")


async def hears_an_echo(phone: Phone, start: int) -> None:
    """What they say comes back from the desk: both directions live."""
    said = bytes(range(start, start + 120)) * 40
    await phone.say(said)
    await until(lambda: said[1600:2000] in phone.media.received_payload(), "the desk's echo")


@pytest.mark.parametrize("workers", [2, 0])
async def test_who_is_up_at_the_deadline_talks_with_somebody_when_the_service_has_gone(
    root: Root, tmp_path: Path, workers: int
) -> None:
    """Who was with an agent or in a menu is with them now; to whom an agent's place was taken, as they were."""
    async with with_somebody(root, tmp_path, ANSWERS, "dial:desk", CONTROL__WORKERS=workers) as node:
        async with node.phone() as talks, node.phone() as chooses, node.phone() as talked_to:
            await talked_to.dial("100")
            await talked_to.hear_agent_start()
            call = await node.the_call()
            assert await node.post(f"/v1/calls/{call['call_id']}/takeover", {"supervisor": "anna"}) == 202
            await hears_an_echo(talked_to, 1)
            for phone, number in ((talks, "100"), (chooses, "200")):
                await phone.dial(number)
                await phone.hear_agent_start()
            node.process.send_signal(signal.SIGTERM)
            for phone in (talks, chooses):
                await hears(phone, node, HANDOVER)
            await node.stopped()
            for phone in (talks, chooses, talked_to):
                await hears_an_echo(phone, 100)
                assert not phone.ended
        # But for the colleague, whom nobody of ours can release any more: they hear that they are alone.
        await node.empty("1 active channel\n")


async def test_who_waits_in_vain_goes_on_with_the_service_that_is_up_again(root: Root, tmp_path: Path) -> None:
    async with with_somebody(root, tmp_path, RINGS, "queue:front") as node:
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            call = await node.the_call()
            node.process.send_signal(signal.SIGTERM)
            await node.stopped()
            async with running(node.env, node.file, node.login, root, STANDIN) as again:
                left = await again.record(call["call_id"])
                assert (left["reason"], left["detail"]) == ("completed", "left with queue:front")
                await phone.press("1")  # out of the queue
                await hears(phone, again, "Good bye.")
                await phone.wait_ended(10)

                async def is_completed() -> bool:
                    return (await again.record(call["call_id"]))["step"] == "hangup"

                await until(is_completed, "the record to go on")
        await node.empty()


async def test_a_mailbox_takes_the_message_of_who_cannot_stay(root: Root, tmp_path: Path) -> None:
    async with service_node_of_its_own(root, tmp_path, TO_PEOPLE.format(port=9, to="voicemail:office")) as node:
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await node.the_call()
            node.process.send_signal(signal.SIGTERM)
            await hears(phone, node, "Leave a message.")
            await node.stopped()
            await phone.say(bytes(range(1, 161)) * 100)  # 2 s
            await phone.press("#")
            assert (await phone.wait_ended(10)).cause == 16
        [message] = tmp_path.rglob("spool/voicemail/**/msg0000.wav")
        with wave.open(str(message)) as recorded:
            assert recorded.getnframes() > 8000
        await node.empty()


async def test_without_a_destination_they_are_told_goodbye(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    config = f'{RECEPTION}[control]\ngoodbye = "{GOODBYE}"\n'
    async with service_node(asterisk, root, tmp_path, config, CONTROL__DRAIN_S=0.5) as node, node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await node.the_call()
        node.process.send_signal(signal.SIGTERM)
        await hears(phone, node, GOODBYE)
        await phone.wait_ended(10)
        await node.stopped()
    assert "0 active channels" in await asterisk.cli("core show channels count")


async def test_a_drain_by_command_ends_the_same_way_and_the_service_stays(root: Root, tmp_path: Path) -> None:
    """Who is in the queue then comes back as ever when it was in vain."""
    async with with_somebody(root, tmp_path, ANSWERS, "queue:front") as node:
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            call = await node.the_call()
            assert await node.command("drain", "--wait", "0.5", "--end") == (
                0,
                "no new calls are taken; 1 left, with somebody else\n",
            )
            await hears_an_echo(phone, 1)
            await phone.hang_up()
        record = await node.record(call["call_id"])
        assert (record["step"], record["result"]) == ("queue:front", "success")
