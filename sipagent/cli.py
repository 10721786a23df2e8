"""The command line: thin commands over the composition roots. Exit codes: 0 well, 1 not, 2 wrong usage."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import itertools
import json
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import aiohttp
import msgspec
import structlog
import typer
from rich.console import Console

from sipagent import __version__, config, demo, dialogue, doctor, node, secretfiles, worker
from sipagent.app import Anew, ControlProcess
from sipagent.asterisk import fetch, shown
from sipagent.asterisk import run as asterisk_run
from sipagent.asterisk.root import DEFAULT_TOOLS, Root, find_root
from sipagent.config import LogSettings, Settings
from sipagent.control.recordings.shelf import Shelf
from sipagent.errors import SipAgentError, ToolError
from sipagent.flow import graph
from sipagent.flow.phrases import RECORDING
from sipagent.flow.prompts import Prompts, current_folder, read_recording
from sipagent.observe import logs
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.routing.facts import Invite, clean_header, facts_of
from sipagent.routing.routes import Routes
from sipagent.speech import Flite
from sipagent.standin import server as standin_server
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.tools import trial

app = typer.Typer(
    name="sipagent",
    help="A SIP softswitch agent: Asterisk in front, a realtime voice model behind.",
    epilog="First steps: `sipagent demo` brings everything up and calls it; `sipagent doctor` says what is missing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
asterisk_app = typer.Typer(help="Run a private Asterisk from asterisk-conf/.", no_args_is_help=True)
app.add_typer(asterisk_app, name="asterisk")
recordings_app = typer.Typer(help="Recorded calls, as they lie on the disk of this machine.", no_args_is_help=True)
app.add_typer(recordings_app, name="recordings")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data for programs.")]
StandinOption = Annotated[bool, typer.Option("--standin", help="Use the stand-in as the voice model, no key needed.")]
DEFAULT_CONFIG = Path("sipagent.toml")

T = TypeVar("T")

console = Console()


def main() -> None:
    """Entry point: our own errors become one line on stderr and exit code 1."""
    try:
        app()
    except SipAgentError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _version(value: bool) -> None:
    if value:
        print(f"sipagent {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version


@app.command(epilog="Example: sipagent run --config /etc/sipagent/sipagent.toml")
def run(config_file: ConfigOption = DEFAULT_CONFIG, standin: StandinOption = False) -> None:
    """The control process and its workers; Asterisk must be there already."""
    settings = _settings(config_file, standin=standin)
    if node.needs_standin(settings):
        raise ToolError("no key for xAI: set XAI_API_KEY (or [realtime] url), or try `sipagent run --standin`")
    logs.configure(settings.log)
    options = ["--config", str(config_file), *(["--standin"] if standin else [])]

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if standin:
                root = find_root(("flite",)) or Root(None)
                await stack.enter_async_context(await standin_server.serve(node.standin_config(settings, root)))
            root = find_root(("asterisk",)) or Root(None)
            load = functools.partial(_settings, config_file, standin=standin)
            anew = Anew(load, functools.partial(node.reload_switch, root))
            control = ControlProcess(settings, options, _flite(), anew=anew)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload_on_hangup, control)
            await _until_signal(control.run())

    _run(serve())


@app.command("worker", epilog="Started by `sipagent run`; by hand only to look at one worker alone.")
def run_worker(
    number: Annotated[int, typer.Argument(min=1, help="Which worker, from 1.")],
    config_file: ConfigOption = DEFAULT_CONFIG,
    standin: StandinOption = False,
) -> None:
    """One call worker."""
    settings = _settings(config_file, standin=standin)
    logs.configure(settings.log, worker=number)
    prompts = Prompts(current_folder(settings.run_dir / "prompts"), settings.folder)
    _run(worker.run(settings, number, prompts, functools.partial(_settings, config_file, standin=standin)))


@app.command(epilog="SIGHUP to the control process does the same: systemctl reload sipagent")
def reload(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Put a changed configuration in force without dropping a call; one that is wrong changes nothing."""
    control = config.load(config_file).control
    url = f"http://{f'[{control.host}]' if ':' in control.host else control.host}:{control.port}/v1/reload"

    async def ask() -> tuple[int, dict[str, Any]]:
        try:
            async with aiohttp.ClientSession() as http, http.post(url) as response:
                return response.status, await response.json(content_type=None)
        except aiohttp.ClientError as error:
            raise ToolError(f"no control process answers at {url}: {error}; is `sipagent run` running?") from None

    status, answer = _run(ask())
    if status != 200:
        raise ToolError(f"not reloaded, the old configuration stays in force: {answer.get('detail', status)}")
    print("reloaded; new calls follow the new configuration")
    if fixed := answer["needs_restart"]:
        print(f"changed, but read at the start only: {', '.join(f'[{name}]' for name in fixed)}")


