"""What every section of the configuration has in common."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
PortRange = tuple[Port, Port]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""Of a menu, a queue ...: small letters, since Asterisk's files and channel variables hold it too."""
Variable = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""What may stand in braces in a prompt."""
ASTERISK_NAME = re.compile(r"[A-Za-z0-9._-]+")
ASTERISK_SECRET = re.compile(r"(?![<@])[!-:<-~]+")
"""A semicolon begins a comment of Asterisk's files."""
ASTERISK_SECTIONS = {"general", "global", "system", "anonymous", "transport-udp", "transport-tcp"}
"""Asterisk's own; a phone of that name would change the section's meaning."""
RTP_PORTS_A_CALL = 4
GENERATED = ("asterisk__password", "asterisk__phone_password")
"""Secrets that are made at random, in the run folder, for whoever writes none: they count below the file."""


class Section(BaseModel):
    """A table of sipagent.toml: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


def is_loopback(host: str) -> bool:
    """Nobody but this machine gets there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(network: str) -> bool:
    """An address or a network that the Internet does not lead to; not "all of this machine's addresses"."""
    try:
        found = ipaddress.ip_network(network)
    except ValueError:
        return False
    return found.is_private and not found.network_address.is_unspecified
