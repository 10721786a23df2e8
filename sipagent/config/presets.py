"""What is known of each kind of trunk, read from `presets.toml`: a trunk's own keys, dated, with their source."""

from __future__ import annotations

import datetime as dt
import functools
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("presets.toml")


class Preset(BaseModel):
    """One table of presets.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    date: dt.date
    """When its facts were gathered."""
    sources: tuple[str, ...]
    note: str = ""
    trunk: dict[str, Any]
    """Values of `[trunks.NAME]` that the operator leaves unset."""
    endpoint: dict[str, str] = {}
    """PJSIP endpoint options that only this far end needs."""
    aor: dict[str, str] = {}
    """Likewise for where it registers (`accept`)."""


@functools.cache
def presets() -> dict[str, Preset]:
    """All of them, by name."""
    return {name: Preset(**table) for name, table in tomllib.loads(FILE.read_text("utf-8")).items()}


def under(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the operator gave, over the preset's values; tables are merged key by key."""
    return _merged(presets()[name].trunk, given)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            out[key] = _merged(below[key], above[key])
    return out
