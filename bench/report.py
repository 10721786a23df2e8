"""Sittings as Markdown: the tables of `bench/RESULTS.md` from the JSON that the runs left, and the picture.

In RESULTS.md each kind of table stands between markers, `<!-- crowd -->` and `<!-- /crowd -->`; what is written around
them is prose, and stays. Times are ms unless a column says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import arrivals, crowd, export, flood, node, overload, picture, results
from bench.results import Run, Spread
from sipagent.errors import ToolError

Whole = crowd.Sitting | arrivals.SetUp | arrivals.Churn | export.Sitting | overload.Overload | node.Result
"""Of the whole node."""
Sitting = results.Sitting | flood.Sitting | Whole
KINDS: dict[str, Any] = {
    "alone": results.Sitting,
    "crowd": crowd.Sitting,
    "setup": arrivals.SetUp,
    "churn": arrivals.Churn,
    "flood": flood.Sitting,
    "export": export.Sitting,
    "overload": overload.Overload,
    "node": node.Result,
}


class _Kind(msgspec.Struct):
    kind: str = "alone"


def read(path: Path) -> Sitting:
    """A sitting that was saved; ToolError when it is none of this version."""
    data = path.read_bytes()
    try:
        found: Sitting = msgspec.json.decode(data, type=KINDS[msgspec.json.decode(data, type=_Kind).kind])
    except (msgspec.DecodeError, KeyError) as error:
        raise ToolError(f"{path} holds no results of this version of the bench: {error}") from None
    return found


def tables(sittings: Sequence[Sitting]) -> dict[str, str]:
    """Markdown by kind."""
    found: dict[str, list[str]] = {}
    for sitting in sittings:
        found.setdefault(sitting.kind, []).append(_render(sitting))
    return {kind: "\n\n".join(parts) for kind, parts in found.items()}


def put_into(document: str, by_kind: dict[str, str]) -> str:
    """The document with each kind's part replaced; ToolError when it has no markers for one."""
    for kind, text in by_kind.items():
        document, count = re.subn(
            rf"(<!-- {kind} -->\n).*?(<!-- /{kind} -->)",
            lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}",  # type: ignore[misc]
            document,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ToolError(f"the document needs one part between <!-- {kind} --> and <!-- /{kind} -->")
    return document


def draw(sittings: Iterable[Sitting]) -> str:
    """The picture, of what there is of it."""
    alone: list[picture.Point] = []
    whole: list[picture.Point] = []
    date = ""
    for sitting in sittings:
        if isinstance(sitting, results.Sitting):
            cases = [(run, run.case) for run in sitting.runs]
            runs = [run for run, case in cases if case.bridge == "worker" and case.tls and not case.unusual]
            alone += [picture.Point(run.case.calls, run.figures, not run.faults) for run in runs]
        elif isinstance(sitting, crowd.Sitting):
            whole += [picture.Point(run.case.calls, run.figures, not run.faults) for run in sitting.runs]
        date = max(date, sitting.started_at[:10])
    panels = (("The worker on one core, wss", alone), ("Whole node and its load together", whole))
    return picture.latency(panels, date)


def _render(sitting: Sitting) -> str:
    renderers: dict[str, Callable[[Any], str]] = {
        "alone": _alone,
        "crowd": _crowd,
        "setup": _setup,
        "churn": _churn,
        "flood": _flood,
        "export": _export,
        "overload": _overload,
        "node": _node,
    }
    return f"{renderers[sitting.kind](sitting)}\n\n{sitting.started_at[:16].replace('T', ' ')} UTC, {sitting.machine}."


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)


def _pair(spread: Spread) -> str:
    return f"{spread.p50:.2f} / {spread.p99:.2f}"


def _three(spread: Spread | None) -> str:
    return f"{spread.p50:.1f} / {spread.p95:.1f} / {spread.p99:.1f}" if spread else "not measured"


def _verdict(faults: Sequence[str]) -> str:
    return "yes" if not faults else "no: " + ", ".join(faults)


# --- the worker alone


def _alone(sitting: results.Sitting) -> str:
    parts = [_alone_compared(sitting)] if sitting.compared else []
    for found in sitting.capacities:
        failed = f"fails at {found.failed}" if found.failed else "and no more were tried"
        how = "wss" if found.tls else "ws"
        if sitting.runs:
            how += sitting.runs[0].case.unusual
        parts.append(f"{found.bridge}, {how}: one core carries {found.carried}, {failed}.")
    return "\n\n".join(parts)


