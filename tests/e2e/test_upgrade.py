"""New code, or a reboot: workers are drained and restarted under calls, and none is dropped."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from tests.e2e.test_adoption import CONFIG, adopted, hears_more, kill_its_worker
from tests.e2e.test_processes import get, on, output_of, phone_on, ready, sipagent
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def pids(env: dict[str, str]) -> set[int]:
    return {worker["pid"] for worker in (await get(env, "/readyz"))[1]["workers"]}


@pytest.mark.parametrize("workers", [2, 1])
async def test_all_workers_are_restarted_under_calls(
    asterisk: Asterisk, root: Root, tmp_path: Path, workers: int
) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=workers)
    async with sipagent(env, "run", "--standin", "--config", str(file)):
        await ready(env)
        before = await pids(env)
        async with phone_on(asterisk, root) as one, phone_on(asterisk, root) as two:
            for phone in (one, two):
                await phone.dial("100")
                await phone.hear_agent_start()
            restarting = asyncio.create_task(output_of(env, "restart", "--config", str(file)))
            await hears_more(one, 20)
            assert await restarting == (0, "all workers are back\n")
            assert not before & await pids(env)
            for phone in (one, two):
                assert not phone.ended
                await phone.wait_quiet(400)
            async with phone_on(asterisk, root) as three:
                await three.dial("100")
                await three.hear_agent_start()
        events = (await get(env, "/v1/calls?limit=3"))[1]["calls"]

        async def all_over() -> bool:
            calls = (await get(env, "/v1/calls?limit=3"))[1]["calls"]
            return [call["reason"] for call in calls] == ["caller_hangup"] * 3

        await until(all_over, "three calls that their callers ended")
        assert len(events) == 3


async def test_a_drained_node_takes_no_calls_and_ends_none(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=2)
    async with sipagent(env, "run", "--standin", "--config", str(file)):
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            code, said = await output_of(env, "drain", "--config", str(file))
            assert (code, said) == (0, "no new calls are taken; 1 left\n")
            status, body = await get(env, "/readyz")
            assert status == 503
            assert "draining" in body["reasons"][0]
            async with phone_on(asterisk, root) as late:
                await late.dial("100")
                assert not await late.wait_answered()
            assert not phone.ended
            await output_of(env, "drain", "--resume", "--config", str(file))
            await ready(env)
            async with phone_on(asterisk, root) as later:
                await later.dial("100")
                await later.hear_agent_start()


async def test_a_drained_node_stays_drained_when_a_worker_dies_and_its_calls_go_on(
    asterisk: Asterisk, root: Root, tmp_path: Path
) -> None:
    """They are taken by one that drains as well; whoever comes for the dead one takes no new calls."""
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=2)
    async with sipagent(env, "run", "--standin", "--config", str(file)):
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await output_of(env, "drain", "--config", str(file))
            old = await pids(env)
            before = await kill_its_worker(env)
            await adopted(env, before)
            await hears_more(phone, 20)

            async def all_drain() -> bool:
                body = (await get(env, "/readyz"))[1]
                draining = [reason for reason in body["reasons"] if "draining" in reason]
                return len(draining) == 2 and {worker["pid"] for worker in body["workers"]} != old

            await until(all_drain, "the new worker to drain")
            async with phone_on(asterisk, root) as late:
                await late.dial("100")
                assert not await late.wait_answered()
            assert not phone.ended


async def test_sigterm_waits_for_the_calls_that_are_up(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__DRAIN_S=30)
    async with sipagent(env, "run", "--standin", "--config", str(file)) as process:
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            process.send_signal(signal.SIGTERM)

            async def drains() -> bool:
                return (await get(env, "/readyz"))[0] == 503

            await until(drains, "the node to drain")
            await phone.wait_quiet(400)
            assert not phone.ended
            await phone.hang_up()
        await process.communicate()
        assert process.returncode == 0
