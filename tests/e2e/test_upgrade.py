"""New code, or a reboot: workers are drained and restarted under calls, and none is dropped."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from tests.e2e.service_node import service_node
from tests.e2e.test_adoption import CONFIG, hears_more
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize("workers", [2, 1])
async def test_all_workers_are_restarted_under_calls(
    asterisk: Asterisk, root: Root, tmp_path: Path, workers: int
) -> None:
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=workers) as node:
        before = await node.pids()
        async with node.phone() as one, node.phone() as two:
            for phone in (one, two):
                await phone.dial("100")
                await phone.hear_agent_start()
            restarting = asyncio.create_task(node.command("restart"))
            await hears_more(one, 20)
            assert await restarting == (0, "all workers are back\n")
            assert not before & await node.pids()
            for phone in (one, two):
                assert not phone.ended
                await phone.wait_quiet(400)
            async with node.phone() as three:
                await three.dial("100")
                await three.hear_agent_start()
        events = (await node.get("/v1/calls?limit=3"))[1]["calls"]

        async def all_over() -> bool:
            calls = (await node.get("/v1/calls?limit=3"))[1]["calls"]
            return [call["reason"] for call in calls] == ["caller_hangup"] * 3

        await until(all_over, "three calls that their callers ended")
        assert len(events) == 3


async def test_a_drained_node_takes_no_calls_and_ends_none(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=2) as node, node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        code, said = await node.command("drain")
        assert (code, said) == (0, "no new calls are taken; 1 left\n")
        status, body = await node.get("/readyz")
        assert status == 503
        assert "draining" in body["reasons"][0]
        async with node.phone() as late:
            await late.dial("100")
            assert not await late.wait_answered()
        assert not phone.ended
        await node.command("drain", "--resume")
        await node.ready()
        async with node.phone() as later:
            await later.dial("100")
            await later.hear_agent_start()


async def test_a_drained_node_stays_drained_when_a_worker_dies_and_its_calls_go_on(
    asterisk: Asterisk, root: Root, tmp_path: Path
) -> None:
    """They are taken by one that drains as well; whoever comes for the dead one takes no new calls."""
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__WORKERS=2) as node, node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await node.command("drain")
        old = await node.pids()
        before = await node.kill_its_worker()
        await node.adopted(before)
        await hears_more(phone, 20)

        async def all_drain() -> bool:
            body = (await node.get("/readyz"))[1]
            draining = [reason for reason in body["reasons"] if "draining" in reason]
            return len(draining) == 2 and {worker["pid"] for worker in body["workers"]} != old

        await until(all_drain, "the new worker to drain")
        async with node.phone() as late:
            await late.dial("100")
            assert not await late.wait_answered()
        assert not phone.ended


async def test_sigterm_waits_for_the_calls_that_are_up(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with service_node(asterisk, root, tmp_path, CONFIG, CONTROL__DRAIN_S=30) as node:
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            node.process.send_signal(signal.SIGTERM)

            async def drains() -> bool:
                return (await node.get("/readyz"))[0] == 503

            await until(drains, "the node to drain")
            await phone.wait_quiet(400)
            assert not phone.ended
            await phone.hang_up()
        await node.stopped()
