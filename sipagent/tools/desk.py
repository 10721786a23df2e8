"""Where a conversation's tools are run: the driver of `calls`, with its tasks and its one timer.

It is told what happens on the model's socket and at the caller's ear, does what the core says, and is closed with
the conversation: nothing that was begun is left, in the worker or in the toolbox.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

import structlog

from sipagent import model, tracecontext
from sipagent.config import Agent
from sipagent.tools import CallFacts, calls
from sipagent.tools.calls import Function, ToolCalls, error_output
from sipagent.tools.toolset import Toolset
from sipagent.xai.events import FunctionCall

log = structlog.get_logger()

Emit = Callable[..., None]
MAX_SHOWN_CHARS = 2000
"""Of arguments and results in events."""


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function of the call's own that the model may call, run by the worker itself."""

    description: str
    parameters: Mapping[str, Any]
    """JSON schema of its arguments; the handler gets none that do not fit."""
    handler: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
    filler: str = ""
    """As of any tool; empty for those that let the caller hear something themselves."""
    timeout_s: float | None = None

    def function(self, name: str) -> Function:
        """For the model."""
        return Function(name, self.description, self.parameters, filler=self.filler, timeout_s=self.timeout_s)


class Company(Protocol):
    """What the caller hears while they wait."""

    def fill(self, sound: str) -> None:
        """A filler's text, or `calls.HOLD`."""

    def hush(self) -> None:
        """The filler ends at once."""


class Voice(Protocol):
    """What the desk needs of the talk it serves."""

    def send_results(self, outputs: Mapping[str, str], *, respond: bool) -> None:
        """To the model."""

    def ask_for_answer(self) -> None:
        """The model is to speak."""

    def waiting(self, *, waits: bool) -> None:
        """The caller waits for a tool, or does not any more."""

    @property
    def company(self) -> Company:
        """Kept to the caller."""

    @property
    def talking(self) -> bool:
        """Something is being played."""


