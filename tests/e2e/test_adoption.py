"""A worker is killed under its calls: another one, or the same one started anew, goes on where it stopped."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.phone.phone import Phone
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.server import StandinServer
from sipagent.tones import looped
from tests.e2e.desk import ANSWERS, desk
from tests.e2e.service_node import login_at, running, service_node, service_node_of_its_own
from tests.e2e.test_processes import on, sipagent
from tests.e2e.test_transfers import say
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
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
keys = { "1" = "agent:reception", "2" = "announcement:bye" }
timeout_s = 30
[announcements.bye]
prompt = "Good bye."
"""


async def hears_more(phone: Phone, frames: int) -> None:
    mark = len(phone.media.voiced_in)
    await until(lambda: len(phone.media.voiced_in) >= mark + frames, "a voice")


@pytest.mark.parametrize(("workers", "how"), [(2, signal.SIGKILL), (1, signal.SIGKILL), (2, signal.SIGSTOP)], ids=str)
async def test_the_conversation_goes_on(
    asterisk: Asterisk, root: Root, tmp_path: Path, workers: int, how: signal.Signals
) -> None:
    """Killed with another one beside it, killed alone, or hanging: then it is killed by us."""
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=workers) as node:
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await phone.wait_quiet(400)
            before = await node.kill_its_worker(how)
            await hears_more(phone, 20)
            after = await node.adopted(before)
            assert after["call_id"] == before["call_id"]
            assert (after["worker"] != before["worker"]) == (workers == 2)
            assert not phone.ended
            await phone.wait_quiet(600)
            await phone.hang_up()
        record = await node.record(before["call_id"])
        assert (record["result"], record["reason"]) == ("success", "caller_hangup")
        sessions = [event for event in record["history"]["events"] if event["type"] == "session_opened"]
        assert len({event["conversation_id"] for event in sessions}) == 1  # the model was not asked to begin anew
        await node.ready()
    assert "0 active channels" in await asterisk.cli("core show channels count")
    assert "-bridge-" not in await asterisk.cli("bridge show all")


async def test_who_was_adopted_hears_a_soft_sound_and_the_answer_does_not_wait_for_its_end(
    asterisk: Asterisk, root: Root, tmp_path: Path
) -> None:
    """It lasts 16 s, longer than anybody here waits; a word would have to be heard to its end."""
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    config = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=600)
    async with StandinServer(config) as standin:
        env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=2, REALTIME__URL=standin.url)
        env["XAI_API_KEY"] = "key"
        async with running(env, file, login_at(asterisk), root) as node, node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await phone.wait_quiet(400)
            standin.faults = parse_faults(["slow-handshake=1"])
            before = await node.kill_its_worker()
            music = looped("hold", phone.media.law)[:1600]
            await until(lambda: music in phone.media.received_payload(), "a soft sound")

            async def is_answered() -> bool:
                history = (await node.get(f"/v1/calls/{before['call_id']}"))[1].get("history", {})
                told = [event["type"] for event in history.get("events", [])]
                return "call_adopted" in told and "agent_spoke" in told[told.index("call_adopted") :]

            await until(is_answered, "the agent's voice")


async def test_a_worker_that_was_only_halted_goes_on(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    """Its caller hears music meanwhile, and nobody is killed."""
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=1) as node, node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.wait_quiet(400)
        before = (await node.get("/readyz"))[1]["workers"]
        call = await node.kill_its_worker(signal.SIGSTOP)
        await hears_more(phone, 10)
        os.kill(before[0]["pid"], signal.SIGCONT)
        await phone.wait_quiet(400)
        await say(phone, root, "where is my order")
        await phone.hear_agent_start()
        assert [(one["worker"], one["pid"]) for one in (await node.get("/readyz"))[1]["workers"]] == [
            (one["worker"], one["pid"]) for one in before
        ]
        history = (await node.get(f"/v1/calls/{call['call_id']}"))[1]["history"]
        assert "call_adopted" not in [event["type"] for event in history["events"]]


async def test_a_menu_goes_on(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=2) as node, node.phone() as phone:
        await phone.dial("200")
        assert await phone.wait_answered()
        await hears_more(phone, 20)
        before = await node.kill_its_worker()
        await node.adopted(before)
        await hears_more(phone, 40)  # the question again
        await phone.press("2")
        assert (await phone.wait_ended(10)).cause == 16


