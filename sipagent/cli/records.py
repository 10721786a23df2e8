"""Commands for the records. They read the database themselves, so they work while nothing else of sipagent runs."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError

from sipagent import config
from sipagent.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, group, run_async
from sipagent.errors import ToolError
from sipagent.records import database, picture, report
from sipagent.records.service import store_for
from sipagent.records.store import Filter, Store

app = group()

T = TypeVar("T")

_AGO = re.compile(r"(\d+)\s*([mhdw])")
_UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@app.command(
    epilog="Examples: sipagent calls --since 2h --result failure   sipagent calls --number +442079460123 --json"
)
def calls(
    since: Annotated[str, typer.Option(help="30m, 2h, 7d, or '2026-12-24 17:30' of this machine's time.")] = "",
    until: Annotated[str, typer.Option(help="The same, for the end.")] = "",
    state: Annotated[str, typer.Option(help="live, ended or lost.")] = "",
    direction: Annotated[str, typer.Option(help="in or out.")] = "",
    trunk: Annotated[str, typer.Option()] = "",
    route: Annotated[str, typer.Option()] = "",
    agent: Annotated[str, typer.Option()] = "",
    result: Annotated[str, typer.Option(help="success, abandoned or failure.")] = "",
    reason: Annotated[str, typer.Option(help="As in the log: caller_hangup, realtime_lost ...")] = "",
    number: Annotated[str, typer.Option(help="Of either side, exactly.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 25,
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Calls that were, and those that are, newest first."""
    wanted = Filter(
        _moment(since, "--since"),
        _moment(until, "--until"),
        state,
        direction,
        trunk,
        route,
        agent,
        result,
        reason,
        number,
    )
    found = _read(config_file, lambda store: store.page(wanted, limit))
    if as_json:
        print(json.dumps(found.calls, indent=2))
        return
    for call in found.calls:
        print(_line(call))
    if found.next:
        print(f"... more than {limit}: --limit, or narrow it")


@app.command("call-report", epilog="Example: sipagent call-report 1790000000.42 --svg call.svg")
def call_report(
    call_id: Annotated[str, typer.Argument(help="As `sipagent calls` lists it.")],
    config_file: ConfigOption = DEFAULT_CONFIG,
    as_svg: Annotated[Path | None, typer.Option("--svg", help="Write a picture there instead.")] = None,
    as_json: JsonOption = False,
) -> None:
    """One call as a timeline: who spoke when, who waited for what, tools, interruptions."""
    record = _read(config_file, lambda store: store.call(call_id))
    if record is None:
        raise ToolError(f"no call {call_id!r} is in the records; `sipagent calls` lists them")
    if as_json:
        print(json.dumps(record, indent=2))
    elif as_svg:
        as_svg.write_text(picture.svg(report.timeline(record)), "utf-8")
    else:
        print(report.text(report.timeline(record)), end="")


def _read(config_file: Path, question: Callable[[Store], Awaitable[T]]) -> T:
    settings = config.load(config_file)
    where = settings.records.url or settings.run_dir / "records.db"
    if not settings.records.url and not Path(where).exists():
        raise ToolError(f"there are no records yet: {where} is made by `sipagent run`")

    async def ask() -> T:
        store = store_for(settings, pooled=False)
        try:
            return await question(store)
        except (*database.AWAY, SQLAlchemyError) as error:
            raise ToolError(f"the records at {where} cannot be read: {str(error).partition(chr(10))[0]}") from None
        finally:
            await store.aclose()

    return run_async(ask())


def _line(call: dict[str, Any]) -> str:
    when = dt.datetime.fromisoformat(call["start"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    lasted = "" if call["duration"] is None else report.seconds(call["duration"])
    how = call["reason"] or call["state"]
    who = f"{call['src'] or 'anonymous'} -> {call['dst']}"
    slow = "" if call["latency_max_ms"] is None else f"  answers in {report.milliseconds(call['latency_avg_ms'])}"
    turns = f"  {call['turns']} turn{'' if call['turns'] == 1 else 's'}" if call["turns"] else ""
    mos = "" if call["mos"] is None else f"  MOS {call['mos']:.1f}"
    return f"{when}  {call['id']:<18}  {who:<34} {call['agent']:<12} {lasted:>8}  {how}{turns}{slow}{mos}".rstrip()


def _moment(text: str, option: str) -> float | None:
    """Unix seconds of what somebody wrote."""
    if not text:
        return None
    if ago := _AGO.fullmatch(text.strip()):
        return dt.datetime.now(dt.UTC).timestamp() - int(ago[1]) * _UNIT_S[ago[2]]
    try:
        return dt.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write it as 2h, 7d or '2026-12-24 17:30'", param_hint=option) from None