@app.command(epilog="Example: sipagent check sipagent.toml")
def check(
    config_file: Annotated[Path, typer.Argument(help="The configuration file.")] = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Validate the configuration: names file, line, key, what is wrong and how to mend it."""
    settings = config.load(config_file)
    Routes(settings)  # lists and calendars
    for phrase in worker.needed_prompts(settings):
        if phrase.text.startswith(RECORDING):
            read_recording(settings.folder / phrase.text.removeprefix(RECORDING))
    if as_json:
        # Secrets print as stars: pydantic's SecretStr knows itself.
        print(settings.model_dump_json(indent=2))
    else:
        print(f"{config_file}: well formed; {len(settings.agents)} agent(s), {len(settings.all_routes)} route(s)")
        for name, trunk in settings.trunks.items():
            print("\n".join(shown.trunk(name, trunk, dt.datetime.now(dt.UTC).date())))


@app.command(
    "route-test", epilog="Example: sipagent route-test --trunk vonage --to 442079460123 --at '2026-12-25 10:00'"
)
def route_test(
    to: Annotated[str, typer.Option(help="The number dialled, as the trunk writes it.")],
    trunk: Annotated[str, typer.Option(help="By which trunk or phone account it comes.")] = "",
    caller: Annotated[str, typer.Option("--from", help="Who calls; empty: hidden.")] = "",
    at: Annotated[str, typer.Option(help="Local time of this machine, or with its offset; now by default.")] = "",
    header: Annotated[list[str] | None, typer.Option(help="A SIP header, as 'X-Dept: sales'.")] = None,
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Which route takes a call, and why the ones before it do not."""
    settings = config.load(config_file)
    routes = Routes(settings)
    given = {name.lower(): value for name, value in map(_header, header or [])}
    headers = {name: clean_header(given.get(name.lower(), "")) for name in routes.headers}
    facts = facts_of(Invite(trunk, to, caller), headers, settings)
    decision = routes.decide(facts, _moment(at))
    if as_json:
        print(json.dumps(asdict(decision), indent=2))
    else:
        for looked in decision.looked:
            print(f"{'-->' if looked.fits else '   '} {looked.route}: {looked.why}")
        if decision.go is None:
            print("--> no route fits: the caller gets 404")
    if decision.go is None:
        raise typer.Exit(1)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"{text!r} is no header: write it as 'X-Dept: sales'", param_hint="--header")
    return name.strip(), value.strip()


def _moment(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text).astimezone() if text else dt.datetime.now(dt.UTC)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write it as '2026-12-24 17:30'", param_hint="--at") from None


@app.command(epilog="""Example: sipagent tool order_status '{"order": "4711"}'""")
def tool(
    function: Annotated[str, typer.Argument(help="The function's name; without one, all are listed.")] = "",
    arguments: Annotated[str, typer.Argument(help="As the model would give them: a JSON object.")] = "{}",
    config_file: ConfigOption = DEFAULT_CONFIG,
    variable: Annotated[list[str] | None, typer.Option(help="Of the call, as caller=+442079460123.")] = None,
) -> None:
    """Try what agents may do, without a call: the functions there are, or what one of them tells the model."""
    settings = config.load(config_file)
    logs.configure(LogSettings(level="error"))
    variables = settings.variables | dict(_pair(text) for text in variable or [])
    if function:
        said, worked = _run(trial.use(settings, function, arguments, variables))
    else:
        said, worked = _run(trial.listed(settings))
    print(said)
    if not worked:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write it as caller=+442079460123", param_hint="--variable")
    return name.strip(), value.strip()


@app.command("flow-graph", epilog="Example: sipagent flow-graph > flow.mmd    (GitHub and many wikis draw Mermaid)")
def flow_graph(
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_svg: Annotated[Path | None, typer.Option("--svg", help="Write a picture there instead.")] = None,
) -> None:
    """Routes, menus and where they lead, as a Mermaid flowchart or as SVG."""
    drawn = graph.graph(config.load(config_file))
    if as_svg:
        as_svg.write_text(graph.svg(drawn), "utf-8")
    else:
        print(graph.mermaid(drawn), end="")


@app.command("doctor", epilog="Example: sipagent doctor --json | jq '.[] | select(.ok | not)'")
def run_doctor(
    config_file: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, standin: StandinOption = False
) -> None:
    """Look at everything a first call needs; each line pass or fail, with the mend."""
    settings = _settings(config_file, standin=standin)

    async def look() -> list[doctor.Check]:
        checks = []
        async for found in doctor.examine(settings):
            checks.append(found)
            if not as_json:
                mark = "pass" if found.ok else "FAIL"
                print(f"{mark}  {found.name}: {found.detail}" + (f"\n      mend: {found.mend}" if found.mend else ""))
        return checks

    checks = _run(look())
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
    settings = _settings(config_file)
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

    figures = _run(place())
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
            await _until_signal(asyncio.Event().wait())

    _run(serve())


