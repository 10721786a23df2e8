"""Sittings as Markdown: the tables of `bench/RESULTS.md`, from the JSON that the runs left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.results import Run, Sitting, Spread

_COLUMNS = (
    "calls", "bridge", "passed", "CPU ms/cs", "of the floor", "uplink p50/p99", "pacing p50/p99", "first audio p99",
    "drift p99", "frames after barge-in, p99", "KB a call",
)  # fmt: skip


def tables(sittings: Iterable[Sitting]) -> str:
    """One table a sitting that compares, one line for each capacity found. Times in ms."""
    out = []
    for sitting in sittings:
        if sitting.compared:
            out += [_table(sitting), ""]
        for found in sitting.capacities:
            wire = "wss" if found.tls else "ws"
            out += [f"{found.bridge}, {wire}: one core carries {found.carried}, fails at {found.failed}.", ""]
    return "\n".join(out)


def _table(sitting: Sitting) -> str:
    rows = [_COLUMNS, ["---"] * len(_COLUMNS)]
    for compared in sitting.compared:
        runs = [run for run in sitting.runs if run.case.bridge == compared.bridge and run.case.calls == compared.calls]
        rows.append(
            [
                f"{compared.calls} {runs[0].case.wire}",
                compared.bridge,
                f"{compared.passed} of {compared.rounds}",
                f"{compared.cpu_ms_per_cs:.2f}",
                f"{compared.to_floor:.2f}" if compared.to_floor else "",
                f"{compared.uplink_p50_ms:.2f} / {compared.uplink_p99_ms:.2f}",
                f"{compared.pacing_p50_ms:.2f} / {compared.pacing_p99_ms:.2f}",
                f"{_median(runs, 'first_audio_ms'):.1f}",
                f"{_median(runs, 'drift_ms'):.1f}",
                f"{median(run.figures.answers.after_frames.p99 for run in runs):.0f}",
                f"{compared.kb_per_call:.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _median(runs: Sequence[Run], name: str) -> float:
    spreads: list[Spread] = [getattr(run.figures.down, name) for run in runs]
    return median(spread.p99 for spread in spreads)
