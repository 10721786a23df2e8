"""The two ways to let a caller go: with a reason instead of an answer, or after all was said."""

from __future__ import annotations

from sipagent.config import Settings
from sipagent.config.destinations import CAUSES
from sipagent.flow.machine import Flow, Step
from sipagent.outcome import CallOutcome, Reason


class HangupStep(Step):
    """``hangup``."""

    kind = "hangup"

    def enter(self, flow: Flow) -> None:
        """Normal clearing."""
        flow.end(CallOutcome(Reason.COMPLETED))


class RejectStep(Step):
    """``reject:CAUSE``."""

    kind = "reject"

    def __init__(self, name: str, settings: Settings) -> None:
        del settings
        self._name, self._cause = name, CAUSES[name]

    def enter(self, flow: Flow) -> None:
        """With the cause the carrier turns into a tone or another try."""
        flow.end(CallOutcome(Reason.REJECTED, self._name, q850=self._cause))
