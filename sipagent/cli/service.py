"""`sipagent drain` and `sipagent restart`: before new code, or before the machine goes down."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from sipagent import config
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, group, node_api, run_async
from sipagent.config import Settings
from sipagent.errors import ToolError

app = group()

LOOK_EVERY_S = 0.5


@app.command(epilog="Example: sipagent drain --wait 600 && systemctl stop sipagent")
def drain(
    wait: Annotated[float, typer.Option(min=0, help="Seconds for the calls that are up to end.")] = 0,
    end: Annotated[
        bool, typer.Option("--end", help="Those that are left go on to [control] drain_to, or are told goodbye.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Take calls again.")] = False,
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take no new calls: trunks get 503 and try another node. Exit code 1 when callers are with us after the wait."""
    settings = config.load(config_file)
    if resume:
        run_async(_ask(settings, "POST", "/v1/drain", {"on": False}))
        print("calls are taken again")
        return
    left, with_us = run_async(_drain(settings, wait, end=end))
    print(f"no new calls are taken; {left} left{', with somebody else' if left and not with_us else ''}")
    if with_us and (wait or end):
        raise typer.Exit(1)


async def _drain(settings: Settings, wait_s: float, *, end: bool) -> tuple[int, int]:
    """How many calls are left, and how many of them are with us."""
    await _ask(settings, "POST", "/v1/drain", {"on": True})
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        told = await _ask(settings, "GET", "/v1/drain")
        if not told["calls"] or asyncio.get_running_loop().time() >= deadline:
            break
        await asyncio.sleep(LOOK_EVERY_S)
    if end:
        await _ask(settings, "POST", "/v1/drain", {"on": True, "end": True})
        told = await _ask(settings, "GET", "/v1/drain")
    return int(told["calls"]), int(told["with_us"])


@app.command(epilog="Example: sipagent restart --wait 60    (after `pip install --upgrade`)")
def restart(
    wait: Annotated[float, typer.Option(min=0, help="Seconds that calls may stay where they are.")] = 0,
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Restart the workers one after the other with the code that is installed now; no call is dropped."""
    run_async(_ask(config.load(config_file), "POST", "/v1/workers/restart", {"wait_s": wait}))
    print("all workers are back")


async def _ask(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    async with node_api(settings) as http, http.request(method, path, json=body) as response:
        answer = await response.json(content_type=None) if response.content_length else {}
        if response.status >= 400:
            raise ToolError(str(answer.get("detail", response.status)))
        return dict(answer or {})
