"""Regular expressions of the operator that are held against a stranger's text.

Python's `re` goes back over its tracks: ``(a+)+$`` takes years over forty letters, and a worker that thinks about one
caller's header carries nobody's audio meanwhile. So a repetition without bound inside another one is refused when
the file is read; nobody needs it in a header or a number.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

_parser: Any = importlib.import_module("re._parser")  # private, but the only reader of its syntax there is
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT"}
_FEW = 10
"""A repetition up to here is bounded enough to stand inside another one."""


def checked(expression: str) -> str:
    """The expression itself.

    Raises:
        ValueError: it is no regular expression, or one that a stranger's text may keep busy for ever.
    """
    try:
        re.compile(expression)
        tree = _parser.parse(expression)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{expression!r} is no regular expression: {error}") from None
    if _nested(tree, inside=False):
        raise ValueError(
            f"{expression!r}: a repetition inside a repetition, as (a+)+, may take for ever over a stranger's text; "
            "write it without the outer one"
        )
    return expression


def _nested(tree: Any, *, inside: bool) -> bool:
    for operation, argument in tree:
        if str(operation) in _REPEATS:
            _, most, body = argument
            endless = most > _FEW
            if (inside and endless) or _nested(body, inside=inside or endless):
                return True
        elif any(_nested(part, inside=inside) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> list[Any]:
    """What stands within an operation: a group's body, the ways of a branch."""
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple | list):
        return [part for each in argument for part in _parts(each)]
    return []
