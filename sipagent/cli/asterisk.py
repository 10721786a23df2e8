"""Commands for a private Asterisk."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from sipagent import coredumps, switch
from sipagent.asterisk import fetch, shown
from sipagent.asterisk import run as asterisk_run
from sipagent.asterisk.root import Root, find_root
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, group, run_async, settings_of, until_signal
from sipagent.notify import ServiceManager

app = group()
asterisk_app = group(help="Run a private Asterisk from asterisk-conf/.")
app.add_typer(asterisk_app, name="asterisk")


@asterisk_app.command(epilog="Stays in the foreground; Ctrl-C or `sipagent asterisk down` stops it.")
def up(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Fetch Asterisk 22 where there is none (Debian), and run it."""
    manager = ServiceManager.of(os.environ)
    root = fetch.fetch(("asterisk",))
    settings = settings_of(config_file)
    coredumps.follow(wanted=settings.log.core_dumps)

    async def serve() -> None:
        async with switch.asterisk(settings, root, _say) as server:
            manager.tell(READY=1)
            await until_signal(server.wait())
            manager.tell(STOPPING=1)

    run_async(serve())


@asterisk_app.command()
def down(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Stop the Asterisk that `up` runs."""
    settings = settings_of(config_file)
    asterisk_config = switch.asterisk_config(settings)
    pid = asterisk_run.running_pid(asterisk_config)
    if pid is None:
        print("no Asterisk of ours is running")
        return
    os.kill(pid, signal.SIGTERM)
    print(f"told Asterisk (pid {pid}) to stop")


@asterisk_app.command(epilog="Example: sipagent asterisk render --check")
def render(
    config_file: ConfigOption = DEFAULT_CONFIG,
    check: Annotated[
        bool, typer.Option("--check", help="Show what a reload would change; exit code 1 if any.")
    ] = False,
) -> None:
    """Print what trunks and transports become in Asterisk's words, passwords hidden."""
    settings = settings_of(config_file)
    asterisk_config = switch.asterisk_config(settings)
    if check:
        changes = shown.difference(settings, asterisk_config, find_root(("asterisk",)) or Root(None))
        print(changes or f"{asterisk_config.etc} is as {config_file} has it")
        raise typer.Exit(1 if changes else 0)
    for name, text in shown.masked(asterisk_config.files, settings, asterisk_config).items():
        print(f"; ---- {name}\n{text}")


@asterisk_app.command("reload", epilog="Transports (ports, certificates, NAT) are read at the start only.")
def reload_asterisk(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Render trunks anew and let the running Asterisk read them; no call is dropped."""
    settings = settings_of(config_file)
    asterisk_config = switch.asterisk_config(settings)
    run_async(asterisk_run.reload(asterisk_config, find_root(("asterisk",)) or Root(None)))
    print(f"Asterisk has {len(settings.trunks)} trunk(s) from {config_file}; calls go on as they were")


@asterisk_app.command(epilog="Example: sipagent asterisk cli 'core show channels'")
def cli(
    line: Annotated[list[str], typer.Argument(help="The command.")], config_file: ConfigOption = DEFAULT_CONFIG
) -> None:
    """One command on Asterisk's own command line."""
    settings = settings_of(config_file)
    root = find_root(("asterisk",)) or Root(None)
    print(run_async(asterisk_run.command(switch.asterisk_config(settings), root, " ".join(line))))


def _say(text: str) -> None:
    print(text, flush=True)
