"""Tools without a call: what `sipagent tool` shows, by the same toolbox that workers have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from sipagent.config import LogSettings, Settings
from sipagent.config.tools import Tool, XaiTool
from sipagent.tools import CallFacts, arguments
from sipagent.tools.client import Toolbox
from sipagent.tools.toolset import Toolset


async def listed(settings: Settings) -> tuple[str, bool]:
    """A line for each function, and for each tool that cannot be used; and whether all can."""
    users = {name: [agent for agent, own in settings.agents.items() if name in own.tools] for name in settings.tools}
    async with _toolset(settings, settings.tools) as (toolset, problems):
        functions = toolset.functions(settings.tools).values()
        lines = [
            f"{one.name}({', '.join(one.parameters.get('properties', {}))}): {one.description}" for one in functions
        ]
    lines += [f"{name}: run by xAI ({tool.kind})" for name, tool in settings.tools.items() if isinstance(tool, XaiTool)]
    lines += [f"{name}: CANNOT BE USED: {problem}" for name, problem in problems.items()]
    lines += [f"{name}: no agent has it in its tools" for name, agents in users.items() if not agents]
    return "\n".join(lines) or "there is no [tools.NAME] in the configuration", not problems


async def use(settings: Settings, function: str, text: str, variables: Mapping[str, str]) -> tuple[str, bool]:
    """What the model would be told, and whether it worked."""
    behind = {
        name: tool for name, tool in settings.tools.items() if function == name or function.startswith(f"{name}_")
    }
    async with _toolset(settings, behind or settings.tools) as (toolset, problems):
        functions = toolset.functions(settings.tools)
        if function not in functions:
            known = ", ".join(functions) or "none"
            return problems.get(function) or f"there is no function {function!r}; there is {known}", False
        given, wrong = arguments.read(text, functions[function].parameters)
        if wrong:
            return wrong, False
        returned = await toolset.run(functions[function], given, CallFacts("trial", variables))
        return returned.error or returned.output, not returned.error


@contextlib.asynccontextmanager
async def _toolset(settings: Settings, tools: Mapping[str, Tool]) -> AsyncIterator[tuple[Toolset, Mapping[str, str]]]:
    toolbox = Toolbox(LogSettings(level="error"))
    try:
        generation = await toolbox.configure(tools, settings.folder)
        offer = toolbox.offers.get(generation)
        yield Toolset(tools, toolbox, generation), offer.problems if offer else {}
    finally:
        await toolbox.aclose()
