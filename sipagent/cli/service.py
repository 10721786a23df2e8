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
    resume: Annotated[bool, typer.Option("--resume", help="Take calls again.")] = False,
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take no new calls: trunks get 503 and try another node. Exit code 1 when calls are left after the wait."""
    left = run_async(_drain(config.load(config_file), 0 if resume else wait, on=not resume))
    print("calls are taken again" if resume else f"no new calls are taken; {left} left")
    if left and wait and not resume:
        raise typer.Exit(1)


async def _drain(settings: Settings, wait_s: float, *, on: bool) -> int:
    await _ask(settings, "POST", "/v1/drain", {"on": on})
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        left = int((await _ask(settings, "GET", "/v1/drain"))["calls"])
        if not left or asyncio.get_running_loop().time() >= deadline:
            return left
        await asyncio.sleep(LOOK_EVERY_S)


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
