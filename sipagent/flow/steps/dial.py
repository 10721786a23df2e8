"""A second leg: ``dial:NAME`` of [dials.NAME], or ``dial:401@pbx`` as it stands."""

from __future__ import annotations

from dataclasses import replace

from sipagent.config import Settings
from sipagent.config.destinations import HANGUP, Destination
from sipagent.flow.machine import Flow, Step, ToDial
from sipagent.outcome import CallOutcome, Reason

ANSWERED = "ANSWER"
"""DIALSTATUS of a call that was answered and is over."""


def target_of(destination: Destination, settings: Settings) -> ToDial:
    """Whom a ``dial:`` destination means; KeyError when there is no such table."""
    number, at, trunk = destination.name.rpartition("@")
    if at:
        if not number:  # {digits}, and there were none
            raise KeyError(destination.name)
        return ToDial(number, trunk, settings.call.dial_within_s)
    dial = settings.dials[destination.name]
    return ToDial(dial.number, dial.trunk, dial.timeout_s)


class DialStep(Step):
    """Somebody else's phone."""

    kind = "dial"

    def __init__(self, name: str, settings: Settings) -> None:
        self._to = target_of(Destination(f"{self.kind}:{name}"), settings)
        self._then = settings.dials[name].then if "@" not in name else HANGUP

    def enter(self, flow: Flow) -> None:
        """Ring there."""
        flow.leave(replace(self._to, listed=flow.listed))

    def returned(self, flow: Flow, result: str) -> None:
        """They have talked, or nobody answered."""
        if result == ANSWERED:
            flow.end(CallOutcome(Reason.COMPLETED, "the other side hung up"))
        else:
            flow.variables["dial_status"] = result.lower()
            flow.go(self._then)
