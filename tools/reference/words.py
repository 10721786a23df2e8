"""What the pages have in common: tables, and how a type and a default are said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; nothing without rows."""
    cells = [[cell(text) for text in row] for row in rows]
    lines = [" | ".join(row) for row in (heading, ["---"] * len(heading), *cells)]
    return "".join(f"| {line} |\n" for line in lines) if cells else ""


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "none"}


def value_of(schema: dict[str, Any]) -> str:
    """What may stand there, in a few words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" if value != "" else "empty" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(value_of(one) for one in schema["anyOf"] if one.get("type") != "null"))
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}"
        case "array":
            return f"list of {value_of(schema.get('items', {})) or 'values'}"
        case "object":
            inner = schema.get("additionalProperties")
            return f"table of {value_of(inner)}" if isinstance(inner, dict) and value_of(inner) else "table"
        case "string" if schema.get("format") == "password":
            return "secret"
        case str(name):
            return _WORDS[name] + _bounds(schema)
        case _:
            return "table" if "$ref" in schema else ""


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}" if abs(high) < 1e6 else f", {low} to {high}"
    if low is not None:
        return f", {low:g} or more"
    if "exclusiveMinimum" in schema:
        return f", more than {schema['exclusiveMinimum']:g}" + (f", to {high:g}" if high is not None else "")
    return ""


def default_of(value: Any) -> str:
    """A default as TOML writes it."""
    match value:
        case None:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case SecretStr():
            return '`""`'
        case str() | Path():
            return f'`"{value}"`'
        case tuple() | list():
            return f"`[{', '.join(default_of(one).strip('`') for one in value)}]`"
        case dict():
            return "`{}`"
        case _:
            return f"`{value}`"


def cell(text: str) -> str:
    """What may stand in a table."""
    return text.replace("|", "\\|").replace("\n", " ")
