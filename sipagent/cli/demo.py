"""The command for newcomers: it needs a screen and a phone beside the node."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from sipagent import coredumps, demo
from sipagent.asterisk import fetch
from sipagent.asterisk.root import DEFAULT_TOOLS
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, group, run_async, settings_of

app = group()


@app.command("demo", epilog="This is what `make run` runs. Example: sipagent demo --no-demo")
def run_demo(
    config_file: ConfigOption = DEFAULT_CONFIG,
    place_call: Annotated[bool, typer.Option("--demo/--no-demo", help="Place the demo call.")] = True,
    stay: Annotated[bool, typer.Option("--stay/--once", help="Stay up after the call, or end with it.")] = True,
) -> None:
    """Everything on this machine: Asterisk, the stand-in or xAI, sipagent, and one call to see it work."""
    console = Console()
    demo.first_config(config_file, console)
    root = fetch.fetch(DEFAULT_TOOLS)
    settings = settings_of(config_file)
    coredumps.follow(wanted=settings.log.core_dumps)
    well = run_async(demo.run(demo.Demo(config_file, place_call, stay), settings, root, console))
    if not well:
        raise typer.Exit(1)
