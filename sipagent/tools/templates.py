"""Fills a tool's templates: each value is written as its place demands, so that it stays a value.

In a path and a query it is URL-encoded, in a body it is a JSON value or part of one, in a form a form's field, in a
header a text without line breaks. What would lead elsewhere all the same (``..`` as a folder) is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from sipagent.config.tools import FIELD
from sipagent.tools import ToolFailed

_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f]")
_CLIMBS = re.compile(r"(^|[/\\])\.{1,2}([/\\]|$)")
Values = Mapping[str, Any]
"""By field name; one that is not there is left empty."""


def text_of(value: Any) -> str:
    """A value as text, written as JSON would, without quotes around strings."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def fill(template: str, values: Values) -> str:
    """Plain text: for places that are encoded as a whole afterwards."""
    return FIELD.sub(lambda found: text_of(values.get(found[1])), template)


def fill_url(template: str, values: Values) -> str:
    """The address; host and scheme stand as they are. A query's pair whose field is not given is left out.

    Raises:
        ToolFailed: a value would leave its place in the path.
    """
    parts = urlsplit(template)

    def encode(found: re.Match[str]) -> str:
        return quote(text_of(values.get(found[1])), safe="")

    path = FIELD.sub(encode, parts.path)
    # Servers differ in when they decode: look at the path as each of them could see it.
    if any(_CLIMBS.search(seen) for seen in (path, unquote(path), unquote(unquote(path)))):
        raise ToolFailed("an argument cannot stand in an address: it leads to another folder")
    pairs = []
    for pair in parts.query.split("&") if parts.query else []:
        fields = FIELD.findall(pair)
        if not fields or any(values.get(name) is not None for name in fields):
            pairs.append(FIELD.sub(encode, pair))
    return urlunsplit((parts.scheme, parts.netloc, path or "/", "&".join(pairs), ""))


def fill_header(template: str, values: Values) -> str:
    """A header's value.

    Raises:
        ToolFailed: a value would begin a header of its own.
    """
    text = fill(template, values)
    if _LINE_BREAKS.search(text):
        raise ToolFailed("an argument cannot stand in a header: it has line breaks or control characters")
    return text


def fill_json(template: Any, values: Values) -> Any:
    """A body; a text that is one field alone becomes its value, and what is not given is left out of tables."""
    if isinstance(template, str):
        whole = FIELD.fullmatch(template)
        return values.get(whole[1]) if whole else fill(template, values)
    if isinstance(template, Mapping):
        filled = {key: fill_json(entry, values) for key, entry in template.items()}
        return {key: entry for key, entry in filled.items() if entry is not None}
    if isinstance(template, list | tuple):
        return [fill_json(entry, values) for entry in template]
    return template
