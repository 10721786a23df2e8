"""What a worker lends to each of its calls. A reload makes a new one: calls keep the house they began in."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from sipagent import model
from sipagent.ari.client import AriClient
from sipagent.config import Settings
from sipagent.dialling import DialGuard
from sipagent.flow.machine import Plan
from sipagent.flow.prompts import Prompts
from sipagent.limits import Gate
from sipagent.routing.routes import Routes
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.transport import PortBlock
from sipagent.sessions import Sessions
from sipagent.standby import Standby
from sipagent.tools.toolset import Toolset
from sipagent.xai.health import Health


@dataclass(frozen=True, slots=True)
class Policy:
    """The configuration, made ready for use: everything of it that can fail has been read."""

    settings: Settings
    routes: Routes
    plan: Plan
    prompts: Prompts
    ssl_context: ssl.SSLContext | None
    toolset: Toolset = field(default_factory=Toolset)
    health: Health = field(default_factory=Health)
    """Which realtime endpoints are worth a try."""
    sessions: Sessions = field(default_factory=Sessions)
    """How many of their sessions are left."""
    standby: Standby = field(default_factory=lambda: Standby(Sessions()))
    """And which are open already."""

    @classmethod
    def of(cls, settings: Settings, prompts: Prompts) -> Policy:
        """Read what the settings name; ConfigError for what is missing."""
        return cls(
            settings,
            Routes(settings),
            Plan(settings),
            prompts,
            # One for all sessions: making it takes 33 ms of the loop.
            ssl.create_default_context()
            if any(one.url.startswith("wss:") for one in settings.realtime.endpoints)
            else None,
            Toolset(settings.tools),
        )


@dataclass(frozen=True, slots=True)
class House:
    """Policy, and what does not change with it."""

    policy: Policy
    worker: int
    ari: AriClient
    ports: PortBlock
    wheel: Wheel
    guard: DialGuard
    """For calls out."""
    gate: Gate
    """For calls in."""
    emit: Callable[[model.CallEvent], None]
    record: Callable[[bytes], object]
    """Takes the blocks of recordings to the control process, and never waits."""
    run: str = ""
    """This process, as the link names it."""

    @property
    def settings(self) -> Settings:
        """The configuration as it was written."""
        return self.policy.settings
