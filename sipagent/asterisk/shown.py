"""What an operator gets to see of the switch: its trunks in words, files and their differences without secrets."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from sipagent.asterisk.conf import AsteriskConfig, rendered
from sipagent.asterisk.root import Root
from sipagent.config import Settings, Trunk
from sipagent.config.presets import presets

HIDDEN = "********"
_SECRET_LINE = re.compile(r"^(password = |secret = |(\S+) => (?=\d+,\2,)).*$", re.MULTILINE)
"""A mailbox is NAME => PIN,NAME,...: its name stands on both sides of the PIN, as that of no other line does."""
STALE_DAYS = 180
"""Carriers announce new networks some months ahead."""


def trunk(name: str, one: Trunk, today: dt.date) -> list[str]:
    """A trunk in a few lines: what is in force, and how old the preset's facts are."""
    preset = presets()[one.preset]
    where = ", ".join(one.hosts) or ("registers with us" if one.auth.kind == "accept" else "no calls out")
    secured = f"SRTP {one.srtp}" if one.srtp != "off" else "no SRTP"
    networks = ", ".join(one.networks) or {"accept": "anywhere, by password", "register": "by its registration"}.get(
        one.auth.kind, "none"
    )
    whose = " (the preset's)" if one.networks and list(one.networks) == preset.trunk.get("networks") else ""
    age_days = (today - preset.date).days
    stale = whose and age_days > STALE_DAYS
    return [
        f"trunk {name}: {preset.title}; preset {one.preset} of {preset.date} ({preset.sources[0]})",
        f"  out       {where}; {one.transport}, {secured}, {one.auth.kind}, {one.number_format} numbers",
        f"  in from   {networks}{whose}",
        f"  numbers   {', '.join(one.numbers) or 'none: it takes no calls in'}",
        f"  channels  {one.channels}, {one.cps:g} new calls out a second",
        *([f"  note      {preset.note}"] if preset.note else []),
        *([f"  STALE     these networks are {age_days} days old: compare them with the source"] if stale else []),
    ]


def masked(texts: Mapping[str, str], settings: Settings, config: AsteriskConfig) -> dict[str, str]:
    """Files with every secret taken out: those of these settings, and those of older ones by where they stand."""
    secrets = {config.ari_password, config.phone_password, *_secrets(settings.model_dump())} - {""}
    out = {name: _SECRET_LINE.sub(rf"\g<1>{HIDDEN}", text) for name, text in texts.items()}
    for secret in sorted(secrets, key=len, reverse=True):
        for written in (secret, secret.replace(";", "\\;")):
            out = {name: text.replace(written, HIDDEN) for name, text in out.items()}
    return out


def difference(settings: Settings, config: AsteriskConfig, root: Root) -> str:
    """What the next start or reload would change in the run folder, as a unified diff; empty for nothing."""
    there = {str(path.relative_to(config.etc)): path.read_text() for path in config.etc.rglob("*.conf")}
    then = rendered(config, root)
    changed = {name for name in there.keys() | then.keys() if there.get(name) != then.get(name)}
    before = masked({name: there.get(name, "") for name in changed}, settings, config)
    after = masked({name: then.get(name, "") for name in changed}, settings, config)
    lines: list[str] = []
    for name in sorted(changed):
        pair = (before[name].splitlines(), after[name].splitlines())
        found = list(difflib.unified_diff(*pair, f"running/{name}", f"rendered/{name}", lineterm=""))
        lines += found or [f"{name}: a secret changed"]
    return "\n".join(lines)


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, dict):
        for each in value.values():
            yield from _secrets(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _secrets(each)
