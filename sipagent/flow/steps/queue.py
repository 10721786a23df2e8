"""Waiting for people, in Asterisk's app_queue."""

from __future__ import annotations

from sipagent import patterns
from sipagent.config import Settings
from sipagent.flow.machine import Flow, Step, ToQueue
from sipagent.outcome import CallOutcome, Reason

SERVED = "CONTINUE"
"""QUEUESTATUS of a caller who has talked to a member, who then hung up."""


class QueueStep(Step):
    """[queues.NAME]."""

    kind = "queue"

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._queue = name, settings.queues[name]

    def enter(self, flow: Flow) -> None:
        """Join."""
        flow.leave(ToQueue(self._name))

    def returned(self, flow: Flow, result: str) -> None:
        """Served, out by a key, or nobody came."""
        if result == SERVED:
            flow.end(CallOutcome(Reason.COMPLETED, f"served by queue {self._name}"))
        elif (key := patterns.chosen(self._queue.keys, result)) is not None:
            flow.variables["digits"] = result
            flow.go(self._queue.keys[key], key)
        else:
            flow.go(self._queue.then)
