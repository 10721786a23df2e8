"""Where an agent may send a caller, and what may be dialled at all."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sipagent.config.base import Section
from sipagent.config.destinations import Destination
from sipagent.config.routes import Patterns


class Transfer(Section):
    """[transfers.NAME]: one place; an agent that lists the name may send callers there."""

    description: str
    """What the model is told: who that is, and when to send somebody there."""
    to: Destination
    """A phone (dial:401@pbx), a queue, a menu, a mailbox, another agent."""
    how: Literal["dial", "refer", "warm", "conference"] = "dial"
    """Of a phone. dial: it rings, and who answers is joined with the caller. refer: the caller's own side is asked
    to call there (SIP REFER); where it refuses, we dial. warm: whoever answers hears first who calls and why, and
    takes the call or does not. conference: the agent stays, and the three hear each other."""


class DialPolicy(Section):
    """[dial_policy]: what calls out must obey, whoever asks for them."""

    allow: Patterns = ()
    """E.164 numbers that may be dialled, as "+44*"; empty: every number that the configuration leads to."""
    deny: Patterns = ()
    """Never, even when allowed."""
    premium: bool = False
    """Premium-rate, shared-cost and satellite numbers too."""
    per_minute: int = Field(30, ge=0, le=10000)
    """Calls out a minute, all workers together."""
    at_once: int = Field(50, ge=0, le=10000)
    minutes_per_day: int = Field(3000, ge=0)
    """Talked in calls out within 24 hours."""
    per_caller_per_day: int = Field(20, ge=0)
    """Calls out for one caller."""
