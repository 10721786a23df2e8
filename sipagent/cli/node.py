"""Commands that run a node, look at one, or call it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from sipagent import config, coredumps, demo, dialogue, doctor, node, worker
from sipagent.app import Anew, ControlProcess
from sipagent.asterisk import fetch
from sipagent.asterisk.root import DEFAULT_TOOLS, Root, find_root
from sipagent.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    StandinOption,
    app,
    node_api,
    run_async,
    settings_of,
    until_signal,
)
from sipagent.errors import SipAgentError, ToolError
from sipagent.flow.prompts import Prompts, current_folder
from sipagent.notify import ServiceManager
from sipagent.observe import logs
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.speech import Flite
from sipagent.standin import server as standin_server
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults

console = Console()


@app.command(epilog="Example: sipagent run --config /etc/sipagent/sipagent.toml")
def run(config_file: ConfigOption = DEFAULT_CONFIG, standin: StandinOption = False) -> None:
    """The control process and its workers; Asterisk must be there already."""
    manager = ServiceManager.of(os.environ)
    settings = settings_of(config_file, standin=standin)
    if node.needs_standin(settings):
        raise ToolError("no key for xAI: set XAI_API_KEY (or [realtime] url), or try `sipagent run --standin`")
    coredumps.follow(wanted=settings.log.core_dumps)
    logs.configure(settings.log)
    options = ["--config", str(config_file), *(["--standin"] if standin else [])]

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if standin:
                root = find_root(("flite",)) or Root(None)
                await stack.enter_async_context(await standin_server.serve(node.standin_config(settings, root)))
            root = find_root(("asterisk",)) or Root(None)
            load = functools.partial(settings_of, config_file, standin=standin)
            anew = Anew(load, functools.partial(node.reload_switch, root))
            control = ControlProcess(settings, options, _flite(), anew=anew, manager=manager)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload_on_hangup, control)
            await until_signal(control.run(), control.wind_down)

    run_async(serve())


@app.command("worker", epilog="Started by `sipagent run`; by hand only to look at one worker alone.")
def run_worker(
    number: Annotated[int, typer.Argument(min=1, help="Which worker, from 1.")],
    config_file: ConfigOption = DEFAULT_CONFIG,
    standin: StandinOption = False,
) -> None:
    """One call worker."""
    settings = settings_of(config_file, standin=standin)
    coredumps.follow(wanted=settings.log.core_dumps)
    logs.configure(settings.log, worker=number)
    prompts = Prompts(current_folder(settings.run_dir / "prompts"), settings.folder)
    run_async(worker.run(settings, number, prompts, functools.partial(settings_of, config_file, standin=standin)))


@app.command(epilog="SIGHUP to the control process does the same: systemctl reload sipagent")
def reload(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Put a changed configuration in force without dropping a call; one that is wrong changes nothing."""
    settings = config.load(config_file)

    async def ask() -> tuple[int, dict[str, Any]]:
        async with node_api(settings) as http, http.post("/v1/reload") as response:
            return response.status, await response.json(content_type=None)

    status, answer = run_async(ask())
    if status != 200:
        raise ToolError(f"not reloaded, the old configuration stays in force: {answer.get('detail', status)}")
    print("reloaded; new calls follow the new configuration")
    if fixed := answer["needs_restart"]:
        print(f"changed, but read at the start only: {', '.join(f'[{name}]' for name in fixed)}")


@app.command("doctor", epilog="Example: sipagent doctor --json | jq '.[] | select(.ok | not)'")
def run_doctor(
    config_file: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, standin: StandinOption = False
) -> None:
    """Look at everything a first call needs; each line pass or fail, with the mend."""
    settings = settings_of(config_file, standin=standin)

    async def look() -> list[doctor.Check]:
        checks = []
        async for found in doctor.examine(settings):
            checks.append(found)
            if not as_json:
                mark = "pass" if found.ok else "FAIL"
                print(f"{mark}  {found.name}: {found.detail}" + (f"\n      mend: {found.mend}" if found.mend else ""))
        return checks

    checks = run_async(look())
    if as_json:
        print(json.dumps([asdict(found) for found in checks], indent=2))
    if not all(found.ok for found in checks):
        raise typer.Exit(1)


