"""The ways to let a caller go: with a reason instead of an answer, after all was said, or because we go ourselves."""

from __future__ import annotations

from sipagent.config import Settings
from sipagent.config.destinations import CAUSES, Destination
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


class PartingStep(Step):
    """The service goes down, and this caller is still here. In no configuration: it comes over whatever they do."""

    kind = "parting"

    def __init__(self, say: str, go: Destination | None) -> None:
        """`say` is the last that is heard of us, if anything; then on to `go`, or the end."""
        self._say, self._go = say, go

    def enter(self, flow: Flow) -> None:
        """A last sentence instead of what was being said."""
        flow.quiet()
        if self._say:
            flow.say(self._say)
        else:
            self.heard(flow)

    def heard(self, flow: Flow) -> None:
        """On."""
        if self._go is not None:
            flow.go(self._go)
        else:
            flow.end(CallOutcome(Reason.SHUTDOWN, "told goodbye" if self._say else ""))
