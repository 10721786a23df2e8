"""The command line of the benchmarks. Without a command: the parts, then a short run of the worker alone."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
import typer

from bench import (
    alone,
    arrivals,
    build,
    crowd,
    door,
    export,
    flood,
    node,
    overload,
    parts,
    processes,
    report,
    results,
    scrape,
    sitting,
    soak,
    stages,
)
from bench.chaos import report as chaos_report
from bench.chaos.faults import BY_NAME
from bench.chaos.sitting import sit
from bench.fuzz.run import again, fuzz, table
from bench.fuzz.targets import TARGETS
from bench.results import Case
from sipagent.config.sections import WebSocketName
from sipagent.errors import SipAgentError

app = typer.Typer(
    name="bench",
    help="Figures of sipagent: what it costs, how much it carries, how late it gets. Figures, not tests.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
T = TypeVar("T")
OutOption = Annotated[Path, typer.Option(help="Where the results go, as JSON.")]
BRIDGES = ("worker", "floor", "naive")
QUICK = (Case("worker", 50, seconds=4.0, settle_s=3.0), Case("floor", 50, seconds=4.0, settle_s=3.0))


@app.callback(invoke_without_command=True)
def quick(context: typer.Context) -> None:
    """The parts and a short look at the worker alone."""
    if context.invoked_subcommand is None:
        parts.main()
        print()
        _run(alone.interleave(QUICK, 1, print))


@app.command("parts")
def run_parts() -> None:
    """What one packet costs in each part of the hot path."""
    parts.main()


@app.command("alone", epilog="Example: python -m bench alone --bridge worker --bridge floor --calls 300 --rounds 4")
def run_alone(
    bridge: Annotated[list[str] | None, typer.Option(help="worker, floor or naive; may be repeated.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="At once; where a capacity search begins.")] = 100,
    tls: Annotated[bool, typer.Option("--tls/--no-tls", help="wss or ws to the model.")] = True,
    seconds: Annotated[float, typer.Option(min=1, help="The window that is measured.")] = 6.0,
    settle_s: Annotated[float, typer.Option(min=0, help="Between the last call and the window.")] = 5.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Calls a second in the ramp.")] = 25.0,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved over the bridges.")] = 1,
    fifo: Annotated[bool, typer.Option(help="Real-time scheduling for bridge and load, where permitted.")] = False,
    awake: Annotated[bool, typer.Option(help="No core sleeps: [worker] cpu_dma_latency_us = 0.")] = False,
    pure: Annotated[bool, typer.Option(help="The worker without its compiled modules.")] = False,
    websocket: Annotated[WebSocketName, typer.Option(help="The worker's library: [realtime] websocket.")] = "picows",
    capacity: Annotated[bool, typer.Option(help="Search how many calls a core carries, instead of rounds.")] = False,
    step: Annotated[int, typer.Option(min=1, help="Of the search.")] = 50,
    limit: Annotated[int, typer.Option(min=1, help="Of the search.")] = 1500,
    self_check: Annotated[bool, typer.Option(help="Break the floor on purpose: is every fault caught?")] = False,
    out: OutOption = build.BUILD / "alone.json",
) -> None:
    """The worker without Asterisk, under load: CPU, memory, delay, pacing, capacity; also the floor and the naive."""
    case = Case("", calls, tls, seconds, settle_s, rate, fifo, awake=awake, pure=pure, websocket=websocket)
    cases = [replace(case, bridge=_known(name)) for name in bridge or ["worker"]]
    if self_check:
        well = _run(alone.self_check(cases[0], print))
        print("every fault was caught" if well else "the measuring cannot be trusted")
        raise typer.Exit(0 if well else 1)
    if capacity:
        found = [_run(alone.search(case, step, limit, print)) for case in cases]
        for one in found:
            print(f"{one.bridge}, {cases[0].wire}: carries {one.carried}, fails at {one.failed or 'none tried'}")
        runs = [attempt.run for one in found for attempt in one.attempts if attempt.run]
        results.save(results.Sitting(*results.stamp(), runs, [], found), out)
        return
    table = _run(alone.interleave(cases, rounds, print))
    compared = results.compare(table)
    for row in compared:
        ratio = f", {row.to_floor:.2f} of the floor" if row.to_floor else ""
        print(f"{row.bridge}: median {row.cpu_ms_per_cs:.2f} ms/cs{ratio}; {row.passed} of {row.rounds} passed")
    results.save(results.Sitting(*results.stamp(), [run for runs in table for run in runs], compared, []), out)


@app.command("stages", epilog="Example: python -m bench stages --calls 150 --fifo")
def run_stages(
    calls: Annotated[int, typer.Option(min=1, help="At once.")] = 150,
    seconds: Annotated[float, typer.Option(min=3, help="The window that is measured.")] = 8.0,
    fifo: Annotated[bool, typer.Option(help="Real-time scheduling for worker and load, where permitted.")] = False,
    awake: Annotated[bool, typer.Option(help="No core sleeps: [worker] cpu_dma_latency_us = 0.")] = False,
    websocket: Annotated[WebSocketName, typer.Option(help="The worker's library: [realtime] websocket.")] = "picows",
) -> None:
    """Where a frame's time goes in a worker under load, stage by stage."""
    case = Case("worker", calls, seconds=seconds, fifo=fifo, awake=awake, websocket=websocket)
    print(f"\n{stages.table(_run(stages.stages(case, print)))}")


