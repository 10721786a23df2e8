"""A real call as a trace: its spans at a collector, and a tool's server that is told where to hang its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from sipagent.observe.tracing import Tracing
from sipagent.standin.config import StandinConfig
from sipagent.tracecontext import Trace, tool_span
from tests.e2e.conftest import MakeRig
from tests.e2e.test_tools import ask
from tests.observe.collector import collector, seconds, values
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SCRIPT = """
greeting = "Hello."
fallback = "Pardon?"
nudge = "Anything else?"
check_in = "Hello?"
[[intent]]
name = "order"
phrases = ["where is my order"]
[[intent.tool]]
name = "order_status"
arguments = { order = "7" }
done = "The order is {status}."
failed = "No."
missing = "No."
"""


@pytest_asyncio.fixture(loop_scope="module")
async def shop() -> AsyncIterator[tuple[str, list[str]]]:
    """Its address, and the traceparents that it was told."""
    told: list[str] = []

    async def order(request: web.Request) -> web.Response:
        told.append(request.headers.get("traceparent", ""))
        return web.json_response({"status": "sent"})

    app = web.Application()
    app.router.add_get("/orders/{order}", order)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", told
    await runner.cleanup()


async def test_a_call_with_a_tool(rig: MakeRig, shop: tuple[str, list[str]], tmp_path: Path) -> None:
    address, told = shop
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT)
    tool = {"kind": "http", "description": "Where an order is.", "parameters": {"order": "Its number."}, "filler": "",
            "hold_sound": False, "url": f"{address}/orders/{{order}}", "private_networks": ["127.0.0.1"]}  # fmt: skip
    async with collector() as one:
        node = await rig(
            StandinConfig(script=script, think_ms=100),
            agent={"tools": ["order_status"]},
            tools={"order_status": tool},
            tracing={"endpoint": one.url, "instance": "here"},
        )
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await ask(node, phone, "where is my order")
            await until(lambda: bool(told), "the tool's request")
            await phone.hear_agent_start()
            await phone.hang_up()
        await node.ended()
        traces = Tracing(node.settings.tracing, node.settings.log)
        async with traces.running():
            for event in node.events:
                if not hasattr(event, "order"):  # answers to orders are no events
                    traces.take(event)  # type: ignore[arg-type]
        call_id = node.events[0].call_id
        trace = Trace.of(call_id, "here", 1.0)
        used = one.named("execute_tool order_status")
        use = values(used.attributes)["gen_ai.tool.call.id"]
        # The server's own span would hang under ours.
        assert told == [trace.traceparent(tool_span(use))]
        assert (used.trace_id.hex(), used.span_id.hex()) == tuple(told[0].split("-")[1:3])
        assert one.children(one.named("call"))[-1] == "agent reception"
        session = one.named("invoke_agent reception")
        # The greeting; what the caller waited for, and the tool within that.
        assert [name.partition(" ")[0] for name in one.children(session)] == ["chat", "chat", "execute_tool"]
        for span in one.spans:
            first, last = seconds(one.named("call"))
            assert first <= seconds(span)[0] <= seconds(span)[1] <= last
        body = b"".join(one.bodies)
        for secret in (b"where is my order", b"sent.", b"key"):
            assert secret not in body
    await node.nothing_left()