@app.command(epilog="Examples: sipagent call 100 --say 'When are you open?'   sipagent call sip:100@192.0.2.7:5060")
def call(
    target: Annotated[str, typer.Argument(help="A number at our own Asterisk, or sip:user@host:port.")],
    say: Annotated[list[str] | None, typer.Option("--say", help="What the caller says; may be repeated.")] = None,
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    record: Annotated[Path | None, typer.Option(help="Save the call as a stereo WAV file.")] = None,
) -> None:
    """Place a test call with a SIP client of ours and print what its ear got."""
    settings = settings_of(config_file)
    root = find_root(("sipp", "flite")) or Root(None)
    asterisk = settings.asterisk
    phone_config = PhoneConfig(
        server=f"{demo.reachable(asterisk.sip_address)}:{asterisk.sip_port}",
        user=asterisk.phone_user,
        password=asterisk.phone_password.get_secret_value(),
    )
    lines = tuple(dialogue.Line(text) for text in say) if say else dialogue.DEMO
    flite = Flite(root.command("flite"), demo.CALLER_VOICE)

    async def place() -> dialogue.Figures:
        async with Phone(phone_config, root.command("sipp")) as phone:
            summary = await dialogue.converse(phone, target, lines, flite.synthesize)
            if record:
                phone.save_wav(record)
        return dialogue.Figures.of(summary)

    figures = run_async(place())
    if as_json:
        print(json.dumps(asdict(figures), indent=2))
    else:
        demo.print_figures(figures, console)
    if figures.outcome != "answered":
        raise typer.Exit(1)


@app.command(epilog="Example: sipagent standin --port 8091 --fault drop@3.5")
def standin(
    port: Annotated[int, typer.Option(help="On loopback; 0 for any.")] = 8091,
    script: Annotated[Path | None, typer.Option(help="The script; a small reception by default.")] = None,
    mode: Annotated[Mode, typer.Option(help="How a turn is answered.")] = Mode.SCRIPT,
    fault: Annotated[list[str] | None, typer.Option(help="Misbehave, e.g. no-ack, drop@3.5, refuse=429.")] = None,
) -> None:
    """The stand-in alone: a realtime voice server in xAI's wire, scripted, offline."""
    flite = tuple(_flite()) if mode is Mode.SCRIPT else ("flite",)
    standin_config = StandinConfig(port=port, script=script, mode=mode, faults=parse_faults(fault or []), flite=flite)
    logs.configure(config.LogSettings())

    async def serve() -> None:
        async with await standin_server.serve(standin_config) as server:
            print(f"stand-in (not Grok) on {server.url}; any key is let in. Ctrl-C stops it.", flush=True)
            await until_signal(asyncio.Event().wait())

    run_async(serve())


@app.command("demo", epilog="This is what `make run` runs. Example: sipagent demo --no-demo")
def run_demo(
    config_file: ConfigOption = DEFAULT_CONFIG,
    place_call: Annotated[bool, typer.Option("--demo/--no-demo", help="Place the demo call.")] = True,
    stay: Annotated[bool, typer.Option("--stay/--once", help="Stay up after the call, or end with it.")] = True,
) -> None:
    """Everything on this machine: Asterisk, the stand-in or xAI, sipagent, and one call to see it work."""
    demo.first_config(config_file, console)
    root = fetch.fetch(DEFAULT_TOOLS)
    settings = settings_of(config_file)
    coredumps.follow(wanted=settings.log.core_dumps)
    well = run_async(demo.run(demo.Demo(config_file, place_call, stay), settings, root, console))
    if not well:
        raise typer.Exit(1)


def _flite() -> list[str]:
    return (find_root(("flite",)) or Root(None)).command("flite")


def _reload_on_hangup(control: ControlProcess) -> None:
    async def attempt() -> None:
        try:
            await control.reload()
        except SipAgentError as error:
            structlog.get_logger().error("reload_refused", error=str(error))

    _RELOADS.add(task := asyncio.ensure_future(attempt()))
    task.add_done_callback(_RELOADS.discard)


_RELOADS: set[asyncio.Future[None]] = set()
"""Held, or the loop might forget them."""
