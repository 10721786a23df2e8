"""Who is there, and by which call."""

from __future__ import annotations

from dataclasses import dataclass

from sipagent.audio import Law
from sipagent.caller import Caller
from sipagent.carried import Carried
from sipagent.orders import Originate


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person whose visit begins, or goes on with us."""

    call_id: str
    caller: Caller
    number: str
    """Theirs."""
    endpoint: str
    """The trunk or phone account they are at."""
    law: Law
    variables: dict[str, str]
    """What is known of the call."""
    order: Originate | None = None
    """Of a call out."""
    carried: Carried | None = None
    """Of a call that another worker had."""