async def test_a_call_that_was_adopted_may_be_adopted_again(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=2) as node, node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        for _ in range(2):
            await phone.wait_quiet(400)
            await node.kill_its_worker()
            await hears_more(phone, 20)
            await node.ready()
        assert not phone.ended


@pytest.mark.parametrize("workers", [2, 1])
async def test_who_calls_a_worker_that_hangs_is_served_when_it_has_been_killed(
    asterisk: Asterisk, root: Root, tmp_path: Path, workers: int
) -> None:
    """By another worker, or by the next of its number, as if they had called just now."""
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=workers) as node:
        for worker in (await node.get("/readyz"))[1]["workers"][:1]:
            os.kill(worker["pid"], signal.SIGSTOP)
        async with AsyncExitStack() as stack:
            count = 6 if workers == 2 else 1  # of six one calls the worker that hangs, but for one time in 64
            phones = [await stack.enter_async_context(node.phone()) for _ in range(count)]
            for phone in phones:
                await phone.dial("100")
            for phone in phones:
                assert await phone.wait_answered(20)
                await phone.hear_agent_start()

            async def all_are_there() -> bool:  # and not with the apology
                calls = (await node.get("/v1/calls/live"))[1]["calls"]
                return [call["step"] for call in calls] == ["agent:reception"] * count

            await until(all_are_there, "all of them to be with the agent")


async def test_a_control_process_that_is_killed_leaves_no_worker_that_nobody_knows(
    asterisk: Asterisk, root: Root, tmp_path: Path
) -> None:
    """Its workers serve on; those of its successor take their calls, and there are not two for each caller."""
    file, login = tmp_path / "sipagent.toml", login_at(asterisk)
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=2)
    env["SIPAGENT_REALTIME__URL"] = f"ws://127.0.0.1:{env['SIPAGENT_STANDIN__PORT']}/v1/realtime"
    env["XAI_API_KEY"] = "key"
    async with (
        sipagent(env, "standin", "--port", env["SIPAGENT_STANDIN__PORT"]),
        running(env, file, login, root) as node,
    ):
        old, control = await node.pids(), node.process
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            control.kill()
            await until(lambda: control.returncode is not None, "its end")  # its workers hold its pipe: no wait()
            await hears_more(phone, 20)
            async with running(env, file, login, root) as after:
                await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), "the old ones to leave")
                call = await after.the_call()
                await hears_more(phone, 20)
                assert not phone.ended
                await phone.hang_up()
                record = await after.record(call["call_id"])
                assert (record["result"], record["reason"]) == ("success", "caller_hangup")
    assert "0 active channels" in await asterisk.cli("core show channels count")


TAKEN = """
[agents.reception]
instructions = "Be brief."
[numbers]
"100" = "reception"
[trunks.pbx]
preset = "generic-ip"
hosts = ["127.0.0.1:{port}"]
qualify = 0
[supervisors]
anna = {{ to = "dial:401@pbx" }}
"""


@pytest.mark.parametrize("workers", [2, 1])
async def test_two_who_talk_with_each_other_are_left_to_it(root: Root, tmp_path: Path, workers: int) -> None:
    """A colleague has taken the call; the worker that watched over it dies, and nobody notices."""
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        config = TAKEN.format(port=port)
        async with service_node_of_its_own(root, tmp_path, config, CONTROL__WORKERS=workers) as node:
            async with node.phone() as phone:
                await phone.dial("100")
                await phone.hear_agent_start()
                call = await node.the_call()
                assert await node.post(f"/v1/calls/{call['call_id']}/takeover", {"supervisor": "anna"}) == 202
                said = bytes(range(1, 161)) * 10
                await phone.say(said)
                await until(lambda: said[160:480] in phone.media.received_payload(), "the colleague's echo")
                await node.kill_its_worker()
                await node.adopted(call)
                last = bytes([*range(1, 81), *range(1, 81)]) * 10
                await phone.say(last)
                await until(lambda: last[160:480] in phone.media.received_payload(), "their echo still")
                assert not phone.ended

            await node.empty()
