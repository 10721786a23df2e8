"""`docs/reference/api.md`, from the OpenAPI document of the application."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sipagent.app import ControlProcess
from sipagent.config import Settings
from tools.reference import MADE
from tools.reference.words import default_of, table, value_of


def document() -> dict[str, Any]:
    """The OpenAPI of a node; nothing of it runs."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(agents={"any": {"instructions": "any"}}, run_dir=Path(folder))
        return ControlProcess(settings, (), ()).api().openapi()


def page() -> str:
    """Every path, then every shape of what goes in and comes out."""
    openapi = document()
    head = f"""# API

What the control process answers at `[control] host` and `port`. {MADE} Where `[control] login = "tokens"`, it asks for
`Authorization: Bearer sipagent_...` ([security](../security.md)): each path says for whom it is, and who may more
may it too. A node shows the same at `/docs`, and as OpenAPI at `/openapi.json`. What goes wrong is told as
`application/problem+json` (RFC 9457): `title`, `detail`.
"""
    shapes: dict[str, None] = {}
    paths = [
        text
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
        for text in _operation(f"{method.upper()} {path}", operation, shapes)
    ]
    return "\n".join([head, *paths, *_shapes(openapi["components"]["schemas"], list(shapes))])


def _operation(name: str, operation: dict[str, Any], shapes: dict[str, None]) -> Iterator[str]:
    """One method of a path; the shapes that it speaks of are noted."""
    yield f"## `{name}`\n"
    if said := operation.get("description"):
        yield f"{said.strip()}\n"
    needed = operation.get("security", [{"token": ["everybody, without a token"]}])[0]["token"][0]
    yield f"For: {needed}.\n"
    yield table(
        ["parameter", "in", "value", "default"],
        [
            (
                f"`{one['name']}`",
                one["in"],
                value_of(one["schema"]),
                _default(one["schema"], needed=one.get("required")),
            )
            for one in operation.get("parameters", ())
        ],
    )
    if body := _content(operation.get("requestBody", {}), shapes):
        yield f"Body: {body}.\n"
    # What FastAPI adds for itself says no more than a problem's `detail` does.
    answers = {status: answer for status, answer in operation["responses"].items()
               if "HTTPValidationError" not in str(answer)}  # fmt: skip
    yield f"Answers: {'; '.join(f'{status} {_content(one, shapes)}'.strip() for status, one in answers.items())}.\n"


def _default(schema: dict[str, Any], *, needed: bool | None) -> str:
    return "needed" if needed else default_of(schema.get("default"))


def _content(message: dict[str, Any], shapes: dict[str, None]) -> str:
    """What a body holds: links to its shapes, or the type of something else."""
    for media_type, content in message.get("content", {}).items():
        if names := _refs(content.get("schema", {})):
            shapes |= names
            return _links(names)
        if media_type == "application/problem+json":
            continue
        if media_type != "application/json":
            return f"`{media_type}`"
    return ""


def _links(names: dict[str, None]) -> str:
    return ", ".join(f"[{name}](#{name.lower()})" for name in names)


def _refs(schema: Any) -> dict[str, None]:
    """Names of the shapes that a schema speaks of, in order."""
    found: dict[str, None] = {}
    if isinstance(schema, dict):
        for key, value in schema.items():
            found |= {str(value).rpartition("/")[2]: None} if key == "$ref" else _refs(value)
    elif isinstance(schema, list):
        for one in schema:
            found |= _refs(one)
    return found


def _shapes(schemas: dict[str, Any], names: list[str]) -> Iterator[str]:
    """Every shape that is spoken of, and those inside of it."""
    for name in names:
        schema = schemas[name]
        names += [inner for inner in _refs(schema.get("properties", {})) if inner not in names]
        needed = schema.get("required", ())
        yield f"## {name}\n"
        if said := schema.get("description"):
            yield f"{' '.join(said.split())}\n"
        yield table(
            ["field", "value", "default", ""],
            [
                (f"`{key}`", _links(_refs(field)) or value_of(field), _default(field, needed=key in needed),
                 " ".join(field.get("description", "").split()))
                for key, field in schema.get("properties", {}).items()
            ],
        )  # fmt: skip
