"""`make run`: a node from nothing, one real call to it, and then it is yours.

Asterisk from `asterisk-conf/`, the stand-in where there is no key, the control process with its workers;
then a SIP client of ours calls, talks and interrupts, and what it heard is measured at its own ear.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sipagent import config, model, node, switch
from sipagent.asterisk.root import Root
from sipagent.config import Settings
from sipagent.dialogue import DEMO, Figures, converse
from sipagent.errors import ToolError
from sipagent.model import Role
from sipagent.observe import logs
from sipagent.outcome import Result
from sipagent.patterns import KEYS
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.speech import Flite
from sipagent.standin import beside

EXAMPLE = "sipagent.example.toml"
CALLER_VOICE = "kal"
"""flite's other voice: who speaks is heard at once."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What `sipagent demo` was asked for."""

    config: Path
    call: bool = True
    stay: bool = True


def first_config(path: Path, console: Console) -> None:
    """A newcomer has no configuration yet: the example is one that works."""
    if not path.exists():
        example = Path(__file__).parents[1] / EXAMPLE
        if not example.exists():
            raise ToolError(f"{path} is missing, and so is {EXAMPLE}: run this in a checkout of sipagent")
        path.write_text(example.read_text("utf-8"), "utf-8")
        console.print(escape(f"made {path} from {EXAMPLE}: it is yours to change"))


async def run(demo: Demo, settings: Settings, root: Root, console: Console) -> bool:
    """Bring the node up, call it, stay until Ctrl-C. False when the call did not go well."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    log_file = settings.run_dir / "sipagent.log"
    with log_file.open("a", encoding="utf-8") as log:
        logs.configure(settings.log.model_copy(update={"format": "json"}), stream=log)
        # A task, so that Ctrl-C ends it wherever it is: a start that hangs, too.
        working = asyncio.create_task(_up_and_call(demo, settings, root, console, log_file), name="demo")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            console.print("stopping ...")
            working.cancel()
        try:
            well = await working
        except asyncio.CancelledError:
            well = True  # stopping is what was asked for
        console.print("stopped; nothing is left running")
    return well


async def _up_and_call(demo: Demo, settings: Settings, root: Root, console: Console, log_file: Path) -> bool:
    say = _Step(console)
    options = ["--config", str(demo.config)]
    async with contextlib.AsyncExitStack() as stack:
        if not settings.has_model:
            settings = settings.on_standin()
            options.append("--standin")
            with console.status("starting the stand-in ..."):
                await stack.enter_async_context(beside.serving(settings, tuple(root.command("flite"))))
            say("no XAI_API_KEY: the scripted stand-in answers (it is not Grok, and says so)")
        else:
            say(f"the voice model is at {settings.realtime.endpoint}")
        with console.status("starting Asterisk ..."):
            await stack.enter_async_context(switch.asterisk(settings, root, say))
        with console.status("speaking the prompts, starting the workers ..."):
            control = await stack.enter_async_context(
                node.control_process(settings, options, root, say, log_file, functools.partial(_load, demo))
            )
        well = True
        if demo.call:
            control.live.subscribe(Talk(console))
            well = await demo_call(settings, root, console)
        if demo.stay:
            _how_to_call(settings, console, log_file)
            await asyncio.Event().wait()
        console.print("stopping ...")
    return well


def _load(demo: Demo) -> Settings:
    settings = config.load(demo.config)
    return settings if settings.has_model else settings.on_standin()


async def demo_call(settings: Settings, root: Root, console: Console) -> bool:
    """One call with a greeting and three turns, the last a barge-in; prints what the caller got."""
    number = next(iter(_numbers(settings)), "100")
    flite = Flite(root.command("flite"), CALLER_VOICE)
    asterisk = settings.asterisk
    config = PhoneConfig(
        server=f"{reachable(asterisk.sip_address)}:{asterisk.sip_port}",
        user=asterisk.phone_user,
        password=asterisk.phone_password.get_secret_value(),
    )
    console.rule(f"demo call: a SIP client dials {number}")
    try:
        async with Phone(config, root.command("sipp")) as phone:
            summary = await converse(phone, number, DEMO, flite.synthesize)
    except ToolError as error:
        console.print(f"[red]the call did not go well:[/] {escape(str(error))}")
        return False
    print_figures(Figures.of(summary), console)
    return summary.outcome == "answered"


def print_figures(figures: Figures, console: Console) -> None:
    """The closing summary, as the caller's ear has it."""
    console.rule("what the caller heard")
    rows = (
        ("outcome", figures.outcome),
        ("INVITE to 200", _ms(figures.setup_ms)),
        ("INVITE to first agent audio", _ms(figures.first_agent_ms)),
        ("turns answered", str(figures.turns)),
        ("ear to ear, p50 / max", f"{_ms(figures.ear_to_ear_p50_ms)} / {_ms(figures.ear_to_ear_max_ms)}"),
        ("barge-in: agent silent after", _ms(figures.barge_in_stop_ms)),
        ("packets lost", f"{figures.packets_lost} of {figures.packets_lost + figures.packets_received}"),
        ("longest gap between packets", _ms(figures.longest_gap_ms)),
    )
    for name, value in rows:
        console.print(f"  {name:<30} {value}")


