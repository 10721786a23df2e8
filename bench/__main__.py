"""The command line of the benchmarks. Without a command: the parts, then a short run of the worker alone."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bench import alone, build, node, parts, report, results
from bench.results import Case
from sipagent.errors import SipAgentError

app = typer.Typer(
    name="bench",
    help="Figures of sipagent: what it costs, how much it carries, how late it gets. Figures, not tests.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
T = TypeVar("T")
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
    capacity: Annotated[bool, typer.Option(help="Search how many calls a core carries, instead of rounds.")] = False,
    step: Annotated[int, typer.Option(min=1, help="Of the search.")] = 50,
    limit: Annotated[int, typer.Option(min=1, help="Of the search.")] = 1500,
    self_check: Annotated[bool, typer.Option(help="Break the floor on purpose: is every fault caught?")] = False,
    out: Annotated[Path, typer.Option(help="Where the results go, as JSON.")] = build.BUILD / "alone.json",
) -> None:
    """The worker without Asterisk, under load: CPU, memory, delay, pacing, capacity; also the floor and the naive."""
    cases = [Case(_known(name), calls, tls, seconds, settle_s, rate, fifo) for name in bridge or ["worker"]]
    if self_check:
        well = _run(alone.self_check(cases[0], print))
        print("every fault was caught" if well else "the measuring cannot be trusted")
        raise typer.Exit(0 if well else 1)
    if capacity:
        found = [_run(alone.search(case, step, limit, print)) for case in cases]
        for one in found:
            print(f"{one.bridge}, {cases[0].wire}: carries {one.carried}, fails at {one.failed or 'none tried'}")
        runs = [attempt.run for one in found for attempt in one.attempts if attempt.run]
        results.save(results.sitting(runs, [], found), out)
        return
    table = _run(alone.interleave(cases, rounds, print))
    compared = results.compare(table)
    for row in compared:
        ratio = f", {row.to_floor:.2f} of the floor" if row.to_floor else ""
        print(f"{row.bridge}: median {row.cpu_ms_per_cs:.2f} ms/cs{ratio}; {row.passed} of {row.rounds} passed")
    results.save(results.sitting([run for runs in table for run in runs], compared, []), out)


@app.command("node", epilog="Example: python -m bench node --calls 20 --per-second 2")
def run_node(
    calls: Annotated[int, typer.Option(min=1, max=100, help="SIP calls of some 20 s.")] = 10,
    per_second: Annotated[float, typer.Option(min=0.1, max=20, help="How fast they come.")] = 2.0,
) -> None:
    """The whole node: real Asterisk, worker, stand-in; what callers hear, and the CPU of each process."""
    print(node.as_json(_run(node.run(calls, per_second, print))))


@app.command("report", epilog="Example: python -m bench report bench/.build/alone.json")
def run_report(files: Annotated[list[Path], typer.Argument(help="What --out wrote.")]) -> None:
    """Earlier results as the Markdown tables of bench/RESULTS.md."""
    print(report.tables(results.load(file) for file in files))


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
        app()
    except SipAgentError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)


if __name__ == "__main__":
    main()
