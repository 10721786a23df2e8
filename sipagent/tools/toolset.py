"""What an agent may use, made ready for its conversations: functions for the model, and how each is to be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sipagent.config.tools import HOLD_SOUND, LocalTool, Tool, XaiTool
from sipagent.flow.phrases import Phrase
from sipagent.tools import CallFacts, arguments
from sipagent.tools.calls import Function
from sipagent.tools.client import AWAY, Toolbox
from sipagent.tools.messages import Returned


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of one configuration; without a toolbox there are only those that run elsewhere."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    toolbox: Toolbox | None = None
    generation: int = 0

    def functions(self, names: Iterable[str]) -> dict[str, Function]:
        """What these tools offer now, by the name that the model calls."""
        wanted = set(names)
        offer = self.toolbox.offers.get(self.generation) if self.toolbox else None
        out: dict[str, Function] = {}
        for offered in offer.functions if offer else ():
            tool = self.tools.get(offered.tool)
            if offered.tool in wanted and isinstance(tool, LocalTool):
                out[offered.name] = Function(
                    offered.name,
                    offered.description,
                    offered.parameters,
                    filler=tool.filler,
                    filler_after_s=tool.filler_after_ms / 1000,
                    hold_sound=tool.hold_sound,
                    timeout_s=tool.timeout_s,
                )
        return out

    def elsewhere(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """The entries of `session.tools` for what the model's side runs."""
        found = ((name, self.tools.get(name)) for name in names)
        return [tool.wire(name) for name, tool in found if isinstance(tool, XaiTool)]

    async def run(self, function: Function, given: dict[str, Any], facts: CallFacts) -> Returned:
        """Carry one out. Always returns; cancelling it cancels the tool."""
        if self.toolbox is None:
            return Returned(0, "", AWAY, 0.0, 0)
        timeout_s = function.timeout_s or 0.0
        return await self.toolbox.call(self.generation, function.name, given, facts, timeout_s)

    def prepare(self) -> None:
        """Make the check of arguments ready for what is offered, before a call needs it."""
        for function in self.functions(self.tools).values():
            arguments.prepare(function.parameters)


def fillers(tools: Mapping[str, Tool], language: str) -> list[Phrase]:
    """What has to be spoken in advance."""
    texts = (tool.filler for tool in tools.values() if isinstance(tool, LocalTool))
    return [Phrase(text, language) for text in dict.fromkeys(texts) if text and text != HOLD_SOUND]
