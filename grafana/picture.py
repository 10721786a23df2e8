"""A picture of the dashboards without Grafana: `python -m grafana.picture PROMETHEUS MINUTES FILE.svg`.

Draws tiles and lines from the dashboards' own JSON and what a Prometheus answers to their queries, with their units and
thresholds: for the documentation, and to look at a node where no Grafana is at hand.
"""

from __future__ import annotations

import json
import math
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from grafana.panels import NODE

DASHBOARDS = Path(__file__).parent / "dashboards"
SHOWN = (
    ("sipagent-noc", "Calls by state"),
    ("sipagent-latency", "Of all turns"),
    ("sipagent-latency", "What a turn is made of"),
)
WIDTH, TILE, TILES_IN_ROW, CHART_HEIGHT, STEPS = 1120, 92, 6, 200, 90
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
_BACK = {"green": "#2c8a4b", "orange": "#d98b1a", "red": "#c4333f", "blue": "#2f6fb3"}

Panel = dict[str, Any]
Line = tuple[str, list[tuple[float, float]]]


def draw(prometheus: str, minutes: float) -> str:
    """The SVG."""
    tiles = [panel for panel in _board("sipagent-noc") if panel["type"] == "stat"]
    charts = [next(p for p in _board(uid) if p["title"] == title) for uid, title in SHOWN]
    rows = math.ceil(len(tiles) / TILES_IN_ROW)
    top = 16 + rows * TILE
    height = top + CHART_HEIGHT + 90
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#15181d"/>',
    ]
    width = (WIDTH - 16) / TILES_IN_ROW
    for number, panel in enumerate(tiles):
        place = 12 + number % TILES_IN_ROW * width, 12 + number // TILES_IN_ROW * TILE
        out += _tile(panel, _lines(prometheus, panel, minutes), *place, width - 8)
    width = (WIDTH - 16) / len(charts)
    for number, panel in enumerate(charts):
        out += _chart(panel, _lines(prometheus, panel, minutes), 12 + number * width, top + 14, width - 20)
    return "\n".join([*out, "</svg>\n"])


def _board(uid: str) -> list[Panel]:
    panels: list[Panel] = json.loads((DASHBOARDS / f"{uid}.json").read_text())["panels"]
    return panels


def _lines(prometheus: str, panel: Panel, minutes: float) -> list[Line]:
    """What the panel's queries give over the last minutes: legend and points."""
    found: list[Line] = []
    now = time.time()
    for target in panel["targets"]:
        query = target["expr"].replace(NODE, 'instance=~".+"').replace("$__rate_interval", "1m")
        step = max(minutes * 60 / STEPS, 1)
        asked = urllib.parse.urlencode({"query": query, "start": now - minutes * 60, "end": now, "step": step})
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{asked}", timeout=30) as answer:  # noqa: S310
            series = json.load(answer)["data"]["result"]
        for one in series:
            legend = target["legendFormat"]
            for label, value in one["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            points = [(float(at), float(value)) for at, value in one["values"] if value not in {"NaN", "+Inf"}]
            if points:
                found.append((legend, points))
    return found


def _tile(panel: Panel, lines: list[Line], x: float, y: float, width: float) -> list[str]:
    defaults = panel["fieldConfig"]["defaults"]
    value = lines[0][1][-1][1] if lines else None
    steps = defaults["thresholds"]["steps"]
    colour = next(s["color"] for s in reversed(steps) if s["value"] is None or (value or 0.0) >= s["value"])
    shown = defaults.get("noValue", "-") if value is None else _in_unit(value, defaults["unit"])
    return [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{TILE - 8}" rx="4" fill="{_BACK[colour]}"/>',
        _text(x + 10, y + 20, panel["title"], 13, "#e8e8e8"),
        _text(x + 10, y + 64, shown, 34, "white"),
    ]


def _chart(panel: Panel, lines: list[Line], x: float, y: float, width: float) -> list[str]:
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    times = sorted({at for _, points in lines for at, _ in points})
    below = dict.fromkeys(times, 0.0)
    drawn: list[tuple[str, list[tuple[float, float]]]] = []
    for legend, points in lines:
        if stacked:
            values = dict(points)
            below = {at: low + values.get(at, 0.0) for at, low in below.items()}
            points = list(below.items())  # noqa: PLW2901 - as it is drawn
        drawn.append((legend, points))
    highest = max((value for _, points in drawn for _, value in points), default=1.0) * 1.1 or 1.0
    unit = panel["fieldConfig"]["defaults"]["unit"]
    out = [_text(x, y, panel["title"], 14, "#e8e8e8")]
    left, bottom = x + 44, y + 14 + CHART_HEIGHT
    for share in (0.0, 0.5, 1.0):
        height = bottom - share * CHART_HEIGHT
        out.append(f'<path d="M{left:.0f} {height:.0f}H{x + width:.0f}" stroke="#333a44"/>')
        out.append(_text(x, height + 4, _in_unit(highest * share, unit), 11, "#9aa4b2"))
    since, span = (times[0], (times[-1] - times[0]) or 1.0) if times else (0.0, 1.0)
    for number, (legend, points) in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(
            f"{left + (at - since) / span * (x + width - left):.0f},{bottom - value / highest * CHART_HEIGHT:.0f}"
            for at, value in points
        )
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(_text(left + number % 2 * 150, bottom + 22 + number // 2 * 16, legend, 11, colour))
    return out


def _in_unit(value: float, unit: str) -> str:
    match unit:
        case "bool_on_off":
            return "On" if value else "Off"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "s":
            return f"{value:.2f} s"
        case _:
            return f"{value:.3g}"


def _text(x: float, y: float, words: str, size: int, colour: str) -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}">{escaped}</text>'


if __name__ == "__main__":
    server, minutes_, file = sys.argv[1:]
    Path(file).write_text(draw(server, float(minutes_)))