@app.command("node", epilog="Example: python -m bench node --calls 20 --per-second 2")
def run_node(
    calls: Annotated[int, typer.Option(min=1, max=100, help="SIP calls of some 20 s.")] = 10,
    per_second: Annotated[float, typer.Option(min=0.1, max=20, help="How fast they come.")] = 2.0,
    out: OutOption = build.BUILD / "node.json",
) -> None:
    """Whole node, up to a hundred phones: real Asterisk, worker, stand-in; turns as callers hear them."""
    _keep(_run(node.run(calls, per_second, print)), out)


@app.command("crowd", epilog="Example: python -m bench crowd --calls 100 --calls 200 --fifo")
def run_crowd(
    calls: Annotated[list[int] | None, typer.Option(min=1, max=800, help="At once; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=300, help="The window that is measured.")] = 8.0,
    settle_s: Annotated[float, typer.Option(min=0, max=60, help="Between the last call and the window.")] = 4.0,
    rate: Annotated[float, typer.Option(min=1, max=50, help="Calls a second in the ramp.")] = 15.0,
    fifo: Annotated[bool, typer.Option(help="Real-time priority for all of it, where permitted.")] = False,
    self_check: Annotated[bool, typer.Option(help="Leave out frames on purpose: are they missed?")] = False,
    out: OutOption = build.BUILD / "crowd.json",
) -> None:
    """Whole node, hundreds of calls: every frame followed through real Asterisk and worker, from end to end."""
    if self_check:
        well = _run(crowd.self_check(print))
        print("the loss was caught" if well else "the measuring cannot be trusted")
        raise typer.Exit(0 if well else 1)
    numbers = sorted(calls or sitting.CROWDS)
    runs = _run(crowd.rise(crowd.Case(numbers[0], seconds, settle_s, rate, fifo), numbers, print))
    _keep(crowd.Sitting(*results.stamp(), runs), out)


@app.command("setup", epilog="Example: python -m bench setup --per-second 10 --per-second 30")
def run_setup(
    per_second: Annotated[list[float] | None, typer.Option(min=0.5, max=100, help="May be repeated.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="How long at each rate.")] = 8.0,
    hold_s: Annotated[float, typer.Option(min=0.5, max=30, help="Each call, from its answer.")] = 2.0,
    fifo: Annotated[bool, typer.Option("--fifo/--no-fifo", help="Real-time scheduling, where permitted.")] = True,
    out: OutOption = build.BUILD / "setup.json",
) -> None:
    """Whole node, calls at rising rates: INVITE to 200 and to the agent's voice; the highest rate that is carried."""
    _keep(_run(arrivals.set_up(per_second or sitting.RATES, seconds, hold_s, fifo, print)), out)


@app.command("churn", epilog="Example: python -m bench churn --per-second 5 --minutes 10")
def run_churn(
    per_second: Annotated[float, typer.Option(min=0.5, max=40, help="Calls that come.")] = 5.0,
    minutes: Annotated[float, typer.Option(min=0.2, max=600, help="How long.")] = 10.0,
    hold_s: Annotated[float, typer.Option(min=0.5, max=60, help="Each call, from its answer.")] = 4.0,
    fifo: Annotated[
        bool, typer.Option("--fifo/--no-fifo", help="Real-time priority for all of it, as by default.")
    ] = True,
    out: OutOption = build.BUILD / "churn.json",
) -> None:
    """Whole node, calls come and leave: what stays behind of memory, descriptors, sockets and channels."""
    found = _run(arrivals.churn(per_second, minutes, hold_s, fifo, print))
    print("nothing is left behind" if not found.faults else "LEFT: " + ", ".join(found.faults))
    _keep(found, out)


@app.command("door")
def run_door() -> None:
    """What a token, and the audit log, cost a request of the API."""
    _run(door.measure_door(print))


@app.command("chaos", epilog="Example: python -m bench chaos --seed 7 --faults drop,worker-kill --rounds 5")
def run_chaos(
    seed: Annotated[int, typer.Option(help="Decides the order, the moments and who is struck.")] = 1,
    calls: Annotated[int, typer.Option(min=2, max=60, help="Live calls under the faults.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="How often each fault strikes.")] = 1,
    faults: Annotated[str, typer.Option(help=f"Names with commas between: {', '.join(BY_NAME)}. Empty: all.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where the tables go, as Markdown.")] = None,
) -> None:
    """Whole node under faults: how long callers hear nothing, what is lost. Exit code 1 when a call or a record is."""
    names = [name.strip() for name in faults.split(",") if name.strip()] or list(BY_NAME)
    for name in names:
        if name not in BY_NAME:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(BY_NAME)}", param_hint="--faults")
    told = f"--seed {seed} --calls {calls} --rounds {rounds}" + (f" --faults {faults}" if faults else "")
    found = _run(sit([BY_NAME[name] for name in names], calls, rounds, seed, told, print))
    text = chaos_report.markdown(found)
    print(f"\n{text}")
    if out is not None:
        out.write_text(text)
    raise typer.Exit(1 if chaos_report.lost(found) else 0)


@app.command("soak", epilog="Example: python -m bench soak --minutes 30 --rate 1")
def run_soak(
    minutes: Annotated[float, typer.Option(min=1, max=600, help="How long calls come.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.5, max=40, help="Calls a second.")] = 1.0,
    hold_s: Annotated[float, typer.Option(min=0.5, max=60, help="Each call, from its answer.")] = 4.0,
    fifo: Annotated[
        bool, typer.Option("--fifo/--no-fifo", help="Real-time priority for all of it, as by default.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Where the table goes, as Markdown.")] = None,
) -> None:
    """Whole node, calls come and leave for long: is memory flat? Exit code 1 when it grows, or something stays."""
    told = f"--minutes {minutes:g} --rate {rate:g}" + (f" --hold-s {hold_s:g}" if hold_s != 4 else "")
    found = _run(arrivals.churn(rate, minutes, hold_s, fifo, print))
    text = soak.markdown(found, told)
    print(f"\n{text}")
    if out is not None:
        out.write_text(text)
    raise typer.Exit(1 if soak.growing(found) or found.faults else 0)


@app.command("fuzz", epilog="Example: python -m bench fuzz --seconds 60 --target rtp-session")
def run_fuzz(
    seconds: Annotated[float, typer.Option(min=0.1, help="For all targets together.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Decides every input.")] = 1,
    target: Annotated[list[str] | None, typer.Option(help="May be repeated; none: all.")] = None,
    at: Annotated[int | None, typer.Option(min=0, help="Only this input, shown, and what it raises.")] = None,
) -> None:
    """What comes from outside, bent and broken: RTP, ARI, the model, the configuration. Exit code 1 for a finding."""
    known = {one.name: one for one in TARGETS}
    for name in target or ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--target")
    # What is broken on purpose need not be told of.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    chosen = [known[name] for name in target or known]
    if at is not None:
        again(chosen[0], seed, at, print)
        return
    found = [fuzz(one, seed, seconds / len(chosen)) for one in chosen]
    print(table(found))
    for one in found:
        for what, repeat in one.findings.items():
            print(f"\n{what}\n    {repeat}")
    raise typer.Exit(1 if any(one.findings for one in found) else 0)


@app.command("scrape")
def run_scrape(calls: Annotated[int, typer.Option(min=0, help="Live calls.")] = 500) -> None:
    """What a scrape of /metrics costs the control process."""
    _run(scrape.measure_scrape(calls, print))


@app.command("flood", epilog="Example: python -m bench flood --calls 100 --packets-per-second 100000")
def run_flood(
    calls: Annotated[int, typer.Option(min=1, max=1000, help="Live calls beside it.")] = 100,
    packets_per_second: Annotated[int, typer.Option(min=50, max=1_000_000, help="Of the flood.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="The window that is measured.")] = 6.0,
    fifo: Annotated[bool, typer.Option(help="Real-time scheduling for worker and load, where permitted.")] = False,
    out: OutOption = build.BUILD / "flood.json",
) -> None:
    """The worker alone, its calls' RTP ports flooded with foreign packets: does anybody hear or feel it?"""
    case = Case("worker", calls, seconds=seconds, fifo=fifo)
    _keep(flood.Sitting(*results.stamp(), _run(flood.compare(case, packets_per_second, print))), out)


@app.command("export", epilog="Example: python -m bench export --calls 50 --records 300000")
def run_export(
    calls: Annotated[int, typer.Option(min=1, max=400, help="At once.")] = sitting.EXPORT.calls,
    records: Annotated[int, typer.Option(min=1, help="Calls of the past, all of which are exported.")] = (
        sitting.EXPORT.records
    ),
    seconds: Annotated[float, typer.Option(min=1, max=300, help="The window that is measured.")] = 10.0,
    out: OutOption = build.BUILD / "export.json",
) -> None:
    """Whole node, a crowd, and exports of a year's records beside it: do callers feel them?"""
    case = crowd.Case(calls, seconds, records=records)
    _keep(export.Sitting(*results.stamp(), records, _run(export.compare(case, print))), out)


_ROOM = overload.Case()


@app.command("overload", epilog="Example: python -m bench overload --per-second 6 --core-percent 60")
def run_overload(
    core_percent: Annotated[
        int, typer.Option(min=0, max=100, help="Of [limits]: of a worker's core.")
    ] = _ROOM.core_percent,
    per_second: Annotated[float, typer.Option(min=0.5, max=60, help="Calls that come.")] = _ROOM.per_second,
    hold_s: Annotated[float, typer.Option(min=2, max=180, help="Each call, and the window.")] = _ROOM.hold_s,
    fifo: Annotated[bool, typer.Option(help="Real-time priority for all of it, where permitted.")] = _ROOM.fifo,
    out: OutOption = build.BUILD / "overload.json",
) -> None:
    """Whole node, more calls than it has room for: how do those sound that are in, and what do the others hear?"""
    case = overload.Case(core_percent, per_second, hold_s, fifo)
    found = _run(overload.overload(case, print))
    print(overload.describe(found))
    _keep(found, out)


@app.command("all", epilog="Example: python -m bench all --churn-minutes 4    python -m bench all --only crowd")
def run_all(
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(sitting.NAMES)}; may be repeated.")] = None,
    churn_minutes: Annotated[float, typer.Option(min=0.2, max=600, help="Of calls coming and leaving.")] = 10.0,
    fifo: Annotated[bool, typer.Option("--fifo/--no-fifo", help="Real-time scheduling, where permitted.")] = True,
) -> None:
    """One full sitting, some 35 minutes; the tables of bench/RESULTS.md and bench/latency.svg anew."""
    for name in only or ():
        if name not in sitting.NAMES:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(sitting.NAMES)}", param_hint="--only")
    raise typer.Exit(0 if _run(sitting.hold(only or sitting.NAMES, churn_minutes, fifo, print)) else 1)


@app.command("report", epilog="Example: python -m bench report bench/.build/crowd.json")
def run_report(
    files: Annotated[list[Path] | None, typer.Argument(help="What --out wrote; none: what `all` left.")] = None,
) -> None:
    """Earlier results as Markdown on stdout; without files, the tables of RESULTS.md and the picture anew."""
    if files:
        print("\n\n".join(report.tables([report.read(file) for file in files]).values()))
    else:
        sitting.write(print)


def _keep(found: report.Sitting, out: Path) -> None:
    results.save(found, out)
    print("\n" + "\n\n".join(report.tables([found]).values()))


def _known(name: str) -> str:
    if name not in BRIDGES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(BRIDGES)}", param_hint="--bridge")
    return name


def _run(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends it as Ctrl-C does: whatever was started is stopped first."""

    async def until_told() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(until_told())


def main() -> None:
    """Entry point: what cannot be measured becomes one line on stderr and exit code 1."""
    try:
        processes.allow_many_files()
        app()
    except SipAgentError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


if __name__ == "__main__":
    main()
