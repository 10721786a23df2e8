"""Whoever is dialled answers "302 Moved": nobody follows it, for where it leads the dial policy has not been asked."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.orders import Originate, Supervise
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from tests.e2e.conftest import Rig
from tests.e2e.desk import ANSWERS, BUSY, desk
from tests.e2e.test_flow import company, hears, steps
from tests.e2e.test_supervision import told
from tests.e2e.test_transfers import asks_for_sales, places, result, script
from tests.waiting import until

__all__ = ["company"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    # A technology of its own, and a number that anybody may call in to.
    pytest.mark.parametrize("moved_to", ["PJSIP%2F449098790123%40vonage", "100"], ids=["by vonage", "to a number"]),
]

Company = Callable[..., Awaitable[Rig]]

MOVED = BUSY.replace("486 Busy Here", "302 Moved Temporarily\nContact: <sip:{to}@127.0.0.1>")
TOLD = ANSWERS.replace("<action>", '<action><log message="called"/>', 1)


@dataclass
class House:
    """Two far ends: the desk has moved, and nobody is to hear of it at the carrier."""

    trunks: dict[str, Any]
    log: Path

    async def nobody_followed(self, node: Rig) -> None:
        """The carrier's end has seen no INVITE, and no second call came in, once all is over."""
        await node.nothing_left(standin_sees=False)
        assert not self.log.exists() or not self.log.read_text()
        assert len(node.of(model.CallStarted)) == 1


@asynccontextmanager
async def house(root: Root, folder: Path, moved_to: str) -> AsyncIterator[House]:
    log = folder / "carrier.log"
    async with AsyncExitStack() as stack:
        sipp = root.command("sipp")
        moved = await stack.enter_async_context(desk(sipp, MOVED.replace("{to}", moved_to), folder))
        elsewhere = await stack.enter_async_context(desk(sipp, TOLD, folder, log=log))
        one = {"preset": "generic-ip", "qualify": 0}
        yield House(
            {
                "pbx": one | {"hosts": [f"127.0.0.1:{moved}"], "numbers": ["100"], "networks": ["192.0.2.0/24"]},
                "vonage": one | {"hosts": [f"127.0.0.1:{elsewhere}"]},
            },
            log,
        )


async def test_a_dial(company: Company, root: Root, tmp_path: Path, moved_to: str) -> None:
    async with house(root, tmp_path, moved_to) as there:
        node = await company(trunks=there.trunks)
        async with node.phone() as phone:
            await phone.dial("400")
            await hears(phone, node, "Good bye.")
            await phone.wait_ended(5)
        assert steps(node) == ["dial:desk", "announcement:bye", "hangup"]
        await there.nobody_followed(node)


async def test_a_queue(company: Company, root: Root, tmp_path: Path, moved_to: str) -> None:
    async with house(root, tmp_path, moved_to) as there:
        queue = {"members": ["401@pbx"], "timeout_s": 5, "ring_s": 3, "announce_position": False,
                 "then": "announcement:bye"}  # fmt: skip
        node = await company(trunks=there.trunks, queues={"front": queue})
        async with node.phone() as phone:
            await phone.dial("200")
            await hears(phone, node, "Good bye.")
            await phone.wait_ended(5)
        assert steps(node) == ["queue:front", "announcement:bye", "hangup"]
        await there.nobody_followed(node)


async def test_a_transfer(company: Company, root: Root, tmp_path: Path, moved_to: str) -> None:
    async with house(root, tmp_path, moved_to) as there:
        node = await company(standin=script(tmp_path, "desk"), **places(), trunks=there.trunks)
        async with node.phone() as phone:
            await asks_for_sales(phone, root)
            await until(lambda: bool(result(node)), "the transfer to end")
            assert result(node) == "moved"
            assert not phone.ended
        await node.ended()
        await there.nobody_followed(node)


async def test_a_call_out(company: Company, root: Root, tmp_path: Path, moved_to: str) -> None:
    async with house(root, tmp_path, moved_to) as there:
        node = await company(trunks=there.trunks, dial_policy={"allow": ["401"]}, outbound={"trunks": ["pbx"]})
        node.worker.obey(
            Originate(call_id=f"out-{uuid.uuid4().hex[:8]}", to="401", trunks=("pbx",), agent="reception", ring_s=5.0)
        )
        assert (await node.ended()).reason is Reason.NOT_REACHED
        await there.nobody_followed(node)


async def test_a_supervisor(company: Company, root: Root, tmp_path: Path, moved_to: str) -> None:
    async with house(root, tmp_path, moved_to) as there:
        node = await company(
            standin=StandinConfig(mode=Mode.DETERMINISTIC),
            trunks=there.trunks,
            routes=[{"to": "100", "go": "agent:reception"}],
            agent={"greeting": "Hello."},
            supervisors={"anna": {"to": "dial:401@pbx"}},
        )
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            call = node.of(model.CallStarted)[0].call_id
            refusal = await told(node, Supervise(call_id=call, supervisor="anna", how="monitor"))
            assert refusal == "anna: moved"
        await node.ended()
        await there.nobody_followed(node)
