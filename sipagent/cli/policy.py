"""Commands about the configuration, none of which touches a call: is it right, what would it do, what can agents do."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sipagent import config, worker
from sipagent.asterisk import shown
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, group, pair, run_async
from sipagent.config import LogSettings
from sipagent.errors import ToolError
from sipagent.flow import graph
from sipagent.flow.phrases import RECORDING
from sipagent.flow.prompts import read_recording
from sipagent.observe import logs
from sipagent.routing.facts import Invite, clean_header, facts_of
from sipagent.routing.routes import Routes
from sipagent.tools import trial

app = group()


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
    variables = settings.variables | dict(pair(text) for text in variable or [])
    if function:
        said, worked = run_async(trial.use(settings, function, arguments, variables))
    else:
        said, worked = run_async(trial.listed(settings))
    print(said)
    if not worked:
        raise typer.Exit(1)


@app.command("flow-graph", epilog="Example: sipagent flow-graph > flow.mmd    (GitHub and many wikis draw Mermaid)")
def flow_graph(
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_svg: Annotated[Path | None, typer.Option("--svg", help="Write a picture there instead.")] = None,
) -> None:
    """Routes, menus and where they lead, as a Mermaid flowchart or as SVG."""
    drawn = graph.graph(config.load(config_file))
    if as_svg:
        try:
            as_svg.write_text(graph.svg(drawn), "utf-8")
        except OSError as error:
            raise ToolError(f"{as_svg}: {error.strerror}") from None
    else:
        print(graph.mermaid(drawn), end="")
