"""What only the whole file shows of tools: names that are not there, fields nobody fills in, secrets left empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sipagent.config.tools import BUILT_IN, SECRET, HttpTool, McpTool, XaiTool, fields_of, schema_of

if TYPE_CHECKING:
    from sipagent.config.settings import Settings

Found = tuple[tuple[str | int, ...], str]


def tool_problems(settings: Settings, call_variables: frozenset[str]) -> Iterator[Found]:
    """Place and text of everything about tools that does not fit; `call_variables` are known of every call."""
    known = call_variables | set(settings.variables) | {collect.variable for collect in settings.collects.values()}
    known |= set(settings.digits)
    for name, agent in settings.agents.items():
        for wanted in agent.tools:
            if wanted not in settings.tools:
                there = ", ".join(sorted(settings.tools)) or "none"
                yield ("agents", name, "tools"), f"no tool {wanted!r}; there is {there}"
    for name, tool in settings.tools.items():
        if name in BUILT_IN:
            yield ("tools", name), f"{name} is a function that every call has: choose another name"
        if isinstance(tool, HttpTool):
            yield from _http(name, tool, known)
        elif isinstance(tool, McpTool):
            wants = any("{" + SECRET + "}" in text for text in tool.headers.values())
            yield from _secret(name, wants=wants, has=bool(tool.secret.get_secret_value()))
        if not isinstance(tool, XaiTool) and tool.filler.startswith("file:"):
            recording = settings.folder / tool.filler.removeprefix("file:")
            if not recording.is_file():
                yield ("tools", name, "filler"), f"there is no recording {recording}"


def _http(name: str, tool: HttpTool, known: frozenset[str]) -> Iterator[Found]:
    fields, parameters = fields_of(tool), set(schema_of(tool.parameters).get("properties", {}))
    for field in sorted(fields - {SECRET} - parameters - known):
        there = ", ".join(sorted(parameters | known | {SECRET}))
        yield ("tools", name), f"{{{field}}} is neither a parameter nor a variable; there is {there}"
    yield from _secret(name, wants=SECRET in fields, has=bool(tool.secret.get_secret_value()))


def _secret(name: str, *, wants: bool, has: bool) -> Iterator[Found]:
    place = ("tools", name, SECRET)
    if wants and not has:
        variable = f"SIPAGENT_TOOLS__{name.upper()}__SECRET"
        yield place, f"{{secret}} is used, but there is none: set {variable} or write it to tools__{name}__secret"
    if has and not wants:
        yield place, "is never used: write {secret} where it belongs, usually in headers"
