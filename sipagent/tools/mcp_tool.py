"""A local MCP server: started or dialled by the toolbox through the official client, its tools offered by name.

One task owns each connection, opens it again when it is lost (with longer and longer waits), and says what is offered
whenever that changes. A server that is away offers nothing, and the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import structlog
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED

from sipagent.config.tools import McpTool
from sipagent.tools import CallFacts, ToolFailed, templates
from sipagent.tools.http_tool import Answer

log = structlog.get_logger()

BACKOFF_S = (0.5, 2.0, 10.0, 30.0)
"""Before a connection is tried again; the last repeats."""
CLOSE_S = 3.0
"""For a polite end; then the program is killed by the client library, or left to die of its closed pipes."""
MAX_NAME = 64
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


class McpServer:
    """One server, from `start` to `close`."""

    def __init__(self, name: str, tool: McpTool, folder: Path, changed: Callable[[], None]) -> None:
        """`changed` is called when other tools are offered than before."""
        self.name, self.problem, self.timeout_s = name, "not connected yet", tool.timeout_s
        self.functions: dict[str, McpFunction] = {}
        """By the name that the model calls."""
        self.settled = asyncio.Event()
        """The first attempt is over, whichever way."""
        self._tool, self._folder, self._changed = tool, folder, changed
        self._client: Client | None = None
        self._broken = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and stay connected."""
        self._owner = asyncio.create_task(self._own(), name=f"mcp-{self.name}")

    async def close(self) -> None:
        """Twice is fine."""
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=CLOSE_S)

    async def call(self, tool: str, arguments: Mapping[str, Any], timeout_s: float) -> Answer:
        """Use one of its tools. ToolFailed in words for the model."""
        if self._client is None:
            raise ToolFailed("the tool's server is away just now")
        try:
            result = await self._client.call_tool(tool, dict(arguments), read_timeout_seconds=timeout_s)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self._broken.set()
                raise ToolFailed("the tool's server went away") from None
            raise ToolFailed(self._clean(str(error))) from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError, httpx2.HTTPError):
            self._broken.set()
            raise ToolFailed("the tool's server went away") from None
        if result.structured_content is not None and not result.is_error:
            text = json.dumps(result.structured_content, ensure_ascii=False)
        else:
            text = "\n".join(part.text for part in result.content if part.type == "text")
        if result.is_error:
            raise ToolFailed(self._clean(text) or "the tool failed")
        return Answer(self._clean(text) or '{"ok": true}', len(text.encode(errors="replace")))

    # --- the owner of the connection

    async def _own(self) -> None:
        attempt = 0
        while True:
            self._broken.clear()
            try:
                async with self._connected():
                    attempt = 0
                    await self._broken.wait()
                    self._tell({}, "the server went away")
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # whatever a stranger's program does; task groups wrap it
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                self._tell({}, _reason(error))
            finally:
                self._client = None
            await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
            attempt += 1

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self._tool.connect_timeout_s):
                transport = await self._transport(stack)
                client = await stack.enter_async_context(Client(transport, cache=None))
                listed = (await client.list_tools()).tools
            functions = {}
            for tool in listed:
                if not self._tool.allowed_tools or tool.name in self._tool.allowed_tools:
                    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.name}_{tool.name}")[:MAX_NAME]
                    schema = dict(tool.input_schema or _ANY_OBJECT)
                    functions[name] = McpFunction(self, tool.name, tool.description or tool.name, schema)
            self._client = client
            self._tell(functions, "" if functions else "it has no tools that are allowed")
            yield

    async def _transport(self, stack: contextlib.AsyncExitStack) -> Any:
        tool = self._tool
        if tool.command:
            env = {name: value.get_secret_value() for name, value in tool.env.items()}
            program, *args = tool.command
            return stdio_client(
                StdioServerParameters(command=program, args=args, env=env, cwd=self._folder.absolute()),
                errlog=sys.stderr,
            )
        secret = tool.secret.get_secret_value()
        headers = {name: templates.fill_header(text, {"secret": secret}) for name, text in tool.headers.items()}
        timeout = httpx2.Timeout(tool.timeout_s, connect=tool.connect_timeout_s, read=max(300.0, tool.timeout_s))
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False))
        return streamable_http_client(tool.url, http_client=http)

    def _tell(self, functions: dict[str, McpFunction], problem: str) -> None:
        told = self.functions.keys(), self.problem
        self.functions, self.problem = functions, problem
        first = not self.settled.is_set()
        self.settled.set()
        if problem and (first or told[1] != problem):
            log.warning("mcp_server", tool=self.name, problem=problem)
        if not first and (functions.keys(), problem) != told:
            self._changed()

    def _clean(self, text: str) -> str:
        for secret in (self._tool.secret, *self._tool.env.values()):
            if secret.get_secret_value():
                text = text.replace(secret.get_secret_value(), "***")
        return text


class McpFunction:
    """One tool of a server."""

    def __init__(self, server: McpServer, tool: str, description: str, parameters: dict[str, Any]) -> None:
        self.description, self.parameters = description, parameters
        self._server, self._tool = server, tool

    async def run(self, arguments: Mapping[str, Any], facts: CallFacts) -> Answer:
        """One use."""
        del facts  # a server of others' is told what the model tells it
        return await self._server.call(self._tool, arguments, self._server.timeout_s)


def _reason(error: BaseException) -> str:
    """The innermost of what task groups have wrapped, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"[:200]
