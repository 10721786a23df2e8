"""Where a call may go, as one word of the configuration: ``menu:main``, ``queue:sales``, ``reject:busy``."""

from __future__ import annotations

from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

CAUSES = {
    "busy": 17,
    "unassigned": 1,
    "no_answer": 19,
    "declined": 21,
    "congestion": 42,
    "unavailable": 34,
    "forbidden": 55,
}
"""What `reject:` may say, as Q.850 causes."""
ALONE = frozenset({"hangup", "repeat", "back", "operator"})
"""Kinds that need no name."""


class Destination(str):
    """``kind:name``, or a kind alone. It is the text itself, so it prints, compares and serialises as one."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        """The kind of step: agent, menu, announcement, collect, queue, voicemail, dial, reject, hangup ..."""
        return self.partition(":")[0]

    @property
    def name(self) -> str:
        """Which one of that kind."""
        return self.partition(":")[2]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check the form; whether there is such a thing is seen when all of the file is known.

        Raises:
            ValueError: it is not of the form ``kind:name``.
        """
        kind, colon, name = text.partition(":")
        if kind in ALONE and not colon:
            return cls(text)
        if not (kind.isidentifier() and colon and name):
            raise ValueError('a destination is written "kind:name", as "menu:main", "agent:reception" or "hangup"')
        if kind == "reject" and name not in CAUSES:
            raise ValueError(f'"reject:" takes one of {", ".join(sorted(CAUSES))}')
        return cls(text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A string in TOML and in JSON."""
        return core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema(strip_whitespace=True))


HANGUP = Destination("hangup")
