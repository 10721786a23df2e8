"""Arguments as a model writes them: JSON in a text, checked against the function's schema before anything is run.

What is wrong becomes a sentence that the model can act on. The schemas come from the configuration, from type hints
and from MCP servers; one that is none is the same as no schema, since the tool checks for itself.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from typing import Any

import msgspec

_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
"""The decoder of all our wires: what it takes they can carry. NaN and half of a surrogate pair are not for them."""
MAX_TOLD = 3
"""Mistakes told at once; no more are looked for."""
MAX_CHARS = 16_000
"""Of what a model may write: a call's loop reads and checks it."""
_SHOWN_CHARS = 160


def read(text: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The arguments, or why they are none: one of the two is empty."""
    if len(text) > MAX_CHARS:
        return {}, "the arguments are too long"
    try:
        value = _ANYTHING.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        return {}, f"the arguments are no JSON: {error}"[:_SHOWN_CHARS]
    if not isinstance(value, dict):
        return {}, "the arguments must be a JSON object"
    found = []
    for wrong in itertools.islice(_validator(json.dumps(schema)).iter_errors(value), MAX_TOLD):
        place = ".".join(str(key) for key in wrong.path)
        found.append(f"{place + ': ' if place else ''}{wrong.message[:_SHOWN_CHARS]}")
    if found:
        return {}, f"the arguments do not fit: {'; '.join(found)}"
    return value, ""


def prepare(schema: Mapping[str, Any]) -> None:
    """Make the check ready: its library takes 30 ms to load, which a call that has begun has not got."""
    _validator(json.dumps(schema))


@functools.lru_cache(maxsize=512)
def _validator(schema: str) -> Any:
    # Only a worker whose agents have tools pays for it.
    import jsonschema  # noqa: PLC0415
    import referencing  # noqa: PLC0415

    kind = jsonschema.Draft202012Validator
    try:
        kind.check_schema(json.loads(schema))
    except jsonschema.SchemaError:
        return kind({"type": "object"})
    # A registry of its own: a schema that points elsewhere must not make us fetch it.
    return kind(json.loads(schema), registry=referencing.Registry())
