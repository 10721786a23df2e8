"""What is known of a call before anybody speaks: numbers in all their forms, the headers that routes look at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sipagent import numbers
from sipagent.config import Settings
from sipagent.numbers import Kind, Number
from sipagent.routing.routes import Facts

ANONYMOUS = "anonymous"
MAX_HEADER_CHARS = 256
_FOREIGN = re.compile(r"[^0-9A-Za-z+*#._-]")
"""What the dialplan's FILTER takes out of the number dialled."""


@dataclass(frozen=True, slots=True)
class Invite:
    """A call as the dialplan handed it over."""

    endpoint: str
    """The trunk's name, or a phone account."""
    called: str
    caller: str
    first_called: str = ""
    """Whom the caller dialled before they were forwarded to us; empty when nobody forwarded."""


def facts_of(invite: Invite, headers: dict[str, str], settings: Settings) -> Facts:
    """Numbers as they came and, where the trunk tells how they are written, in E.164."""
    return Facts(
        trunk=invite.endpoint,
        called=_forms(invite.called, _read(invite.called, invite.endpoint, settings)),
        caller=_forms(invite.caller, _read(invite.caller, invite.endpoint, settings)),
        headers=headers,
    )


def variables_of(invite: Invite, facts: Facts) -> dict[str, str]:
    """What prompts and instructions may say of the call; numbers in their best form."""
    return {
        "called": facts.called[-1],
        "caller": facts.caller[-1],
        "original_called": invite.first_called or facts.called[-1],
        "trunk": invite.endpoint,
        **{f"header_{name.lower().replace('-', '_')}": value for name, value in facts.headers.items()},
    }


def clean_number(text: str) -> str:
    """A user part as data: what telephones dial and names have, of bounded length.

    It was written by a stranger, and {caller} may stand in an agent's instructions.
    """
    return _FOREIGN.sub("", text.partition(";")[0])[: numbers.MAX_LENGTH]


def clean_header(value: str) -> str:
    """A header as data: one line, of bounded length. It was written by a stranger."""
    return "".join(char for char in value if char.isprintable())[:MAX_HEADER_CHARS]


def _read(text: str, endpoint: str, settings: Settings) -> Number:
    trunk = settings.trunks.get(endpoint)
    return trunk.e164(text) if trunk else numbers.to_e164(text)


def _forms(text: str, number: Number) -> tuple[str, ...]:
    if number.kind is Kind.ANONYMOUS:
        return (ANONYMOUS,)
    if number.kind is Kind.E164 and number.text != text:
        return (text, number.text)
    return (text,)
