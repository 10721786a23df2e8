"""`sipagent standin`: the stand-in alone, for those who try things without a key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from sipagent import config
from sipagent.asterisk.root import Root, find_root
from sipagent.cli.common import group, run_async, until_signal
from sipagent.observe import logs
from sipagent.standin import server
from sipagent.standin.config import Dialect, Mode, StandinConfig
from sipagent.standin.faults import parse_faults

app = group()


@app.command(epilog="Example: sipagent standin --port 8091 --fault drop@3.5")
def standin(
    port: Annotated[int, typer.Option(help="On loopback; 0 for any.")] = 8091,
    script: Annotated[Path | None, typer.Option(help="The script; a small reception by default.")] = None,
    mode: Annotated[Mode, typer.Option(help="How a turn is answered.")] = Mode.SCRIPT,
    dialect: Annotated[
        Dialect, typer.Option(help="Whose wire is spoken: xAI's, or OpenAI's GA Realtime.")
    ] = Dialect.XAI,
    fault: Annotated[list[str] | None, typer.Option(help="Misbehave, e.g. no-ack, drop@3.5, refuse=429.")] = None,
) -> None:
    """The stand-in alone: a realtime voice server in xAI's wire or OpenAI's, scripted, offline."""
    flite = tuple((find_root(("flite",)) or Root(None)).command("flite")) if mode is Mode.SCRIPT else ("flite",)
    faults = parse_faults(fault or [])
    standin_config = StandinConfig(
        port=port, script=script, mode=mode, dialect=dialect, faults=faults, flite=flite, record_bytes=0
    )
    logs.configure(config.LogSettings())

    async def serve() -> None:
        async with await server.serve(standin_config) as standing:
            print(f"stand-in (not Grok) on {standing.url}; any key is let in. Ctrl-C stops it.", flush=True)
            await until_signal(asyncio.Event().wait())

    run_async(serve())
