"""A second leg as Asterisk dials it: the number in the trunk's own form, the caller id the trunk insists on."""

from __future__ import annotations

from sipagent.config import Settings


def dial_string(number: str, endpoint: str, settings: Settings) -> str:
    """What Dial() and Queue() take: a number of a trunk, or a phone account.

    Raises:
        ValueError: the number holds something that cannot be dialled.
    """
    trunk = settings.trunks.get(endpoint)
    if not number or trunk is None:
        return f"PJSIP/{endpoint}"
    return f"PJSIP/{trunk.out(number)}@{endpoint}"


def shown_number(endpoint: str, settings: Settings, wanted: str = "") -> str:
    """The caller id at this endpoint: `wanted`, unless its trunk insists on others; empty: the caller's own goes."""
    trunk = settings.trunks.get(endpoint)
    if trunk is None:
        return wanted
    allow = trunk.caller_id.allow
    shown = wanted if wanted in allow else trunk.caller_id.default or next(iter(allow), "")
    return trunk.out(shown).removeprefix(trunk.dial_prefix) if shown else wanted
