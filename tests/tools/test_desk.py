"""The desk: whatever becomes of a tool, the model is told something and the caller does not wait for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from sipagent import model
from sipagent.config import Agent
from sipagent.tools import CallFacts
from sipagent.tools.calls import Function
from sipagent.tools.desk import Desk
from sipagent.tools.messages import Returned
from sipagent.tools.toolset import Toolset
from sipagent.xai.events import FunctionCall


class Broken(Toolset):
    """A toolset that cannot even ask."""

    def functions(self, names: Any) -> dict[str, Function]:
        del names
        return {"order_status": Function("order_status", "Where an order is.", {"type": "object"})}

    async def run(self, function: Function, given: dict[str, Any], facts: CallFacts) -> Returned:
        raise OverflowError("Integer value out of range")


class Company:
    """Nobody listens."""

    def fill(self, sound: str) -> None:
        pass

    def hush(self) -> None:
        pass


class Voice:
    """Remembers what the model is told."""

    talking = False

    def __init__(self) -> None:
        self.company = Company()
        self.told: asyncio.Queue[Mapping[str, str]] = asyncio.Queue()
        self.waits = False

    def send_results(self, outputs: Mapping[str, str], *, respond: bool) -> None:
        assert respond
        self.told.put_nowait(outputs)

    def ask_for_answer(self) -> None:
        pass

    def waiting(self, *, waits: bool) -> None:
        self.waits = waits


async def test_a_tool_that_cannot_even_be_asked_is_told_to_the_model() -> None:
    voice, events = Voice(), list[tuple[Any, dict[str, Any]]]()
    agent = Agent(instructions="x")
    desk = Desk(agent, Broken(), voice, lambda kind, **fields: events.append((kind, fields)),
                builtin={}, variables={}, secrets={})  # fmt: skip
    desk.response_created("r1")
    desk.called(FunctionCall("r1", "c1", "order_status", '{"order": 123456789012345678901234567890}'))
    desk.response_done("r1", "completed")
    assert json.loads((await asyncio.wait_for(voice.told.get(), 10))["c1"]) == {"error": "that did not work"}
    assert not desk.busy
    assert not voice.waits
    assert [(kind, fields.get("ok")) for kind, fields in events] == [
        (model.ToolCalled, None), (model.ToolReturned, False),
    ]  # fmt: skip
    await desk.aclose()
