"""How a call ends: somebody in its task group says so, and what the group then raises is read here."""

from __future__ import annotations

from sipagent.outcome import CallOutcome


class CallOver(Exception):
    """Ends a call from anywhere inside its task group."""

    def __init__(self, outcome: CallOutcome) -> None:
        self.outcome = outcome


def verdict(errors: BaseExceptionGroup) -> tuple[CallOutcome | None, BaseException | None]:
    """How the call ended, if somebody said so, and what failed besides (or instead).

    Tracebacks point to frames, and these to the call: what only carried an outcome is stripped of its own, so
    that no cycle is left for the collector.
    """
    outcome: CallOutcome | None = None
    failure: BaseException | None = None
    errors.__traceback__ = None
    for error in errors.exceptions:
        if isinstance(error, CallOver):
            outcome = outcome or error.outcome
            error.__traceback__ = error.__cause__ = error.__context__ = None
        else:
            failure = failure or error
    return outcome, failure