class Talk:
    """Prints the conversation as it happens, from the node's events."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, str] = {}

    def __call__(self, event: model.CallEvent) -> None:
        """One event."""
        match event:
            case model.CallAnswered():
                self._console.print(f"  [dim]answered after {event.setup_ms:.0f} ms[/]")
            case model.SessionOpened():
                self._console.print(f"  [dim]{escape(event.model)} ready after {event.connect_ms:.0f} ms[/]")
            case model.Transcript() if self._said.get(event.item_id) != event.text:
                self._said[event.item_id] = event.text
                style = "cyan" if event.role is Role.CALLER else "green"
                self._console.print(f"  [{style}]{event.role:>6}[/]  {escape(event.text)}", highlight=False)
            case model.AgentSpoke() if event.latency_ms is not None:
                own = "" if event.own_ms is None else f" ({event.own_ms:.1f} ms of it ours)"
                self._console.print(
                    f"  [dim]agent speaks {event.latency_ms:.0f} ms after the caller's last word{own}[/]"
                )
            case model.BargeIn():
                stop = "" if event.stop_ms is None else f"silent after {event.stop_ms:.0f} ms, "
                self._console.print(f"  [dim]barge-in: {stop}{event.dropped_ms} ms of speech thrown away[/]")
            case model.FalseBargeIn():
                self._console.print(f"  [dim]a noise: the agent paused {event.paused_ms} ms and went on[/]")
            case model.RealtimeTrouble():
                self._console.print(f"  [yellow]{event.what}: {escape(event.detail)}[/]")
            case model.CallEnded():
                outcome = event.outcome
                detail = f": {escape(outcome.detail)}" if outcome.detail else ""
                self._console.print(f"  [dim]ended: {outcome.result}, {outcome.reason}{detail}[/]")
                if outcome.result is Result.FAILURE:
                    self._console.print("  `.venv/bin/sipagent doctor` looks for the cause")
            case _:
                pass


class _Step:
    """A line for each part that is up."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str) -> None:
        self._console.print(f"[green]ok[/]  {escape(text)}", highlight=False)


def _numbers(settings: Settings) -> list[str]:
    """What a phone of ours can dial to reach a route, as far as that is one number."""
    phone = settings.asterisk.phone_user
    open_to_us = (route for route in settings.all_routes if not route.trunk or phone in route.trunk)
    numbers = (number for route in open_to_us for number in route.to)
    return list(dict.fromkeys(number for number in numbers if set(number) <= set(KEYS) and number != "*"))


def _how_to_call(settings: Settings, console: Console, log_file: Path) -> None:
    asterisk = settings.asterisk
    console.rule("call it yourself")
    numbers = ", ".join(_numbers(settings)) or "any number"
    console.print(f"  SIP server   {reachable(asterisk.sip_address)}:{asterisk.sip_port} (UDP)", highlight=False)
    console.print(f"  user         {asterisk.phone_user}", highlight=False)
    console.print(f"  password     {asterisk.phone_password.get_secret_value()}", highlight=False)
    console.print(f"  dial         {numbers} (600 is an echo test)", highlight=False)
    if asterisk.sip_address == "127.0.0.1":
        console.print(escape("  from another machine: set [asterisk] sip_address to this machine's address"))
    console.print(f"  log          {escape(str(log_file))}", highlight=False)
    console.print("Ctrl-C stops everything.")


def reachable(address: str) -> str:
    """Where a client on this machine finds a server that listens there."""
    return "127.0.0.1" if address == "0.0.0.0" else address


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
