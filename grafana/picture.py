"""Pictures of the dashboards without Grafana: `python -m grafana.picture PROMETHEUS MINUTES FOLDER`.

Each is drawn from the dashboard's own JSON (its places, units and thresholds) and what a Prometheus answers to its
queries: for the documentation, and to look at a node where no Grafana is at hand.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from grafana.panels import CALL, NODE, WIDTH

DASHBOARDS = Path(__file__).parent / "dashboards"
CELL_WIDTH, CELL_HEIGHT, GAP, HEAD, LINE, STEPS = 48, 32, 6, 26, 17, 60
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
_BACK = {"green": "#2c8a4b", "orange": "#d98b1a", "red": "#c4333f", "blue": "#2f6fb3"}
_WIDE, _DIM, _LINE = 6.2, "#9aa4b2", "#333a44"
"""Of a letter, about."""

Panel = dict[str, Any]
Point = tuple[float, float]


class Series(NamedTuple):
    """One line of a panel, or the latest of it."""

    target: int
    legend: str
    labels: dict[str, str]
    points: list[Point]


class Box(NamedTuple):
    """Where a panel lies, in pixels."""

    x: float
    y: float
    width: float
    height: float


def draw(prometheus: str, dashboard: Path, minutes: float) -> str:
    """The SVG of one dashboard over the last minutes."""
    board = json.loads(dashboard.read_text())
    below = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = WIDTH * CELL_WIDTH, HEAD + 8 + below * CELL_HEIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#15181d"/>',
        _text(10, HEAD - 6, board["title"], 18, "white"),
    ]
    for panel in board["panels"]:
        at = panel["gridPos"]
        box = Box(at["x"] * CELL_WIDTH + GAP, HEAD + at["y"] * CELL_HEIGHT + GAP,
                  at["w"] * CELL_WIDTH - GAP, at["h"] * CELL_HEIGHT - GAP)  # fmt: skip
        if panel["type"] == "row":
            out.append(_text(box.x, box.y + 18, panel["title"], 14, "#c8d0da"))
            continue
        drawn = {"stat": _tile, "timeseries": _chart, "table": _table, "text": _blank}[panel["type"]]
        out += drawn(panel, list(_series(prometheus, panel, minutes)), box)
    return "\n".join([*out, "</svg>\n"])


def _series(prometheus: str, panel: Panel, minutes: float) -> Iterator[Series]:
    """What the panel's queries give: over the last minutes, or now where that is what they ask."""
    now = time.time()
    step = max(minutes * 60 / STEPS, 1)
    for number, target in enumerate(panel.get("targets", ())):
        query = target["expr"].replace(NODE, 'instance=~".+"').replace(CALL, 'call_id=~".+"')
        query = query.replace("$__rate_interval", "1m")
        asked = {"query": query} | (
            {"time": now} if target.get("instant") else {"start": now - minutes * 60, "end": now, "step": step}
        )
        kind = "query" if target.get("instant") else "query_range"
        url = f"{prometheus}/api/v1/{kind}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
            found = json.load(answer)["data"]["result"]
        for one in found:
            legend = target.get("legendFormat", "")
            for label, value in one["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            values = one["values"] if "values" in one else [one["value"]]
            points = [(float(at), float(value)) for at, value in values if value not in {"NaN", "+Inf", "-Inf"}]
            if points:
                yield Series(number, legend, one["metric"], points)


def _frame(panel: Panel, box: Box, colour: str = "#1d2128") -> list[str]:
    place = f'x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"'
    return [
        f'<rect {place} rx="4" fill="{colour}"/>',
        _text(box.x + 8, box.y + 17, _cut(panel["title"], box.width), 12, "#e8e8e8"),
    ]


def _blank(panel: Panel, _found: list[Series], box: Box) -> list[str]:
    """What comes from elsewhere."""
    return _frame(panel, box)


def _tile(panel: Panel, found: list[Series], box: Box) -> list[str]:
    defaults = panel["fieldConfig"]["defaults"]
    value = found[0].points[-1][1] if found else None
    shown = defaults.get("noValue", "-") if value is None else _in_unit(value, defaults["unit"])
    size = min(30, box.width / max(len(shown), 1) * 1.6)
    return [
        *_frame(panel, box, _colour(defaults["thresholds"]["steps"], value)),
        _text(box.x + 8, box.y + box.height / 2 + 18, shown, size, "white"),
    ]


def _colour(steps: list[dict[str, Any]], value: float | None) -> str:
    return _BACK[
        next(step["color"] for step in reversed(steps) if step["value"] is None or (value or 0.0) >= step["value"])
    ]


def _chart(panel: Panel, found: list[Series], box: Box) -> list[str]:
    out = _frame(panel, box)
    if not found:
        return [*out, _text(box.x + box.width / 2 - 24, box.y + box.height / 2, "no data", 12, _DIM)]
    defaults = panel["fieldConfig"]["defaults"]
    lines = (
        _stacked(found) if defaults["custom"].get("stacking", {}).get("mode") == "normal" else [s.points for s in found]
    )
    legends = list(_wrapped([series.legend for series in found], box.width - 16))
    left, top, right = box.x + 54, box.y + 30, box.x + box.width - 8
    bottom = box.y + box.height - 8 - LINE * (1 + max(row for row, *_ in legends))
    highest = max(value for points in lines for _, value in points) * 1.1 or 1.0
    for share in (0.0, 0.5, 1.0):
        height = bottom - share * (bottom - top)
        out.append(f'<path d="M{left:.0f} {height:.0f}H{right:.0f}" stroke="{_LINE}"/>')
        out.append(_text(box.x + 6, height + 4, _in_unit(highest * share, defaults["unit"]), 10, _DIM))
    since, until = min(points[0][0] for points in lines), max(points[-1][0] for points in lines)
    for number, points in enumerate(lines):
        across, up = (right - left) / (until - since or 1), (bottom - top) / highest
        path = " ".join(f"{left + (at - since) * across:.0f},{bottom - value * up:.0f}" for at, value in points)
        colour = COLOURS[number % len(COLOURS)]
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for number, (row, x, legend) in enumerate(legends):
        out.append(_text(box.x + 8 + x, bottom + 16 + row * LINE, legend, 11, COLOURS[number % len(COLOURS)]))
    return out


def _stacked(found: list[Series]) -> list[list[Point]]:
    below = dict.fromkeys(sorted({at for series in found for at, _ in series.points}), 0.0)
    lines = []
    for series in found:
        values = dict(series.points)
        below = {at: low + values.get(at, 0.0) for at, low in below.items()}
        lines.append(list(below.items()))
    return lines


def _wrapped(legends: list[str], width: float) -> Iterator[tuple[int, float, str]]:
    """Each legend with its row and how far to the right it stands there."""
    row, x = 0, 0.0
    for legend in legends:
        needed = len(legend) * _WIDE + 16
        if x and x + needed > width:
            row, x = row + 1, 0.0
        yield row, x, legend
        x += needed


def _table(panel: Panel, found: list[Series], box: Box) -> list[str]:
    out, queries = _frame(panel, box), [target.get("legendFormat", "") for target in panel["targets"]]
    labels = list(dict.fromkeys(label for series in found for label in series.labels))
    columns = [*labels, *queries]
    rows: dict[tuple[str, ...], list[str]] = {}
    units = {rule["matcher"]["options"]: rule["properties"] for rule in panel["fieldConfig"].get("overrides", [])}
    for series in found:
        key = tuple(series.labels.get(label, "") for label in labels)
        unit = next((p["value"] for p in units.get(queries[series.target], []) if p["id"] == "unit"), "short")
        rows.setdefault(key, [""] * len(queries))[series.target] = _in_unit(series.points[-1][1], unit)
    lines = [columns, *([*key, *values] for key, values in rows.items())]
    longest = [max(map(len, cells)) + 2 for cells in zip(*lines, strict=True)]
    letter = min((box.width - 16) / max(sum(longest), 1), 2 * _WIDE)
    for number, cells in enumerate(lines[: int((box.height - 30) / LINE)]):
        y, x, colour = box.y + 36 + number * LINE, box.x + 8, "#e8e8e8" if number else _DIM
        for cell, length in zip(cells, longest, strict=True):
            out.append(_text(x, y, _cut(cell, length * letter), 11, colour))
            x += length * letter
    return out if rows else [*out, _text(box.x + 8, box.y + 36 + LINE, "none", 11, _DIM)]


def _in_unit(value: float, unit: str) -> str:
    match unit:
        case "bool_on_off":
            return "On" if value else "Off"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "s" if value >= 120:
            return f"{value / 60:.0f} min"
        case "s":
            return f"{value:.3g} s" if value >= 0.1 or not value else f"{value * 1000:.3g} ms"
        case "bytes":
            return f"{value / 2**20:.3g} MiB"
        case _:
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _cut(words: str, width: float) -> str:
    most = int(width / _WIDE) - 1
    return words if len(words) <= most else words[: most - 2] + ".."


def _text(x: float, y: float, words: str, size: float, colour: str) -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size:.0f}" fill="{colour}">{escaped}</text>'


if __name__ == "__main__":
    server, minutes_, folder = sys.argv[1:]
    for file in sorted(DASHBOARDS.glob("*.json")):
        (Path(folder) / file.stem.removeprefix("sipagent-")).with_suffix(".svg").write_text(
            draw(server, file, float(minutes_))
        )
