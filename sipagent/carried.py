"""What a call carries with it on its channel, so that another worker can take it over when its own has died.

It is a channel variable: as long-lived as the caller's channel, and gone with it. Digits that only tools may see are
not in it, nor is anything that the next worker can read from the configuration.
"""

from __future__ import annotations

import msgspec

from sipagent.model import Direction, Disposition

VARIABLE = "SIPAGENT_CARRIED"
LEG_VARIABLE = "SIPAGENT_LEG"
"""On the channel of somebody who has taken a call: the application that has them, and the call's id."""
HISTORY_CHARS = 2000
"""Of what was said: for a model that must be told, since its server does not know the conversation."""


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call, as far as it has come."""

    app: str
    """The application that has it now: Asterisk goes on to show the one it came to first."""
    call_id: str
    endpoint: str
    called: str
    caller: str
    law: str
    started_at: float
    """Unix seconds."""
    run: str = ""
    """The process that has it now: an application is its successor's as well."""
    number: str = ""
    """Of whoever talks with us: the caller's, or the one we called."""
    direction: Direction = Direction.IN
    answered: bool = False
    step: str = ""
    language: str = ""
    variables: dict[str, str] = {}
    conversation_id: str = ""
    realtime_endpoint: str = ""
    history: str = ""
    leg: str = ""
    """The channel of somebody who has taken the call: they talk, and nobody else is needed."""
    held: bool = False
    """They have put us on hold."""
    record: bool = False
    paused: tuple[str, ...] = ()
    """Who wants nothing to be recorded now."""
    disposition: Disposition | None = None

    def belonged_to(self, app: str, run: str) -> bool:
        """This process of that application has it. One of the version before names none (an upgrade under calls)."""
        return self.app == app and (self.run == run or not self.run or not run)

    def text(self) -> str:
        """For the channel."""
        return msgspec.json.encode(self).decode()


def read(text: str) -> Carried | None:
    """What stands on a channel; None where there is nothing, or nothing of ours."""
    try:
        return msgspec.json.decode(text, type=Carried) if text else None
    except msgspec.DecodeError:
        return None
