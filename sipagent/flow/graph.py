"""Routes and menus as a picture: Mermaid text, for a README, a wiki or a wall (core: settings in, text out)."""

from __future__ import annotations

from collections.abc import Iterator

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


def mermaid(settings: Settings) -> str:
    """A flowchart of every route and of every step one can reach from there."""
    lines = ["flowchart LR"]
    edges: list[tuple[str, str, str]] = []
    nodes: dict[str, str] = {}
    waiting: list[Destination] = []

    def node(destination: Destination) -> str:
        if destination not in nodes:
            nodes[destination] = f"s{len(nodes)}"
            waiting.append(destination)
        return nodes[destination]

    for place, route in enumerate(settings.all_routes, 1):
        lines.append(f'    r{place}["{_escaped(conditions(route))}"]')
        edges.append((f"r{place}", "", node(route.go)))
    while waiting:
        step = waiting.pop(0)
        left, right = _SHAPES.get(step.kind, ("[", "]"))
        lines.append(f'    {nodes[step]}{left}"{_escaped(step)}"{right}')
        edges += [(nodes[step], why, node(onward)) for why, onward in ways_out(step, settings)]
    lines += [f"    {a} -->{f'|{_escaped(why)}|' if why else ''} {b}" for a, why, b in edges]
    return "\n".join(lines) + "\n"


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
                    yield f"key {key}", (settings.call.operator or onward) if onward == "operator" else onward
            yield "no choice", menu.give_up
        case "collect":
            yield settings.collects[name].variable, settings.collects[name].then
            yield "no number", settings.collects[name].give_up
        case "announcement":
            yield "", settings.announcements[name].then
        case "queue":
            queue = settings.queues[name]
            yield from ((f"key {key}", onward) for key, onward in queue.keys.items())
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