def _alone_compared(sitting: results.Sitting) -> str:
    columns = ("calls", "bridge", "passed", "CPU ms/cs", "of the floor", "uplink p50/p99", "pacing p50/p99",
               "first audio p99", "drift p99", "frames after barge-in, p99", "KB a call")  # fmt: skip
    rows = []
    for one in sitting.compared:
        runs = [run for run in sitting.runs if run.case.bridge == one.bridge and run.case.calls == one.calls]
        rows.append(
            (
                f"{one.calls} {runs[0].case.wire}{runs[0].case.unusual}",
                one.bridge,
                f"{one.passed} of {one.rounds}",
                f"{one.cpu_ms_per_cs:.2f}",
                f"{one.to_floor:.2f}" if one.to_floor else "",
                f"{one.uplink_p50_ms:.2f} / {one.uplink_p99_ms:.2f}",
                f"{one.pacing_p50_ms:.2f} / {one.pacing_p99_ms:.2f}",
                f"{_median(runs, lambda run: run.figures.down.first_audio_ms.p99):.1f}",
                f"{_median(runs, lambda run: run.figures.down.drift_ms.p99):.1f}",
                f"{_median(runs, lambda run: run.figures.answers.after_frames.p99):.0f}",
                f"{one.kb_per_call:.0f}",
            )
        )
    return _table(columns, rows)


def _median(runs: Sequence[Run], figure: Callable[[Run], float]) -> float:
    return median(figure(run) for run in runs)


# --- the whole node


def _crowd(sitting: crowd.Sitting) -> str:
    columns = ("calls", "passed", "uplink p50/p99", "pacing p50/p99", "first audio p99", "added to a turn p50/p95/p99",
               "drift p99", "barge-in: frames after, p99 / max", "lost up / down", "Asterisk", "worker", "load",
               "machine busy (others)", "RSS MB Asterisk / worker")  # fmt: skip
    rows = []
    for run in sitting.runs:
        up, down, cpu = run.figures.up, run.figures.down, run.cpu_percent_a_call
        after = run.figures.answers.after_frames
        rows.append(
            (
                run.case.calls,
                _verdict(run.faults),
                _pair(up.delay_ms),
                _pair(down.pacing_ms),
                f"{down.first_audio_ms.p99:.1f}",
                _three(down.turn_added_ms),
                f"{down.drift_ms.p99:.1f}",
                f"{after.p99:.0f} / {after.max:.0f}",
                f"{up.lost} of {up.sent} / {down.lost} of {down.frames + down.lost}",
                *(f"{cpu[name]:.2f} %" for name in ("asterisk", "worker", "load")),
                f"{run.busy:.0%} ({run.others_busy:.0%})",
                f"{run.rss_kb['asterisk'] // 1024} / {run.rss_kb['worker'] // 1024}",
            )
        )
    how = (
        "Asterisk, worker and load with real-time priority"
        if sitting.runs and sitting.runs[0].case.fifo
        else "normal priority"
    )
    return f"{_table(columns, rows)}\n\nCPU in percent of one core a call; {how}."


def _setup(sitting: arrivals.SetUp) -> str:
    columns = ("calls/s", "answered", "failures", "INVITE to 200 p50 / p95 / p99",
               "INVITE to the agent's voice p50 / p95 / p99", "machine busy")  # fmt: skip
    rows = [
        (
            f"{step.per_second:g}",
            f"{step.answered} of {step.calls}",
            ", ".join(f"{what}: {count}" for what, count in step.failures.items()) or "none",
            f"{step.setup_ms.p50} / {step.setup_ms.p95} / {step.setup_ms.p99}",
            f"{step.first_audio_ms.p50} / {step.first_audio_ms.p95} / {step.first_audio_ms.p99}",
            f"{busy:.0%}",
        )
        for step, busy in zip(sitting.steps, sitting.busy, strict=True)
    ]
    bound = f"agent's voice p95 under {arrivals.MAX_FIRST_AUDIO_P95_MS:g} ms"
    carried = f"Carried without a failure, {bound}: {sitting.carried_per_second:g} calls a second."
    priority = "Asterisk, worker and load with real-time priority" if sitting.fifo else "Normal priority"
    return f"{_table(columns, rows)}\n\n{carried} {priority}."


def _churn(sitting: arrivals.Churn) -> str:
    batch, start, end = sitting.arrived, sitting.start, sitting.end
    rows: list[tuple[object, ...]] = []
    for name in ("worker", "asterisk", "control"):
        for what, series in (("RSS KB", "rss_kb"), ("descriptors", "descriptors"), ("UDP sockets", "udp_sockets"),
                             ("threads", "threads")):  # fmt: skip
            values = [getattr(level, series)[name] for level in (start, end)]
            during = [getattr(level, series)[name] for level in sitting.samples] or [0]
            rows.append((f"{name}: {what}", values[0], f"{min(during)} to {max(during)}", values[1]))
    rows.append(("channels", start.channels, max((s.channels for s in sitting.samples), default=0), end.channels))
    memory = "; ".join(
        f"{name} {', '.join(f'{level.rss_kb[name] / 1024:.1f}' for level in sitting.samples)}"
        for name in ("worker", "asterisk")
    )
    leaks = ", ".join(f"{name} {kb:+.2f}" for name, kb in sitting.leak_kb_a_call.items())
    return (
        f"{batch.calls} calls, {batch.per_second:g} a second, {batch.hold_s:g} s each: {batch.answered} answered, "
        f"{batch.heard} heard the agent. Passed: {_verdict(sitting.faults)}.\n\n"
        f"{_table(('what', 'at the start', 'meanwhile', 'at the end'), rows)}\n\n"
        f"RSS in MB, every 10 s: {memory}. Slope of the second half, KB a call: {leaks}."
    )


