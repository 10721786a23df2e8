"""A conversation with an agent. How it ended is how the call ends."""

from __future__ import annotations

from sipagent.config import Settings
from sipagent.flow.machine import Flow, Step, ToAgent


class AgentStep(Step):
    """[agents.NAME]."""

    kind = "agent"

    def __init__(self, name: str, settings: Settings) -> None:
        if name not in settings.agents:
            raise KeyError(name)
        self._name = name

    def enter(self, flow: Flow) -> None:
        """To the agent."""
        flow.leave(ToAgent(self._name))
