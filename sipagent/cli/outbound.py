"""`sipagent dial`: have the node call somebody, and see what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from sipagent import config
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, group, node_api, pair, run_async
from sipagent.config import Settings
from sipagent.errors import ToolError

app = group()

LOOK_EVERY_S = 0.5


@app.command(epilog="Example: sipagent dial +442079460123 --agent reception --variable order=4711 --wait")
def dial(
    to: Annotated[str, typer.Argument(help="+E.164, or an extension of the trunk. dial_policy.allow must list it.")],
    agent: Annotated[str, typer.Option(help="Who talks with them.")],
    trunk: Annotated[list[str] | None, typer.Option(help="Of [outbound] trunks; several are tried in order.")] = None,
    variable: Annotated[list[str] | None, typer.Option(help="Of the call, as order=4711.")] = None,
    message: Annotated[str, typer.Option(help="Left on an answering machine.")] = "",
    caller_id: Annotated[str, typer.Option(help="Our number as they see it.")] = "",
    key: Annotated[str, typer.Option(help="An idempotency key: the same one never calls twice.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until it is over; exit code 1 if nobody answered.")] = False,
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Call somebody and put an agent on the line; `sipagent run` must be running."""
    body: dict[str, Any] = {
        "to": to,
        "agent": agent,
        "trunk": trunk or [],
        "variables": dict(pair(text) for text in variable or []),
        "caller_id": caller_id,
    }
    if message:
        body |= {"machine": "message", "message": message}
    call = run_async(_dial(config.load(config_file), body, key, wait=wait))
    if not wait:
        print(call["call_id"])
        return
    who = call["answered_by"] or call["detail"] or call["reason"]
    print(f"{call['id']}: {call['disposition']}, {who}, {call['billsec'] or 0:g} s")
    if call["disposition"] != "ANSWERED":
        raise typer.Exit(1)


async def _dial(settings: Settings, body: dict[str, Any], key: str, *, wait: bool) -> dict[str, Any]:
    async with node_api(settings) as http:
        headers = {"Idempotency-Key": key} if key else {}
        async with http.post("/v1/calls", json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
            if response.status != 201:
                raise ToolError(f"the call is not made: {answer.get('detail', response.status)}")
        while wait:
            async with http.get(f"/v1/calls/{answer['call_id']}?events=false") as response:
                if response.status == 503:
                    raise ToolError("without [records] nobody knows how a call went: leave out --wait")
                found = await response.json(content_type=None) if response.status == 200 else {}
            if found.get("state") in {"ended", "lost"}:
                return dict(found)
            await asyncio.sleep(LOOK_EVERY_S)
        return dict(answer)
