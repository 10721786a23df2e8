"""The toolbox as a real process: Python functions, MCP servers, time-outs, its death and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import TypeAdapter

from sipagent.config import LogSettings
from sipagent.config.tools import Tool
from sipagent.tools import CallFacts
from sipagent.tools.client import AWAY, Toolbox
from sipagent.tools.messages import Returned
from tests.waiting import until

HERE = Path(__file__).parent
TOOLS: TypeAdapter[dict[str, Tool]] = TypeAdapter(dict[str, Tool])
PYTHON = {
    "order_status": {"kind": "python", "function": "shop:order_status"},
    "weather": {"kind": "python", "function": "shop:weather"},
    "breaks": {"kind": "python", "function": "shop:breaks"},
    "sleeps": {"kind": "python", "function": "shop:sleeps", "timeout_s": 0.3},
    "waits": {"kind": "python", "function": "shop:waits", "timeout_s": 60},
    "half": {"kind": "python", "function": "shop:half"},
    "long": {"kind": "python", "function": "shop:long"},
}
STDIO = {"shop": {"kind": "mcp", "command": [sys.executable, str(HERE / "mcp_shop.py")], "connect_timeout_s": 20,
                  "env": {"SHOP_KEY": "s3cr3t"}}}  # fmt: skip


@pytest_asyncio.fixture
async def toolbox() -> AsyncIterator[Toolbox]:
    box = Toolbox(LogSettings(level="error"))
    yield box
    await box.aclose()


async def configured(box: Toolbox, tools: dict[str, Any]) -> int:
    return await box.configure(TOOLS.validate_python(tools), HERE)


async def use(box: Toolbox, generation: int, function: str, *, timeout_s: float = 10, **arguments: Any) -> Returned:
    return await box.call(generation, function, arguments, CallFacts("call-1", {"caller": "+1555"}), timeout_s)


async def test_python_functions(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, PYTHON)
    offered = {one.name: one for one in toolbox.offers[generation].functions}
    assert offered["order_status"].description == "Where an order is."
    assert offered["order_status"].parameters["properties"]["order"]["description"] == "As the caller said it."
    assert offered["order_status"].parameters["required"] == ["order"]
    assert list(offered["weather"].parameters["properties"]) == ["city"]  # the call's facts are not the model's to give

    found = await use(toolbox, generation, "order_status", order="7", detail=True)
    assert json.loads(found.output) == {"number": "7", "status": "sent yesterday"}
    assert found.duration_ms > 0
    assert (await use(toolbox, generation, "order_status", order="0")).error == "no such order"
    assert "detail" in (await use(toolbox, generation, "order_status", order="1", detail="perhaps")).error
    told = await use(toolbox, generation, "weather", city="York")
    assert json.loads(told.output) == {"city": "York", "caller": "+1555", "call": "call-1"}
    assert (await use(toolbox, generation, "breaks")).error == "the tool failed (RuntimeError)"
    assert (await use(toolbox, generation, "sleeps", seconds=3)).error == "no answer in 0.3 seconds"
    assert "20000 characters" in (await use(toolbox, generation, "long", chars=20_000)).error
    assert (await use(toolbox, generation, "half")).output == "sent ?"
    assert (await use(toolbox, generation, "nothing")).error == "this tool is not there any more"


async def test_what_cannot_be_used_is_said_and_the_rest_works(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, {
        "order_status": PYTHON["order_status"],
        "gone": {"kind": "python", "function": "shop:gone"},
        "nowhere": {"kind": "python", "function": "no_such_module:f"},
        "entry": {"kind": "python"},
        "unhinted": {"kind": "python", "function": "shop:unhinted"},
        "server": {"kind": "mcp", "command": ["/nonexistent/server"]},
    })  # fmt: skip
    offer = toolbox.offers[generation]
    assert [one.name for one in offer.functions] == ["order_status"]
    assert "cannot be loaded" in offer.problems["gone"]
    assert "no_such_module" in offer.problems["nowhere"]
    assert "no package has an entry point 'entry'" in offer.problems["entry"]
    assert "no type hint" in offer.problems["unhinted"]
    assert offer.problems["server"]


def test_a_worker_does_not_load_what_only_the_toolbox_needs() -> None:
    heavy = ("mcp", "jmespath", "jsonschema", "httpx2", "sipagent.tools.http_tool", "sipagent.tools.mcp_tool")
    code = f"import sys, sipagent.worker; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


async def test_no_tools_no_process(toolbox: Toolbox) -> None:
    await configured(toolbox, {"web": {"kind": "web_search"}})
    assert toolbox.pid is None


async def test_a_dead_toolbox_is_an_error_at_once_and_is_started_again(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, PYTHON)
    pid = toolbox.pid
    running = asyncio.create_task(use(toolbox, generation, "waits", seconds=60))
    await until(lambda: bool(toolbox._waiting), "the call to be on its way")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert (await running).error == AWAY
    await until(lambda: toolbox.pid not in {None, pid} and toolbox._writer is not None, "another toolbox")
    assert (await use(toolbox, generation, "order_status", order="7")).error == ""


async def test_a_stuck_toolbox_is_not_waited_for(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, PYTHON)
    assert toolbox.pid is not None
    os.kill(toolbox.pid, signal.SIGSTOP)
    try:
        assert "no answer in" in (await use(toolbox, generation, "waits", seconds=0, timeout_s=-1.9)).error
    finally:
        os.kill(toolbox.pid, signal.SIGCONT)


async def test_it_ends_with_its_worker(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, PYTHON)
    pid = toolbox.pid
    running = asyncio.create_task(use(toolbox, generation, "sleeps", seconds=100))  # its thread never ends
    await until(lambda: bool(toolbox._waiting), "the call to be on its way")
    await toolbox.aclose()
    assert (await running).error == AWAY
    assert not Path(f"/proc/{pid}").exists()
    assert (await use(toolbox, generation, "order_status", order="7")).error == AWAY


async def test_a_call_keeps_the_tools_it_began_with(toolbox: Toolbox) -> None:
    first = await configured(toolbox, PYTHON)
    second = await configured(toolbox, {"weather": PYTHON["weather"]})
    assert [one.name for one in toolbox.offers[second].functions] == ["weather"]
    assert (await use(toolbox, first, "order_status", order="7")).error == ""
    assert (await use(toolbox, second, "order_status", order="7")).error == "this tool is not there any more"
    third = await configured(toolbox, PYTHON)
    assert (await use(toolbox, first, "order_status", order="7")).error == "this tool is not there any more"
    assert (await use(toolbox, third, "order_status", order="7")).error == ""


async def test_a_local_mcp_server(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS_ALONE", "1")
    generation = await configured(toolbox, STDIO)
    names = {one.name for one in toolbox.offers[generation].functions}
    assert names == {"shop_stock", "shop_environment", "shop_fails", "shop_dies"}
    assert json.loads((await use(toolbox, generation, "shop_stock", article="bell")).output) == {"stock": 4}
    # It is there, but what a server tells of it goes no further.
    assert "***" in (await use(toolbox, generation, "shop_environment", name="SHOP_KEY")).output
    assert "none" in (await use(toolbox, generation, "shop_environment", name="OURS_ALONE")).output
    failed = await use(toolbox, generation, "shop_fails")
    assert "Error" in failed.error
    assert "s3cr3t" not in failed.error


async def test_an_mcp_server_that_died_comes_back(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, STDIO)
    assert (await use(toolbox, generation, "shop_dies")).error

    async def works() -> bool:
        return not (await use(toolbox, generation, "shop_stock", article="bell")).error

    await until(works, "the server to be back")


async def test_only_allowed_tools_of_a_server(toolbox: Toolbox) -> None:
    generation = await configured(toolbox, {"shop": {**STDIO["shop"], "allowed_tools": ["stock"]}})
    assert [one.name for one in toolbox.offers[generation].functions] == ["shop_stock"]


async def test_an_mcp_server_over_http(toolbox: Toolbox, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    process = await asyncio.create_subprocess_exec(sys.executable, str(HERE / "mcp_shop.py"), str(port_file))
    try:
        await until(lambda: port_file.exists() and bool(port_file.read_text()), "the server to listen")
        url = f"http://127.0.0.1:{port_file.read_text()}/mcp"
        generation = await configured(toolbox, {"shop": {"kind": "mcp", "url": url, "connect_timeout_s": 20}})
        assert json.loads((await use(toolbox, generation, "shop_stock", article="bell")).output) == {"stock": 4}
    finally:
        process.kill()
        await process.wait()
