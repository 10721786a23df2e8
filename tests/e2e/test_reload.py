"""A configuration changed under a running node, by its own commands: no call is dropped, a mistake changes nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from tests.asterisk.fixtures import free_port, rtp_ports
from tests.e2e.test_processes import environment, get, on, output_of, phone_on, ready, sipagent
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

BEFORE = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
[[routes]]
to = "100"
go = "agent:reception"
"""
AFTER = (
    BEFORE
    + """
[[routes]]
to = "200"
go = "announcement:new"
[announcements.new]
prompt = "Here is something new."
"""
)


async def test_new_calls_get_the_new_file_and_old_ones_go_on(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(BEFORE)
    env = on(asterisk, tmp_path / "run")
    async with sipagent(env, "run", "--standin", "--config", str(file)) as process:
        await ready(env)
        async with phone_on(asterisk, root) as old:
            await old.dial("100")
            await old.hear_agent_start()
            async with phone_on(asterisk, root) as refused:
                await refused.dial("200")
                assert not await refused.wait_answered()

            file.write_text(AFTER)
            assert await output_of(env, "reload", "--config", str(file)) == (
                0,
                "reloaded; new calls follow the new configuration\n",
            )
            async with phone_on(asterisk, root) as new:
                await new.dial("200")
                await new.hear_agent_start()
                assert (await new.wait_ended(10)).cause == 16
            assert not old.ended
            assert len((await get(env, "/v1/calls/live"))[1]["calls"]) == 1

            file.write_text(AFTER.replace("announcement:new", "announcement:old"))
            code, told = await output_of(env, "reload", "--config", str(file))
            assert code == 1
            assert f"{file}:11: routes.1.go: no announcement 'old'; there is new" in told
            async with phone_on(asterisk, root) as still:
                await still.dial("200")
                assert await still.wait_answered()

            # The same by signal, as a service manager does it.
            file.write_text(BEFORE)
            process.send_signal(signal.SIGHUP)

            async def is_back() -> bool:
                async with phone_on(asterisk, root) as phone:
                    await phone.dial("200")
                    return not await phone.wait_answered()

            await until(is_back, "the file of the beginning to be in force")
            assert not old.ended


async def test_reload_when_nothing_runs(tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(BEFORE)
    code, told = await output_of(environment(tmp_path / "run"), "reload", "--config", str(file))
    assert code == 1
    assert "is `sipagent run` running?" in told


async def test_a_list_that_cannot_be_read_is_found_by_check_and_by_the_start(tmp_path: Path) -> None:
    """By a worker it would be found too late: a reload has told the switch by then."""
    file = tmp_path / "sipagent.toml"
    file.write_text(BEFORE + '[[routes]]\nfrom_file = "vip.txt"\ngo = "hangup"\n')
    (tmp_path / "vip.txt").write_text("+44*\n4 4\n")
    env = environment(tmp_path / "run")
    for command in (("check", str(file)), ("run", "--standin", "--config", str(file))):
        code, told = await output_of(env, *command)
        assert code == 1
        assert f"{tmp_path}/vip.txt:2: '4 4' is no number" in told


async def test_a_header_of_route_test_may_be_written_as_one_likes(tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(BEFORE + '[[routes]]\nheaders = { "X-Dept" = "^sales$" }\ngo = "hangup"\n')
    arguments = ("route-test", "--config", str(file), "--to", "7", "--header", "x-dept: sales")
    code, told = await output_of(environment(tmp_path / "run"), *arguments)
    assert (code, told.splitlines()[-1]) == (0, "--> number 2: goes to hangup")


async def test_route_test_says_which_and_why(tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(AFTER)
    env = environment(tmp_path / "run")
    code, told = await output_of(env, "route-test", "--config", str(file), "--to", "200")
    assert (code, told) == (0, "    number 1: is for 100, not for 200\n--> number 2: goes to announcement:new\n")
    code, told = await output_of(env, "route-test", "--config", str(file), "--to", "7")
    assert code == 1
    assert told.endswith("--> no route fits: the caller gets 404\n")
    code, told = await output_of(env, "route-test", "--config", str(file), "--to", "7", "--at", "tomorrow")
    assert code == 2


async def test_the_graph_shows_routes_and_steps(tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(AFTER)
    code, told = await output_of(environment(tmp_path / "run"), "flow-graph", "--config", str(file))
    assert code == 0
    assert told.splitlines() == [
        "flowchart LR",
        '    r1["to 100"]',
        '    s0(["agent:reception"])',
        '    r2["to 200"]',
        '    s1["announcement:new"]',
        '    s2["hangup"]',
        "    r1 --> s0",
        "    r2 --> s1",
        "    s1 --> s2",
    ]


async def test_asterisk_reads_it_too(root: Root, tmp_path: Path) -> None:
    """An Asterisk of ours gets its queues and trunks by the same command."""
    file = tmp_path / "sipagent.toml"
    file.write_text(BEFORE)
    ports = {"HTTP_PORT": free_port(), "SIP_PORT": free_port(), "RTP_PORTS": list(rtp_ports())}
    env = environment(tmp_path / "run", **{f"ASTERISK__{name}": port for name, port in ports.items()})
    async with (
        sipagent(env, "asterisk", "up", "--config", str(file)),
        sipagent(env, "run", "--standin", "--config", str(file)),
    ):
        await ready(env)
        file.write_text(BEFORE + '[queues.late]\nmembers = ["phone"]\n[[routes]]\nto = "9"\ngo = "queue:late"\n')
        code, told = await output_of(env, "reload", "--config", str(file))
        assert code == 0, told
        code, told = await output_of(env, "asterisk", "cli", "--config", str(file), "queue show late")
        assert "late has 0 calls" in told
