"""The toolbox: a process beside a worker that carries out its tools, so that nothing of it can delay the audio.

It lives on one socket, handed over by the worker, and ends when that does. A new configuration is a new generation;
the one before stays for calls that began in it. Tools that were not changed are taken over, connections and all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, assert_never

import msgspec
import structlog
from pydantic import TypeAdapter

from sipagent.config.tools import HttpTool, LocalTool, McpTool, PythonTool, Tool
from sipagent.errors import ConfigError
from sipagent.tools import CallFacts, ToolFailed, messages
from sipagent.tools.http_tool import Answer, HttpRunner
from sipagent.tools.python_tool import THREADS, PythonRunner

log = structlog.get_logger()

_TOOLS: TypeAdapter[dict[str, Tool]] = TypeAdapter(dict[str, Tool])
_DOWNWARD: msgspec.msgpack.Decoder[messages.Downward] = msgspec.msgpack.Decoder(messages.Downward)


class Runner(Protocol):
    """A function that can be called."""

    description: str
    parameters: dict[str, Any]

    async def run(self, arguments: Mapping[str, Any], facts: CallFacts) -> Answer:
        """ToolFailed in words for the model."""


class Source(Protocol):
    """What has to be closed."""

    async def close(self) -> None:
        """Twice is fine."""


@dataclass(slots=True)
class Generation:
    """One configuration at work."""

    number: int
    tools: dict[str, LocalTool]
    sources: dict[str, Source] = field(default_factory=dict)
    """By the tool's name."""
    problems: dict[str, str] = field(default_factory=dict)

    def runners(self) -> dict[str, tuple[str, Runner]]:
        """Function name -> the tool behind it, and who runs it."""
        out: dict[str, tuple[str, Runner]] = {}
        for name, source in self.sources.items():
            if isinstance(source, HttpRunner | PythonRunner):
                out[name] = name, source
            else:
                out |= {function: (name, runner) for function, runner in getattr(source, "functions", {}).items()}
        return out

    def offer(self) -> messages.Offer:
        """For the worker."""
        functions = tuple(
            messages.Offered(name, tool, runner.description, runner.parameters)
            for name, (tool, runner) in self.runners().items()
        )
        problems = {name: getattr(source, "problem", "") for name, source in self.sources.items()}
        known = {name: text for name, text in problems.items() if text}
        return messages.Offer(self.number, functions, self.problems | known)


