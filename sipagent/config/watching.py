"""How the node is watched from outside: traces of its calls, and calls that it makes to itself."""

from __future__ import annotations

import platform
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from sipagent.config.base import Section
from sipagent.config.webhooks import is_near

ProbeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]


class TracingSettings(Section):
    """[tracing]: one OpenTelemetry trace a call, sent by OTLP over HTTP (docs/tracing.md)."""

    endpoint: str = Field("", pattern=r"^(https?://[^\s/]+/\S*)?$")
    """The whole address, as "http://127.0.0.1:4318/v1/traces". Empty: nothing is traced."""
    headers: dict[str, SecretStr] = {}
    """Sent along. Better from SIPAGENT_TRACING__HEADERS__AUTHORIZATION or a secrets file than from here."""
    sample_ratio: float = Field(1.0, ge=0, le=1)
    """Of the calls whose trace begins here; one that came with the call knows itself whether it is sampled."""
    service_name: str = Field("sipagent", min_length=1)
    instance: str = ""
    """This node's name in the traces; empty: the machine's."""
    header: str = Field("", pattern=r"^(X-[A-Za-z0-9-]{1,40})?$")
    """SIP header in which a trunk may hand over a W3C traceparent, as "X-Traceparent"; our trace is then part of that
    one. Empty: callers have no say."""

    @model_validator(mode="after")
    def _keeps_secrets(self) -> TracingSettings:
        place = urlsplit(self.endpoint)
        if place.username or place.password:
            raise ValueError("endpoint: no user and no password in it; headers are for that")
        if self.headers and place.scheme == "http" and not is_near(place.hostname or ""):
            raise ValueError("endpoint: headers must not cross a network in clear: use https://")
        return self

    @property
    def node(self) -> str:
        """Who we are among several nodes."""
        return self.instance or platform.node() or "sipagent"


class Probe(Section):
    """[probes.NAME]: a call of our own through a trunk and back, as a customer's would come (docs/probes.md)."""

    trunks: tuple[str, ...] = Field(min_length=1)
    """Each of them is probed."""
    number: str = Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z+*#._-]+$")
    """One of ours, reached through the carrier: +E.164, or an extension of a PBX that routes it to us."""
    every_s: float = Field(300.0, ge=0, le=86400)
    """From the beginning of one to the next; 0: only when asked (`sipagent probe`)."""
    within_s: float = Field(15.0, ge=1, le=120)
    """INVITE to the agent's first words, at most."""
    listen_s: float = Field(3.0, ge=0, le=60)
    """Heard on after that, to measure the line: losses, jitter, MOS."""
    expect: Literal["voice", "answer"] = "voice"
    """voice: somebody answers and speaks. answer: somebody answers."""
