"""`bench/latency.svg`: how late audio gets over the number of calls, the worker alone beside the whole node."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.results import Figures

WIDTH, HEIGHT = 920, 420
_LEFT, _TOP, _PANEL_WIDTH, _PANEL_HEIGHT, _APART = 62, 62, 380, 270, 454
_SERIES: tuple[tuple[str, str, Callable[[Figures], float]], ...] = (
    ("uplink p99", "#1f77b4", lambda figures: figures.up.delay_ms.p99),
    ("pacing p99", "#d62728", lambda figures: figures.down.pacing_ms.p99),
    ("first audio p99", "#2ca02c", lambda figures: figures.down.first_audio_ms.p99),
)
_FLOOR_MS = 0.1
"""Below this nothing is told apart on the axis."""
_FRAME_MS = 20


@dataclass(frozen=True, slots=True)
class Point:
    """One run."""

    calls: int
    figures: Figures
    passed: bool


def latency(panels: Sequence[tuple[str, Iterable[Point]]], note: str) -> str:
    """Two panels, each with a title; several runs of one number of calls become their median."""
    found = [(title, _by_calls(points)) for title, points in panels]
    every = [value for _, points in found for runs in points.values() for value in _values(runs)]
    decades = range(-1, max(math.ceil(math.log10(max([*every, 30.0]))), 1) + 1)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
        f'  font-size="13" fill="#333" width="{WIDTH}" height="{HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(_LEFT, 26, "Latency over the number of calls, ms", "start", "font-size='17' font-weight='bold'"),
    ]
    for number, (title, points) in enumerate(found):
        out += _panel(_LEFT + number * _APART, title, points, decades)
    for number, (name, colour, _) in enumerate(_SERIES):
        x, y = _LEFT + 150 * number, HEIGHT - 26
        out.append(f'<path d="M{x} {y}h24" stroke="{colour}" stroke-width="2.5"/>')
        out.append(_text(x + 31, y + 4, name, "start"))
    out.append(f'<circle cx="{_LEFT + 486}" cy="{HEIGHT - 26}" r="4.5" fill="white" stroke="#333" stroke-width="2"/>')
    out.append(_text(_LEFT + 497, HEIGHT - 22, "run that did not pass", "start"))
    out.append(_text(WIDTH - 24, HEIGHT - 22, note, "end", "fill='#777' font-size='11'"))
    return "\n".join([*out, "</svg>\n"])


def _by_calls(points: Iterable[Point]) -> dict[int, list[Point]]:
    found: defaultdict[int, list[Point]] = defaultdict(list)
    for point in points:
        found[point.calls].append(point)
    return dict(sorted(found.items()))


def _values(runs: Sequence[Point]) -> list[float]:
    return [median(max(value(run.figures), _FLOOR_MS) for run in runs) for _, _, value in _SERIES]


def _panel(left: int, title: str, points: dict[int, list[Point]], decades: range) -> list[str]:
    most = max(points, default=100)
    step = next(step for step in (10, 25, 50, 100, 200, 500, 1000) if most / step <= 6 or step == 1000)
    right = math.ceil(most / step) * step

    def x(calls: float) -> float:
        return round(left + _PANEL_WIDTH * calls / right, 1)

    def y(ms: float) -> float:
        share = (math.log10(ms) - decades[0]) / (decades[-1] - decades[0])
        return round(_TOP + _PANEL_HEIGHT * (1 - share), 1)

    bottom = _TOP + _PANEL_HEIGHT
    out = [_text(left, _TOP - 12, title, "start", "font-weight='bold'")]
    for decade in decades:
        out.append(f'<path d="M{left} {y(10.0**decade)}h{_PANEL_WIDTH}" stroke="#ddd"/>')
        out.append(_text(left - 8, y(10.0**decade) + 4, f"{10.0**decade:g}", "end"))
    for calls in range(0, right + 1, step):
        out.append(f'<path d="M{x(calls)} {bottom}v5" stroke="#999"/>')
        out.append(_text(x(calls), bottom + 19, str(calls), "middle"))
    out.append(_text(left + _PANEL_WIDTH / 2, bottom + 36, "calls", "middle"))
    out.append(f'<path d="M{left} {y(_FRAME_MS)}h{_PANEL_WIDTH}" stroke="#bbb" stroke-dasharray="5 4"/>')
    out.append(_text(left + 4, y(_FRAME_MS) - 5, "one frame, 20 ms", "start", "fill='#999' font-size='11'"))
    values = {calls: _values(runs) for calls, runs in points.items()}
    for number, (_, colour, _) in enumerate(_SERIES):
        places = [(x(calls), y(of_calls[number])) for calls, of_calls in values.items()]
        line = " ".join(f"{at},{height}" for at, height in places)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for (at, height), runs in zip(places, points.values(), strict=True):
            fill = colour if all(run.passed for run in runs) else "white"
            out.append(f'<circle cx="{at}" cy="{height}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>')
    return out


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {more}>{escaped}</text>'
