"""What every section of the configuration has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
PortRange = tuple[Port, Port]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""Of a menu, a queue ...: small letters, since Asterisk's files and channel variables hold it too."""
Variable = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""What may stand in braces in a prompt."""


class Section(BaseModel):
    """A table of sipagent.toml: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
