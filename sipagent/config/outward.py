"""Calls that we make, and people of the operator's who look in on calls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sipagent.config.base import Section
from sipagent.config.destinations import Destination

Machine = Literal["hang_up", "message", "agent"]


class Outbound(Section):
    """[outbound]: calls out by `POST /v1/calls`, `sipagent dial` and call-backs. Only what [dial_policy] allows."""

    trunks: tuple[str, ...] = ()
    """In this order: the next one is tried where one cannot carry the call. Empty: nobody is called."""
    ring_s: float = Field(30.0, ge=3, le=300)
    """How long it rings."""
    detect: bool = True
    """Listen for an answering machine or a fax, beside the talk: whoever answers waits for nothing."""
    machine: Machine = "hang_up"
    """What a machine gets: nothing, `message` after its tone, or the agent as if it were a person."""
    message: str = ""
    """What is left on a machine, in the agent's voice. {variables} of the call are filled in."""
    greet_after_s: float = Field(1.5, ge=0, le=10)
    """Whoever is called says hello first; the agent begins when they have, or after this long."""
    hours: str = ""
    """[hours.NAME] in which call-backs are made; empty: at any time."""
    attempts: int = Field(3, ge=1, le=20)
    """Of a call-back that finds nobody."""
    retry_after_s: float = Field(900.0, ge=10, le=86400)
    expire_after_s: float = Field(2 * 86400.0, ge=60)
    """A call-back that could not be made in this time is given up."""

    @model_validator(mode="after")
    def _has_a_message(self) -> Outbound:
        if self.machine == "message" and not self.message:
            raise ValueError('message: what should be left on a machine? Or machine = "hang_up"')
        return self


class Digits(Section):
    """[digits.NAME]: keys that an agent may ask for without seeing them: a card number, a PIN."""

    description: str
    """What the model is told it is."""
    min_digits: int = Field(1, ge=1, le=40)
    max_digits: int = Field(20, ge=1, le=40)
    luhn: bool = False
    """A card number: the last digit must fit the others (ISO/IEC 7812-1, annex B)."""
    first_s: float = Field(15.0, ge=2, le=120)
    """Longest wait for the first key."""
    between_s: float = Field(5.0, ge=1, le=30)
    """Longest wait between keys; # ends at once."""

    @model_validator(mode="after")
    def _in_order(self) -> Digits:
        if self.min_digits > self.max_digits:
            raise ValueError("min_digits is more than max_digits")
        return self


class Supervisor(Section):
    """[supervisors.NAME]: somebody who may listen to live calls, speak in them or take them over."""

    to: Destination
    """Their phone, as dial:401@office or a name of [dials]."""


Supervisors = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")], Supervisor]
