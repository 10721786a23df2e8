"""`docs/reference/configuration.md`, from the pydantic models and the texts under their fields."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sipagent.config import Settings
from sipagent.config.base import Section
from tools.reference import MADE
from tools.reference.words import default_of, table, value_of

NOT_OF_THE_FILE = {"folder"}
"""Set by whoever reads it."""


def page() -> str:
    """Every section and key."""
    head = f"""# Configuration

Every section and key of `sipagent.toml`. {MADE} `sipagent.example.toml` shows them in the order in which one
meets them; `sipagent check` names what is wrong.

Any key can be set by the environment, which goes over the file: `[control] workers` is `SIPAGENT_CONTROL__WORKERS`.
Secrets can be files named `section__key` in `SIPAGENT_SECRETS_DIR`, in systemd's credentials folder or in
`<run_dir>/secrets`; they go over the file, too. Only `asterisk__password` and `asterisk__phone_password` of
`<run_dir>/secrets` stand below it: they are made at random for whoever writes none.

A change needs `sipagent reload`; of `run_dir`, `[asterisk]`, `[media]`, `[control]`, `[records]`,
`[webhooks]`, `[worker]`, `[standin]` and `[log]` a restart.
"""
    return "\n".join([head, *_section("", Settings)])


def _section(path: str, model: type[BaseModel], heading: str = "At the top of the file") -> Iterator[str]:
    """One table of the file as text, then those below it."""
    notes, schema = _docstrings(model), model.model_json_schema()["properties"]
    rows, below = [], []
    for key, field in model.model_fields.items():
        shown = field.alias or key
        if kinds := list(_sections(field.annotation)):
            below += [(*_place(path, shown, field, kind), kind) for kind in kinds]
            if path:
                rows.append((f"`{shown}`", "table", "", f"{notes.get(key, '')} See below.".strip()))
        elif path or key not in NOT_OF_THE_FILE:
            default = "needed" if field.is_required() else default_of(field.get_default(call_default_factory=True))
            rows.append((f"`{shown}`", value_of(schema[shown]), default, notes.get(key, "")))
    yield f"## {heading}\n"
    if path:
        yield (inspect.getdoc(model) or "").replace("``", "`") + "\n"
    yield table(["key", "value", "default", ""], rows)
    for place, title, kind in below:
        yield from _section(place, kind, title)


def _place(path: str, key: str, field: FieldInfo, kind: type[Section]) -> tuple[str, str]:
    """Where a section stands in the file, and how it is headed there."""
    place = f"{path}.{key}" if path else key
    if _is(field.annotation, tuple):
        return place, f"`[[{place}]]`"
    place += ".NAME" if _is(field.annotation, dict) else ""
    if "kind" in kind.model_fields and get_origin(kind.model_fields["kind"].annotation) is Literal and path == "":
        (word,) = get_args(kind.model_fields["kind"].annotation)
        return place, f'`[{place}]` with `kind = "{word}"`'
    return place, f"`[{place}]`"


def _is(annotation: Any, origin: type) -> bool:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_origin(annotation) is origin


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """Sections that a field holds: one, or one for each name, or one of several kinds."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        yield annotation
    elif get_origin(annotation) in {Annotated, Union, UnionType, dict, tuple}:
        for inner in get_args(annotation):
            yield from _sections(inner)


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The texts under the fields of a class and of those it is made of."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not (issubclass(base, BaseModel) and base.__module__.startswith("sipagent.")):
            continue
        (tree,) = ast.parse(inspect.getsource(base)).body
        for field, below in itertools.pairwise(tree.body if isinstance(tree, ast.ClassDef) else ()):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = " ".join(words.split())
    return found