def _flood(sitting: flood.Sitting) -> str:
    columns = ("flood", "packets/s", "passed", "counted as foreign", "uplink p50/p99", "pacing p50/p99",
               "first audio p99", "worker CPU ms/cs")  # fmt: skip
    rows = [
        (
            one.how,
            one.sent_per_second,
            _verdict(one.faults),
            f"{one.foreign} of {one.sent}",
            _pair(one.run.figures.up.delay_ms),
            _pair(one.run.figures.down.pacing_ms),
            f"{one.run.figures.down.first_audio_ms.p99:.1f}",
            f"{one.run.cpu_ms_per_cs:.2f}",
        )
        for one in sitting.flooded
    ]
    return f"{_table(columns, rows)}\n\nBeside {sitting.flooded[0].run.case.calls} calls."


def _export(sitting: export.Sitting) -> str:
    columns = ("calls exported a second", "MB a second", "control process, cores", "passed", "uplink p50/p99",
               "pacing p50/p99", "first audio p99", "lost up / down", "machine busy")  # fmt: skip
    rows = [
        (
            f"{one.calls_a_second:g}",
            one.megabytes_a_second,
            one.control_cores,
            _verdict(one.run.faults),
            _pair(one.run.figures.up.delay_ms),
            _pair(one.run.figures.down.pacing_ms),
            f"{one.run.figures.down.first_audio_ms.p99:.1f}",
            f"{one.run.figures.up.lost} / {one.run.figures.down.lost}",
            f"{one.run.busy:.0%}",
        )
        for one in sitting.runs
    ]
    about = f"Beside {sitting.runs[0].run.case.calls} calls; the records hold {sitting.records} calls."
    return f"{_table(columns, rows)}\n\n{about}"


def _overload(found: overload.Overload) -> str:
    up, down = found.figures.up, found.figures.down
    rows = [
        ("calls offered at once", f"{found.offered:g}"),
        ("calls up, on average", f"{found.up:g} ({100 * found.offered / max(found.up, 1):.0f} % were offered)"),
        ("came / turned away", f"{found.admitted + found.turned_away} / {found.turned_away}"),
        ("turned away: INVITE to a voice, p50 / p95 / p99", _percentiles(found.told_ms)),
        ("let in: INVITE to 200, p50 / p95 / p99", _percentiles(found.setup_ms)),
        ("let in: INVITE to the agent's voice, p50 / p95 / p99", _percentiles(found.first_audio_ms)),
        ("let in: pacing p50 / p99", _pair(down.pacing_ms)),
        ("let in: uplink p50 / p99", _pair(up.delay_ms)),
        ("let in: frames lost to the caller", f"{down.lost} of {down.frames + down.lost}"),
        ("cores", ", ".join(f"{name} {used:.2f}" for name, used in found.cores.items())),
        ("machine busy", f"{found.busy:.0%}"),
        ("passed", _verdict(found.faults)),
    ]
    case = found.case
    priority = "worker and Asterisk with priority" if case.fifo else "no priority"
    about = f"`core_percent = {case.core_percent}`, {priority}, calls of {case.hold_s:g} s."
    return f"{_table(('what', 'measured'), rows)}\n\n{about}"


def _percentiles(spread: arrivals.Spread) -> str:
    return f"{spread.p50} / {spread.p95} / {spread.p99}"


def _node(result: node.Result) -> str:
    named = (
        ("INVITE to 200", result.setup_ms),
        ("INVITE to the first agent audio (150 of it the stand-in's)", result.first_agent_ms),
        ("added per turn (the model's 500 + 300 taken off)", result.added_ms),
        ("barge-in: onset of speech to arrival of the agent's last voiced frame", result.barge_in_stop_ms),
        ("longest gap between two packets of a call", result.longest_gap_ms),
    )
    rows = [(name, spread.p50, spread.p95, spread.max) for name, spread in named if spread]
    cpu = ", ".join(f"{name} {percent:.2f} %" for name, percent in result.cpu_percent_a_call.items())
    return (
        f"{_table(('what', 'p50', 'p95', 'max'), rows)}\n\n"
        f"{result.answered} of {result.calls} calls answered, {result.turns_answered} turns, {result.packets_lost} of "
        f"{result.packets_received + result.packets_lost} packets lost, {result.descriptors[0]} descriptors of the "
        f"worker before and {result.descriptors[1]} after, {result.channels_left}. CPU of one core a call: {cpu}."
    )
