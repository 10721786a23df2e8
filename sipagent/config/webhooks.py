"""Who is told when a call has ended: addresses of the operator's, signed as Standard Webhooks has it."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from sipagent.config.base import Section

EventType = Literal["call.ended", "message.taken", "callback.requested", "recording.ended"]
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 24
"""At least, as the specification has it."""


class Webhook(Section):
    """One receiver."""

    url: str
    """https; http only to an address of this machine or of a private network."""
    events: tuple[EventType, ...] = ("call.ended",)
    secret: SecretStr
    """Both sides know it: "whsec_" and 24 bytes or more in base64. Better from a secrets file than from here."""
    timeout_s: float = Field(10.0, ge=0.1, le=60)
    max_attempts: int = Field(8, ge=1, le=20)
    """Eight take some nine hours; then the delivery is dead, and kept."""

    @field_validator("url")
    @classmethod
    def _may_be_told(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("an https:// address is needed")
        if parts.username or parts.password or parts.fragment:
            raise ValueError("no user, password or fragment; the signature says who we are")
        if parts.scheme == "http" and not is_near(parts.hostname):
            raise ValueError(
                "calls must not cross a network in clear: use https:// (http:// only to a loopback or private address)"
            )
        return value

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        if len(key_of(value.get_secret_value())) < SECRET_BYTES:
            make = f"print('{SECRET_PREFIX}' + base64.b64encode(os.urandom(32)).decode())"
            raise ValueError(
                f'{SECRET_BYTES} bytes or more in base64 are needed: python3 -c "import base64, os; {make}"'
            )
        return value


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for; none when it is not one."""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""


def is_near(host: str) -> bool:
    """An address of this machine or of a private network."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # a name may lead anywhere tomorrow
    return address.is_loopback or (address.is_private and not address.is_link_local)
