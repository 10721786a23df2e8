"""Routes and menus as a picture: Mermaid or SVG, for a README, a wiki or a wall (core: settings in, text out)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from sipagent.config import Settings
from sipagent.config.destinations import Destination
from sipagent.config.routes import Route

_SHAPES = {
    "menu": ("{{", "}}"),
    "agent": ("([", "])"),
    "queue": ("[[", "]]"),
    "voicemail": ("[(", ")]"),
    "dial": (">", "]"),
    "collect": ("[/", "/]"),
}
"""A menu is a hexagon, an agent a stadium, a mailbox a drum ..."""
_COLOURS = {
    "route": "#ffffff",
    "menu": "#fde9c9",
    "agent": "#cdebd0",
    "queue": "#cfe3f7",
    "voicemail": "#e5d9f2",
    "messages": "#e5d9f2",
    "dial": "#d3eef0",
    "collect": "#f9f3c2",
}
MARGIN, GAP, ROW = 20, 120, 62
BOX_WIDTH, BOX_HEIGHT, BOX_CHARS = 240, 38, 34
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">
<rect width="{width}" height="{height}" fill="white"/>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>"""


@dataclass(frozen=True, slots=True)
class Node:
    """A box: a route (kind ``route``) or a step; `column` counts from the left."""

    id: str
    kind: str
    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes, and arrows as (from, why, to)."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, str], ...]


def graph(settings: Settings) -> Graph:
    """Every route, and every step one can reach from there."""
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str, str]] = []
    waiting: list[Destination] = []

    def step(destination: Destination, column: int) -> str:
        if destination == "operator":
            destination = settings.call.operator or destination
        if destination not in nodes:
            nodes[destination] = Node(f"s{len(waiting)}", destination.kind, destination, column)
            waiting.append(destination)
        return nodes[destination].id

    for place, route in enumerate(settings.all_routes, 1):
        nodes[f"route {place}"] = Node(f"r{place}", "route", conditions(route), 0)
        edges.append((f"r{place}", "", step(route.go, 1)))
        if instead := route.full or settings.limits.full:
            edges.append((f"r{place}", "full", step(instead, 1)))
    for destination in waiting:  # grows while it is read
        here = nodes[destination]
        ways: dict[str, list[str]] = {}
        for why, onward in ways_out(destination, settings):
            ways.setdefault(step(onward, here.column + 1), []).append(why)
        edges += [(here.id, ", ".join(whys), to) for to, whys in ways.items()]
    return Graph(tuple(nodes.values()), tuple(edges))


def mermaid(drawn: Graph) -> str:
    """A Mermaid flowchart."""
    lines = ["flowchart LR"]
    for node in drawn.nodes:
        left, right = _SHAPES.get(node.kind, ("[", "]"))
        lines.append(f'    {node.id}{left}"{_escaped(node.text)}"{right}')
    lines += [f"    {a} -->{f'|{_escaped(why)}|' if why else ''} {b}" for a, why, b in drawn.edges]
    return "\n".join(lines) + "\n"


def svg(drawn: Graph) -> str:
    """The same as a picture that any browser shows."""
    rows: dict[int, int] = {}
    at: dict[str, tuple[int, int]] = {}
    for node in drawn.nodes:
        row = rows[node.column] = rows.get(node.column, -1) + 1
        at[node.id] = (MARGIN + node.column * (BOX_WIDTH + GAP), MARGIN + row * ROW)
    width = MARGIN * 2 + (max(rows) + 1) * (BOX_WIDTH + GAP) - GAP
    height = MARGIN * 2 + (max(rows.values()) + 1) * ROW
    parts = [_HEAD.format(width=width, height=height)]
    parts += [_arrow(at[a], at[b], why) for a, why, b in drawn.edges]
    for node in drawn.nodes:
        x, y = at[node.id]
        parts.append(
            f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
            f'fill="{_COLOURS.get(node.kind, "#eef")}" stroke="#667"/>'
            f'<text x="{x + 10}" y="{y + BOX_HEIGHT // 2 + 5}">{escape(_cut(node.text))}'
            f"<title>{escape(node.text)}</title></text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(start: tuple[int, int], end: tuple[int, int], why: str) -> str:
    (x1, y1), (x2, y2) = start, end
    y1, y2 = y1 + BOX_HEIGHT // 2, y2 + BOX_HEIGHT // 2
    if x2 > x1:
        x1, bend, turn = x1 + BOX_WIDTH, GAP // 2, -GAP // 2
    else:  # back to the left or within a column: round the right side
        x1, x2, bend, turn = x1 + BOX_WIDTH, x2 + BOX_WIDTH, GAP, GAP
    x, y = (x1 + x2 + 0.75 * (bend + turn)) / 2, (y1 + y2) / 2 - 4  # the middle of the curve
    label = f'<text x="{x:.0f}" y="{y:.0f}" fill="#445" font-size="11" text-anchor="middle">{escape(why)}</text>'
    return (
        f'<path d="M{x1} {y1} C{x1 + bend} {y1} {x2 + turn} {y2} {x2} {y2}" fill="none" stroke="#99a" '
        f'marker-end="url(#tip)"/>{label if why else ""}'
    )


def _cut(text: str) -> str:
    return text if len(text) <= BOX_CHARS else text[: BOX_CHARS - 1] + "…"


def conditions(route: Route) -> str:
    """What a route asks for, in a line."""
    parts = [
        f"{word} {', '.join(values)}"
        for word, values in (("on", route.trunk), ("to", route.to), ("from", route.caller))
        if values
    ]
    parts += [f"from {route.from_file.name}"] if route.from_file else []
    parts += [f"{header}: {expression}" for header, expression in route.headers.items()]
    if route.hours:
        parts.append(f"outside {route.hours[1:]}" if route.hours.startswith("!") else f"during {route.hours}")
    told = "; ".join(parts) or "every other call"
    return f"{route.name}: {told}" if route.name else told


def ways_out(step: Destination, settings: Settings) -> Iterator[tuple[str, Destination]]:
    """Where a step leads, and why."""
    name = step.name
    match step.kind:
        case "menu":
            menu = settings.menus[name]
            for key, onward in menu.keys.items():
                # Those stay in the menus; their arrows would hide the others.
                if onward.kind not in {"repeat", "back", "language"}:
                    yield key, onward
            yield "no choice", menu.give_up
        case "collect":
            yield settings.collects[name].variable, settings.collects[name].then
            yield "no number", settings.collects[name].give_up
        case "announcement":
            yield "", settings.announcements[name].then
        case "queue":
            queue = settings.queues[name]
            yield from ((key, onward) for key, onward in queue.keys.items())
            yield "nobody", queue.then
        case "voicemail":
            yield "", settings.mailboxes[name].then
        case "dial" if name in settings.dials:
            yield "no answer", settings.dials[name].then
        case _:
            return


def _escaped(text: str) -> str:
    """Mermaid reads HTML entities in quotes; ours are the signs it would take for its own."""
    return "".join(f"#{ord(char)};" if char in '"#|<>{}' else char for char in text)
