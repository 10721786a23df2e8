"""The worker's side of its toolbox: keeps the process, asks it, and never waits for it longer than agreed.

A toolbox that is dead, slow or gone gives an error that the model can read; it is started again with longer and
longer waits, and told the configuration anew. Nothing here blocks the loop: messages are small, and the process is
started in the gaps between frames as any child is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from pydantic import SecretStr

from sipagent.config import LogSettings
from sipagent.config.tools import LocalTool, McpTool, Tool
from sipagent.tools import CallFacts, messages

log = structlog.get_logger()

BACKOFF_S = (0.1, 0.5, 2.0, 10.0)
"""Before a dead toolbox is started again; the last repeats."""
STEADY_S = 30.0
"""One that lived this long is started again at once."""
START_S = 8.0
"""Python and its libraries take 0.5 s, a local MCP server its `connect_timeout_s` at most."""
GRACE_S = 2.0
"""Beyond a tool's own time-out: a toolbox that has not answered by then is taken for stuck."""
END_S = 5.0
AWAY = "the tools are away just now; go on without them, or try again in a moment"

_UPWARD: msgspec.msgpack.Decoder[messages.Upward] = msgspec.msgpack.Decoder(messages.Upward)


def command(fileno: int, log_settings: LogSettings) -> list[str]:
    """How the process is started."""
    return [sys.executable, "-m", "sipagent.toolbox", str(fileno), log_settings.model_dump_json()]


class Toolbox:
    """One worker's toolbox. `configure` starts the process when there is something for it to do."""

    def __init__(self, log_settings: LogSettings) -> None:
        self.restarts = 0
        self.pid: int | None = None
        self.offers: dict[int, messages.Offer] = {}
        """By generation: what can be called, as the toolbox said last."""
        self._log_settings = log_settings
        self._generation = 0
        self._orders: dict[int, messages.Configure] = {}
        """The generation in force and the one before it: told again to a new process."""
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[messages.Returned]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._offered = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def configure(self, tools: Mapping[str, Tool], folder: Path) -> int:
        """Make these the tools of new calls; returns their generation, when they can be called or `START_S` is over."""
        local = {name: tool for name, tool in tools.items() if isinstance(tool, LocalTool)}
        self._generation += 1
        number = self._generation
        if not local and self._keeper is None:
            return number
        order = _order(number, local, folder)
        self._orders = {key: kept for key, kept in self._orders.items() if key == number - 1} | {number: order}
        self.offers = {key: offer for key, offer in self.offers.items() if key >= number - 1}
        patience_s = START_S + max((t.connect_timeout_s for t in local.values() if isinstance(t, McpTool)), default=0)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="toolbox")
        else:
            self._send(order)
        try:
            async with asyncio.timeout(patience_s):
                while number not in self.offers:
                    self._offered.clear()
                    await self._offered.wait()
        except TimeoutError:
            log.error("toolbox_late", generation=number, mend="calls go on without tools until it answers")
        return number

    async def call(
        self, generation: int, function: str, arguments: dict[str, Any], facts: CallFacts, timeout_s: float
    ) -> messages.Returned:
        """Run one function. Always returns: trouble is in `error`.

        Cancelling it cancels the tool.
        """
        request_id = next(self._ids)
        if self._writer is None:
            return messages.Returned(request_id, "", AWAY, 0.0, 0)
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        call = messages.Call(
            request_id, generation, facts.call_id, function, arguments, facts.variables, facts.traceparent
        )
        self._send(call)
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                returned: messages.Returned = await answer
                return returned
        except TimeoutError:
            self._send(messages.Cancel(request_id))
            log.error("toolbox_stuck", tool=function)
            return messages.Returned(request_id, "", f"no answer in {timeout_s:g} seconds", timeout_s * 1000, 0)
        except asyncio.CancelledError:
            self._send(messages.Cancel(request_id))
            raise
        finally:
            del self._waiting[request_id]

    async def aclose(self) -> None:
        """The process goes, and everything it has started; twice is fine."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    # --- the process

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        quick_deaths = 0
        while True:
            started = loop.time()
            await self._live()
            self.restarts += 1
            quick_deaths = 0 if loop.time() - started > STEADY_S else quick_deaths + 1
            wait_s = BACKOFF_S[min(quick_deaths, len(BACKOFF_S)) - 1] if quick_deaths else 0.0
            log.error("toolbox_died", restart_in_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _live(self) -> None:
        """One process, from its start to its end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        process: asyncio.subprocess.Process | None = None
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command(theirs.fileno(), self._log_settings),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is ours to handle
                )
            self.pid = process.pid
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=messages.MAX_BYTES)
            self._writer = writer
            for order in self._orders.values():
                self._send(order)
            with contextlib.suppress(EOFError):
                while True:
                    self._take(await messages.read(reader, _UPWARD))
        except OSError as error:
            log.error("toolbox_not_started", error=str(error))
        finally:
            writer_of, self._writer, self.pid = self._writer, None, None
            if writer_of is not None:
                writer_of.close()
            else:
                ours.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_result(messages.Returned(0, "", AWAY, 0.0, 0))
            if process is not None:
                await _ended(process)

    def _take(self, message: messages.Upward) -> None:
        match message:
            case messages.Offer():
                if message.generation in self._orders:
                    self.offers[message.generation] = message
                self._offered.set()
                for name, problem in message.problems.items():
                    log.warning("tool_unavailable", tool=name, problem=problem)
            case messages.Returned():
                waiting = self._waiting.get(message.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    def _send(self, message: messages.Downward) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(messages.frame(message))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """It ends by itself when its socket is closed; one that does not is killed, with all it has started."""
    waiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({waiting}, timeout=END_S)
    finally:
        if not waiting.done():
            log.error("toolbox_killed", pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await asyncio.wait({waiting}, timeout=1.0)


def _order(generation: int, tools: Mapping[str, LocalTool], folder: Path) -> messages.Configure:
    return messages.Configure(generation, _as_json(tools), str(folder.absolute()))


def _as_json(tools: Mapping[str, LocalTool]) -> bytes:
    """With its secrets: the toolbox has to use them, and the socket is nobody else's."""

    def open_secret(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        raise TypeError(type(value).__name__)

    plain = {name: tool.model_dump(mode="python") for name, tool in tools.items()}
    return json.dumps(plain, default=open_secret).encode()
