"""Checking JSON the way OpenAI does: strictly, at the first fault, with its words, codes and paths. Pure.

A check is a function of a value and its path; the makers below build them from each other, so that a schema
reads like one (`openai_schema.py`). An object takes no key that it does not list; an optional key may be left
out, but not be null unless it is `nullable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sipagent.standin.wire import Refusal

Check = Callable[[object, str], None]
"""Raises Refusal for a value (the second argument is its path) that does not fit."""

_SHOWN = 100  # characters of a client's value that an error repeats


def anything(_value: object, _path: str) -> None:
    """No check."""


def nullable(check: Check) -> Check:
    """That, or null."""

    def run(value: object, path: str) -> None:
        if value is not None:
            check(value, path)

    return run


def text(longest: int | None = None) -> Check:
    """A string."""

    def run(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, path, "a string")
        if longest is not None and len(value) > longest:
            raise Refusal(
                f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, "
                f"but got a string with length {len(value)} instead.",
                code="string_above_max_length",
                param=path,
            )

    return run


def flag(value: object, path: str) -> None:
    """A boolean."""
    if not isinstance(value, bool):
        raise wrong_type(value, path, "a boolean")


def whole(low: int, high: int) -> Check:
    """An integer within limits."""

    def run(value: object, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, path, "an integer")
        _within(value, path, low, high, "integer")

    return run


def number(low: float, high: float) -> Check:
    """A number within limits."""

    def run(value: object, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(value, path, "a decimal")
        _within(value, path, low, high, "decimal")

    return run


def one_of(*values: str) -> Check:
    """One of these strings."""

    def run(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, path, f"one of {listed(values, 'or')}")
        if value not in values:
            raise unsupported(value, values, path)

    return run


def array(check: Check) -> Check:
    """A list of such."""

    def run(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(value, path, "an array")
        for index, entry in enumerate(value):
            check(entry, f"{path}[{index}]")

    return run


def record(required: Sequence[str] = (), /, **fields: Check) -> Check:
    """An object of these keys and no other."""

    def run(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        at = f"{path}." if path else ""
        for key in required:
            if key not in value:
                raise missing(at + key)
        for key, entry in value.items():
            check = fields.get(key)
            if check is None:
                raise Refusal(f"Unknown parameter: '{at}{key[:_SHOWN]}'.", code="unknown_parameter", param=at + key)
            check(entry, at + key)

    return run


def tagged(key: str, variants: Mapping[str, Check]) -> Check:
    """An object whose `key` says which of these it is."""

    def run(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        where = f"{path}.{key}" if path else key
        if key not in value:
            raise missing(where)
        tag = value[key]
        if not isinstance(tag, str):
            raise wrong_type(tag, where, f"one of {listed(tuple(variants), 'or')}")
        if tag not in variants:
            raise unsupported(tag, tuple(variants), where)
        variants[tag](value, path)

    return run


def either(first: type, check: Check, otherwise: Check) -> Check:
    """Values of that type by one check, all others by the other."""

    def run(value: object, path: str) -> None:
        (check if isinstance(value, first) else otherwise)(value, path)

    return run


def mapping(entries: int, key: int, value: int) -> Check:
    """An object of strings by free names, with limits on their number and lengths."""
    entry = text(value)

    def run(body: object, path: str) -> None:
        if not isinstance(body, dict):
            raise wrong_type(body, path, "an object")
        if len(body) > entries:
            message = f"Invalid '{path}': too many properties. Expected an object with at most {entries} properties"
            raise Refusal(
                f"{message}, but got an object with {len(body)} properties instead.",
                code="object_above_max_properties",
                param=path,
            )
        for name, content in body.items():
            text(key)(name, path)
            entry(content, f"{path}.{name[:_SHOWN]}")

    return run


# ---- words


def missing(path: str) -> Refusal:
    """A required key is not there."""
    return Refusal(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def wrong_type(value: object, path: str, expected: str) -> Refusal:
    """Another JSON type than expected; a path of '' is the frame itself."""
    name = path or "event"
    return Refusal(
        f"Invalid type for '{name}': expected {expected}, but got {_type(value)} instead.",
        code="invalid_type",
        param=path or None,
    )


def unsupported(value: str, values: Sequence[str], path: str) -> Refusal:
    """A string that is none of those known."""
    known = f"Supported values are: {listed(values, 'and')}"
    return Refusal(f"Invalid value: '{value[:_SHOWN]}'. {known}.", code="invalid_value", param=path)


def listed(values: Sequence[str], last: str) -> str:
    """Quoted, with commas and an 'and' or 'or'."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return f" {last} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {last} {quoted[-1]}"


def _within(value: float, path: str, low: float, high: float, kind: str) -> None:
    if low <= value <= high:
        return
    side, sign, limit = ("below_min", ">=", low) if value < low else ("above_max", "<=", high)
    words = f"{kind} {side.replace('_', ' ')}imum value. Expected a value {sign} {limit}, but got {value} instead."
    raise Refusal(f"Invalid '{path}': {words}", code=f"{kind}_{side}_value", param=path)


def _type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