class Desk:
    """One conversation's tools. Its methods are happenings and return at once; `aclose` at the end."""

    def __init__(
        self,
        agent: Agent,
        toolset: Toolset,
        voice: Voice,
        emit: Emit,
        *,
        builtin: Mapping[str, Builtin],
        variables: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> None:
        """`variables` of the call for templates; `secrets` too, and no tool may give one of them to the model."""
        self._toolset, self._builtin, self._emit = toolset, builtin, emit
        self._variables, self._secrets = variables, secrets
        self._voice: Voice | None = voice
        self._call_id = str(structlog.contextvars.get_contextvars().get("call_id", ""))
        self._trace = tracecontext.current.get()
        self._elsewhere = toolset.elsewhere(agent.tools)
        own = {name: one.function(name) for name, one in builtin.items()}
        self._core = ToolCalls(toolset.functions(agent.tools) | own, server_tools=bool(self._elsewhere))
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False

    def wire(self) -> tuple[Mapping[str, Any], ...]:
        """`session.tools`."""
        return (*(function.wire() for function in self._core.functions.values()), *self._elsewhere)

    @property
    def busy(self) -> bool:
        """The caller waits for a tool."""
        return self._core.busy

    # --- happenings

    def called(self, call: FunctionCall) -> None:
        """The model announced a call."""
        self._core.called(call)

    def response_created(self, response_id: str) -> None:
        """The model begins an answer."""
        self._core.response_created(response_id, self._loop.time())
        self._act()

    def response_done(self, response_id: str, status: str) -> None:
        """An answer is whole, or cut short."""
        self._core.response_done(response_id, status, self._loop.time())
        self._act()

    def caller(self, *, speaks: bool) -> None:
        """The model hears the caller speak, or pause."""
        self._core.caller(speaks=speaks, now=self._loop.time())
        self._act()

    def agent(self, *, speaks: bool) -> None:
        """Something is heard by the caller, or all of it has been."""
        self._core.agent(speaks=speaks, now=self._loop.time())
        self._act()

    def audio(self) -> None:
        """The model's audio comes in: called for each piece of it."""
        if self._core.filling:
            self._core.audio()
            self._act()

    async def aclose(self) -> None:
        """Whatever runs is cancelled and gone; twice is fine."""
        self._voice = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._builtin = {}  # its handlers know the call, and the call knows us

    # --- what follows from them

    def _act(self) -> None:
        voice = self._voice
        while voice is not None and (action := self._core.poll()) is not None:
            match action:
                case calls.Run():
                    task = asyncio.create_task(self._run(action), name=f"call-tool-{action.function}")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case calls.Refused():
                    log.warning("tool_refused", name=action.function)
                    why = error_output(action.why)
                    self._returned(action.call_id, action.function, why, ok=False, duration_ms=0.0, size=0)
                case calls.Answer():
                    voice.send_results(action.outputs, respond=action.respond)
                case calls.Respond():
                    voice.ask_for_answer()
                case calls.Fill():
                    voice.company.fill(action.sound)
                case calls.Hush():
                    voice.company.hush()
                case _:
                    assert_never(action)
        if voice is None:
            return
        if self._waits != self.busy:
            self._waits = self.busy
            voice.waiting(waits=self._waits)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (deadline := self._core.deadline) is not None:
            self._timer = self._loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._voice is not None and self._voice.talking:
            # Queued, but no voiced frame of it has left yet: nobody waits in silence.
            self._core.agent(speaks=True, now=now)
        self._core.handle_timer(now)
        self._act()

    async def _run(self, action: calls.Run) -> None:
        function = self._core.functions[action.function]
        arguments = json.dumps(action.arguments, ensure_ascii=False)
        shown = arguments[:MAX_SHOWN_CHARS]
        self._emit(model.ToolCalled, name=function.name, arguments=shown, tool_call_id=action.call_id)
        started = self._loop.time()
        try:
            own = self._builtin.get(function.name)
            carry_out = self._run_own(own, action) if own else self._run_tool(function, action)
            output, ok, size = await carry_out
        except Exception:  # the talk goes on, whatever it was; the model says so and offers something else
            log.exception("tool_failed", name=function.name)
            output, ok, size = error_output("that did not work"), False, 0
        duration_ms = round((self._loop.time() - started) * 1000, 1)
        size = size or len(output)
        self._returned(action.call_id, function.name, output, ok=ok, duration_ms=duration_ms, size=size)
        self._core.returned(action.call_id, output, self._loop.time())
        self._act()

    async def _run_tool(self, function: Function, action: calls.Run) -> tuple[str, bool, int]:
        """In the toolbox: what the model is told, whether it worked, and the bytes of the whole answer."""
        traceparent = self._trace.traceparent(tracecontext.tool_span(action.call_id)) if self._trace else ""
        facts = CallFacts(self._call_id, {**self._variables, **self._secrets}, traceparent)
        returned = await self._toolset.run(function, action.arguments, facts)
        output = error_output(returned.error) if returned.error else returned.output
        for name, value in self._secrets.items():
            output = output.replace(value, f"({name})")
        return output, not returned.error, returned.bytes

    async def _run_own(self, own: Builtin, action: calls.Run) -> tuple[str, bool, int]:
        try:
            async with asyncio.timeout(own.timeout_s):
                result = await own.handler(action.arguments)
        except TimeoutError:
            return error_output("no answer in time"), False, 0
        return json.dumps(result, ensure_ascii=False), "error" not in result, 0

    def _returned(self, use: str, name: str, output: str, *, ok: bool, duration_ms: float, size: int) -> None:
        self._emit(
            model.ToolReturned, name=name, ok=ok, duration_ms=duration_ms, bytes=size, result=output[:MAX_SHOWN_CHARS],
            tool_call_id=use,
        )  # fmt: skip