class Toolbox:
    """Serves one worker until it is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tool")
        self._generations: list[Generation] = []
        """The one in force last."""
        self._made: list[Source] = []
        """All that has to be closed."""
        self._one_by_one = asyncio.Lock()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._configuring: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until the worker closes its end."""
        with contextlib.suppress(EOFError):
            while True:
                match await messages.read(self._reader, _DOWNWARD):
                    case messages.Configure() as order:
                        task = asyncio.create_task(self._configure(order))
                        self._configuring.add(task)
                        task.add_done_callback(self._configuring.discard)
                    case messages.Call() as call:
                        task = self._running[call.id] = asyncio.create_task(self._run(call), name=f"tool-{call.tool}")
                        task.add_done_callback(functools.partial(self._forget, call.id))
                    case messages.Cancel() as cancel:
                        if found := self._running.get(cancel.id):
                            found.cancel()
                    case other:
                        assert_never(other)

    def _forget(self, call_id: int, _: asyncio.Task[None]) -> None:
        self._running.pop(call_id, None)

    async def close(self) -> None:
        """Nothing is left but threads whose function does not return."""
        tasks = [*self._running.values(), *self._configuring]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await asyncio.gather(*(source.close() for source in self._made), return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writer.close()

    # --- a configuration

    async def _configure(self, order: messages.Configure) -> None:
        async with self._one_by_one:
            await self._take(order)

    async def _take(self, order: messages.Configure) -> None:
        # Modules and programs of the operator's lie beside the configuration; the worker sends an absolute path.
        folder = Path(order.folder)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        tools = {name: tool for name, tool in _TOOLS.validate_json(order.tools).items() if isinstance(tool, LocalTool)}
        before = self._generations[-1] if self._generations else None
        new = Generation(order.generation, tools)
        connecting = []
        for name, tool in tools.items():
            if before and before.tools.get(name) == tool and name in before.sources:
                new.sources[name] = before.sources[name]
                continue
            try:
                source = new.sources[name] = self._make(name, tool, folder)
            except ConfigError as error:
                new.problems[name] = str(error)
                log.error("tool_unusable", tool=name, problem=str(error))
                continue
            self._made.append(source)
            if isinstance(tool, McpTool):
                connecting.append(asyncio.ensure_future(_settled(source)))
        self._generations = [*self._generations[-1:], new]
        if connecting:
            await asyncio.wait(connecting)
        self._send(new.offer())
        used = [source for generation in self._generations for source in generation.sources.values()]
        for source in [source for source in self._made if source not in used]:
            self._made.remove(source)
            await source.close()

    def _make(self, name: str, tool: LocalTool, folder: Path) -> Source:
        match tool:
            case HttpTool():
                return HttpRunner(name, tool)
            case PythonTool():
                return PythonRunner(name, tool, self._threads)
            case McpTool():
                from sipagent.tools.mcp_tool import McpServer  # noqa: PLC0415 - 35 MB, for who has a server

                server = McpServer(name, tool, folder, self._offer_again)
                server.start()
                return server

    def _offer_again(self) -> None:
        for generation in self._generations:
            self._send(generation.offer())

    # --- a call

    async def _run(self, call: messages.Call) -> None:
        started = time.monotonic()
        output, error, size = "", "", 0
        try:
            answer = await self._answer(call)
            output, size = answer.output, answer.bytes
            if len(output) > messages.MAX_OUTPUT_CHARS:
                output, error = "", f"the answer has {len(output)} characters, too many to be told; ask for less"
        except ToolFailed as failure:
            error = str(failure)
        except Exception as failure:  # the edge of a tool: one that fails must not take the others with it
            log.exception("tool_failed", tool=call.tool)
            error = f"the tool failed ({type(failure).__name__})"
        duration_ms = round((time.monotonic() - started) * 1000, 1)
        self._send(messages.Returned(call.id, _whole(output), _whole(error[:1000]), duration_ms, size))

    async def _answer(self, call: messages.Call) -> Answer:
        generation = self._generation(call.generation)
        if generation is None:
            async with self._one_by_one:  # a toolbox that has just been started may be asked before it is ready
                generation = self._generation(call.generation)
        runners = generation.runners() if generation else {}
        if generation is None or call.tool not in runners:
            raise ToolFailed("this tool is not there any more")
        name, runner = runners[call.tool]
        timeout_s = generation.tools[name].timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await runner.run(call.arguments, CallFacts(call.call_id, call.variables, call.traceparent))
        except TimeoutError:
            raise ToolFailed(f"no answer in {timeout_s:g} seconds") from None

    def _generation(self, number: int) -> Generation | None:
        return next((found for found in self._generations if found.number == number), None)

    def _send(self, message: messages.Upward) -> None:
        if not self._writer.is_closing():
            self._writer.write(messages.frame(message))


def _whole(text: str) -> str:
    """Half of a surrogate pair becomes a question mark: JSON and Python know such texts, no wire of ours does."""
    return text.encode(errors="replace").decode()


async def _settled(source: Any) -> None:
    await source.settled.wait()


async def serve(fileno: int) -> None:
    """On a socket that was inherited, until its other end is closed."""
    # Ctrl-C and a group's SIGTERM reach the worker; it tells us by closing the socket.
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, lambda: None)
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fileno), limit=messages.MAX_BYTES)
    toolbox = Toolbox(reader, writer)
    try:
        await toolbox.serve()
    finally:
        await toolbox.close()