@app.command("demo", epilog="This is what `make run` runs. Example: sipagent demo --no-demo")
def run_demo(
    config_file: ConfigOption = DEFAULT_CONFIG,
    place_call: Annotated[bool, typer.Option("--demo/--no-demo", help="Place the demo call.")] = True,
    stay: Annotated[bool, typer.Option("--stay/--once", help="Stay up after the call, or end with it.")] = True,
) -> None:
    """Everything on this machine: Asterisk, the stand-in or xAI, sipagent, and one call to see it work."""
    demo.first_config(config_file, console)
    root = fetch.fetch(DEFAULT_TOOLS)
    settings = _settings(config_file)
    well = _run(demo.run(demo.Demo(config_file, place_call, stay), settings, root, console))
    if not well:
        raise typer.Exit(1)


@asterisk_app.command(epilog="Stays in the foreground; Ctrl-C or `sipagent asterisk down` stops it.")
def up(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Fetch Asterisk 22 where there is none (Debian), and run it."""
    root = fetch.fetch(("asterisk",))
    settings = _settings(config_file)

    async def serve() -> None:
        async with node.asterisk(settings, root, _say) as server:
            await _until_signal(server.wait())

    _run(serve())


@asterisk_app.command()
def down(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Stop the Asterisk that `up` runs."""
    settings = _settings(config_file)
    asterisk_config = node.asterisk_config(settings)
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
    settings = _settings(config_file)
    asterisk_config = node.asterisk_config(settings)
    if check:
        changes = shown.difference(settings, asterisk_config, find_root(("asterisk",)) or Root(None))
        print(changes or f"{asterisk_config.etc} is as {config_file} has it")
        raise typer.Exit(1 if changes else 0)
    for name, text in shown.masked(asterisk_config.files, settings, asterisk_config).items():
        print(f"; ---- {name}\n{text}")


@asterisk_app.command("reload", epilog="Transports (ports, certificates, NAT) are read at the start only.")
def reload_asterisk(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Render trunks anew and let the running Asterisk read them; no call is dropped."""
    settings = _settings(config_file)
    asterisk_config = node.asterisk_config(settings)
    _run(asterisk_run.reload(asterisk_config, find_root(("asterisk",)) or Root(None)))
    print(f"Asterisk has {len(settings.trunks)} trunk(s) from {config_file}; calls go on as they were")


@asterisk_app.command(epilog="Example: sipagent asterisk cli 'core show channels'")
def cli(
    line: Annotated[list[str], typer.Argument(help="The command.")], config_file: ConfigOption = DEFAULT_CONFIG
) -> None:
    """One command on Asterisk's own command line."""
    settings = _settings(config_file)
    root = find_root(("asterisk",)) or Root(None)
    print(_run(asterisk_run.command(node.asterisk_config(settings), root, " ".join(line))))


@recordings_app.command("list", epilog="Example: sipagent recordings list --limit 5 --json")
def list_recordings(
    config_file: ConfigOption = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """What is kept."""
    kept = Shelf(_settings(config_file)).listed(limit)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(kept)).decode())
    else:
        for one in kept:
            print(f"{one.recording_id}  {one.started:%Y-%m-%d %H:%M:%S}  {one.seconds:7.1f} s  call {one.call_id}")


@recordings_app.command(epilog="Example: sipagent recordings export 20261126T183018-9f2c41d07be3a655 call.wav")
def export(
    recording_id: Annotated[str, typer.Argument(help="As `recordings list` and the API give it.")],
    file: Annotated[Path, typer.Argument(help="Where its audio goes, decrypted.")],
    config_file: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Copy one recording to a file of its own, decrypted with the key of [recording]."""
    shelf = Shelf(_settings(config_file))
    try:
        kept = shelf.get(recording_id)
    except KeyError:
        raise ToolError(f"there is no recording {recording_id!r} in {shelf.folder}") from None
    pieces = shelf.audio(kept)
    first = next(pieces, b"")  # a wrong key shows before the file is touched
    with file.open("wb") as out:
        for piece in itertools.chain([first], pieces):
            out.write(piece)
    print(f"{file}: {kept.seconds:g} s, {kept.format}")


# --- shared by the commands


def _settings(config_file: Path, *, standin: bool = False) -> Settings:
    """The configuration; passwords nobody chose are made on the way."""
    secretfiles.ensure(config.run_dir_of(config_file))
    settings = config.load(config_file)
    return node.with_standin(settings) if standin else settings


def _say(text: str) -> None:
    print(text, flush=True)


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


async def _until_signal(work: Coroutine[Any, Any, object]) -> None:
    """Run until the work ends or somebody asks us to stop; then the work is cancelled and has cleaned up."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where there is one: its sockets and timers cost less."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(work)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - Linux only
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
