"""Patterns of telephone numbers, in Asterisk's own words (core: text in, yes or no out).

``100`` is that number, ``+4420*`` every number that begins so, ``400-499`` a range of extensions, ``_4XX`` an
Asterisk pattern (X any digit, Z 1 to 9, N 2 to 9, ``[15-7]`` a set, ``.`` one or more of anything, ``!`` none or
more), ``*`` alone every number. A star in front or within is the key: ``*98``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import NamedTuple

_RANGE = re.compile(r"(\d+)-(\d+)")
_PLAIN = re.compile(r"[0-9A-Za-z+*#._-]+")
_CLASSES = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]", ".": ".+", "!": ".*"}
KEYS = "0123456789*#"


@functools.lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression for `fullmatch`.

    Raises:
        ValueError: it is no pattern; the text says why.
    """
    if pattern.startswith("_"):
        return re.compile(_asterisk(pattern[1:]))
    if _range_of(pattern):
        first, last = pattern.split("-")
        return re.compile("|".join(_digits_between(first, last)))
    if pattern == "*":
        return re.compile(".*")
    if pattern.endswith("*"):
        _check_plain(pattern[:-1])
        return re.compile(re.escape(pattern[:-1]) + ".*")
    _check_plain(pattern)
    return re.compile(re.escape(pattern))


def is_whole(pattern: str) -> bool:
    """Only the number that it is written as is meant."""
    return not (pattern.startswith("_") or pattern.endswith("*") or _range_of(pattern))


def matches(pattern: str, number: str) -> bool:
    """Is this number meant?"""
    return compiled(pattern).fullmatch(number) is not None


def may_become(pattern: str, digits: str) -> bool:
    """Could more keys make these digits a number that is meant? They may be one already."""
    if pattern.startswith("_"):
        tokens = _tokens(pattern[1:])
        if tokens and tokens[-1] in {".+", ".*"}:
            tokens[-1:] = ["."] * (len(digits) + 2)  # however many there are, one more is welcome
        return len(digits) < len(tokens) and all(map(re.fullmatch, tokens, digits))
    if span := _range_of(pattern):
        return (not digits or digits.isdigit()) and len(digits) < len(str(span[1])) and _begins_one_of(digits, span)
    if pattern.endswith("*") and len(pattern) > 1:
        head = pattern[:-1]
        return head.startswith(digits) or digits.startswith(head)
    return pattern.startswith(digits) and pattern != digits


def chosen(keys: Collection[str], digits: str) -> str | None:
    """Which of the keys was pressed; a key means itself before it is part of a pattern."""
    if digits in keys:  # "*" is the star key here
        return digits
    fitting = (key for key in keys if len(key) > 1 and matches(key, digits))
    return next(fitting, None) if set(digits) <= set(KEYS) else None


def bounds(key: str) -> bool:
    """Does this key of a menu say how long the number is that it stands for?"""
    return len(key) == 1 or not key.endswith((".", "!", "*"))


def covers(pattern: str, other: str) -> bool:
    """Does `pattern` surely mean every number that `other` means? False where that cannot be told."""
    if pattern in {other, "*"}:
        return True
    mine = _shapes(pattern)
    return all(any(_holds(one, theirs) for one in mine) for theirs in _shapes(other))


class _Shape(NamedTuple):
    """What may stand at each place, and how many signs more at least; None: no more."""

    places: tuple[frozenset[str], ...]
    more: int | None


def _shapes(pattern: str) -> list[_Shape]:
    if pattern.startswith("_"):
        tokens = _tokens(pattern[1:])
        more = {".+": 1, ".*": 0}.get(tokens[-1]) if tokens else None
        return [_Shape(tuple(map(_signs, tokens if more is None else tokens[:-1])), more)]
    if _range_of(pattern):
        parts = _digits_between(*pattern.split("-"))
        spread = (re.sub(r"\[0-9\]\{(\d+)\}", lambda found: "[0-9]" * int(found[1]), part) for part in parts)
        return [_Shape(tuple(_signs(token) for token in re.findall(r"\[.*?\]|.", part)), None) for part in spread]
    if pattern.endswith("*"):
        return [_Shape(tuple(frozenset(char) for char in pattern[:-1]), 0)]
    return [_Shape(tuple(frozenset(char) for char in pattern), None)]


def _signs(token: str) -> frozenset[str]:
    """The signs of one place of a pattern."""
    return frozenset(char for char in "0123456789+*#" if re.fullmatch(token, char))


def _holds(mine: _Shape, theirs: _Shape) -> bool:
    fixed = len(mine.places)
    if not all(one >= other for one, other in zip(mine.places, theirs.places, strict=False)):
        return False
    if mine.more is None:
        return theirs.more is None and len(theirs.places) == fixed
    return fixed + mine.more <= len(theirs.places) + (theirs.more or 0) and fixed <= len(theirs.places)


def _range_of(pattern: str) -> tuple[int, int] | None:
    found = _RANGE.fullmatch(pattern)
    if not found:
        return None
    if len(found[1]) != len(found[2]) or found[1].startswith("0") or int(found[1]) > int(found[2]):
        raise ValueError(f"{pattern!r}: a range goes upwards between numbers of one length, as 400-499")
    return int(found[1]), int(found[2])


def _begins_one_of(digits: str, span: tuple[int, int]) -> bool:
    missing = len(str(span[1])) - len(digits)
    lowest, highest = int(digits + "0" * missing), int(digits + "9" * missing)
    return lowest <= span[1] and span[0] <= highest


def _digits_between(first: str, last: str) -> list[str]:
    """Regular expressions that together match exactly the numbers from `first` to `last` (same length)."""
    if set(first) == {"0"} and set(last) == {"9"}:
        return [f"[0-9]{{{len(first)}}}"]
    if len(first) == 1:
        return [f"[{first}-{last}]"]
    if first[0] == last[0]:
        return [first[0] + rest for rest in _digits_between(first[1:], last[1:])]
    width = len(first) - 1
    out = [first[0] + rest for rest in _digits_between(first[1:], "9" * width)]
    if int(last[0]) - int(first[0]) > 1:
        out.append(f"[{int(first[0]) + 1}-{int(last[0]) - 1}][0-9]{{{width}}}")
    return out + [last[0] + rest for rest in _digits_between("0" * width, last[1:])]


def _asterisk(body: str) -> str:
    if not body:
        raise ValueError("'_' alone: an Asterisk pattern goes on, as _4XX")
    return "".join(_tokens(body))


def _tokens(body: str) -> list[str]:
    """One regular expression a place of an Asterisk pattern."""
    out: list[str] = []
    place = 0
    while place < len(body):
        char = body[place]
        if char in ".!" and place != len(body) - 1:
            raise ValueError(f"_{body}: {char!r} can only be last")
        if char == "[":
            end = body.find("]", place)
            inside = body[place + 1 : end] if end > 0 else ""
            if not re.fullmatch(r"(?:[0-9*#](?:-[0-9])?)+", inside):
                raise ValueError(f"_{body}: a set is written [15-7]")
            out.append("[" + re.sub(r"[*#]", lambda found: "\\" + found[0], inside) + "]")
            place = end
        elif char.upper() in _CLASSES:
            out.append(_CLASSES[char.upper()])
        elif char in "0123456789+*#":
            out.append(re.escape(char))
        else:
            raise ValueError(
                f"_{body}: {char!r} has no place in an Asterisk pattern (X, Z, N, [15-7], digits, '.', '!')"
            )
        place += 1
    return out


def _check_plain(text: str) -> None:
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} is no number: digits, +, * and #, a name, a range 400-499 or a pattern _4XX")
