"""The link between a worker and the control process: msgspec messages on a Unix-socket WebSocket.

Upward go lists of CallEvents with the worker's state and the number of the first before them, downward orders and
acknowledgements. A call never waits for the link: events are put in an `Backlog`, which keeps them until the control
process says that they are safe, and sends them again when the link broke before. What happens within a few
milliseconds travels in one message, since at two hundred calls a message an event would cost the worker more than
the audio of ten of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import WebSocketException

from sipagent.backlog import Backlog
from sipagent.errors import ConfigError
from sipagent.orders import (
    Acknowledged,
    Downward,
    Numbered,
    Order,
    SessionHeld,
    SessionTold,
    SessionWanted,
    Upward,
    WorkerHello,
    WorkerState,
)
from sipagent.outbox import Outbox

log = structlog.get_logger()

BUFFERED_EVENTS = 10_000
"""About an hour of one worker's calls at full load, 5 MB."""
STATE_EVERY_S = 0.2
LINGER_S = 0.02
MAX_BATCH = 500
RECONNECT_S = 0.5
MAX_UNIX_PATH = 107
ON_THIS_MACHINE: Mapping[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}
"""Both ends of a link. It ends with a process and never otherwise: the kernel tells each side of the other's death, who
hangs is found out by what they do not say (`control.heartbeat`), and a message is as long as its batch."""

_UPWARD: msgspec.json.Decoder[list[Upward]] = msgspec.json.Decoder(list[Upward])
_DOWNWARD: msgspec.json.Decoder[Downward] = msgspec.json.Decoder(Downward)


def decode_upward(message: str | bytes) -> list[Upward]:
    """A worker's message, in the order things happened; msgspec.DecodeError for anything else."""
    return _UPWARD.decode(message)


def encode(message: Sequence[Upward] | Downward) -> str:
    """A message as text."""
    return msgspec.json.encode(message).decode()


class WorkerLink:
    """The worker's end."""

    def __init__(self, path: Path, worker: int) -> None:
        self.audio = Outbox()
        """Recordings, in binary messages of their own."""
        self.sessions: Callable[[], tuple[SessionHeld, ...]] = tuple
        """What the worker has open, told whenever the link is up again."""
        self._path, self._worker = path, worker
        self._backlog: Backlog[Upward] = Backlog(BUFFERED_EVENTS)
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._known = asyncio.Event()

    @property
    def run_id(self) -> str:
        """This process, for whoever has to tell it from its successor."""
        return self._backlog.run

    @property
    def dropped(self) -> int:
        """Events that nobody will hear of: the control process was away for too long."""
        return self._backlog.dropped

    def send(self, event: Upward) -> None:
        """Queue one event; returns at once. Whoever asks for something does not wait for what others have to tell."""
        self._backlog.add(event)
        self._wake.set()
        if isinstance(event, SessionWanted):
            self._hurry.set()

    async def run(self, state: Callable[[int], WorkerState], on_order: Callable[[Order | SessionTold], None]) -> None:
        """Keep the link up until cancelled; the control process may come and go.

        `state(events dropped)` is asked for every half second and before events, `on_order` gets what comes down.
        """
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with unix_connect(str(self._path), **ON_THIS_MACHINE) as socket:
                    await self._serve(socket, state, on_order)
            await asyncio.sleep(RECONNECT_S)

    async def _serve(
        self,
        socket: ClientConnection,
        state: Callable[[int], WorkerState],
        on_order: Callable[[Order | SessionTold], None],
    ) -> None:
        self._backlog.rewind()
        await socket.send(encode([WorkerHello(self._worker, os.getpid(), self._backlog.run, self.sessions())]))
        reader = asyncio.create_task(self._read(socket, on_order))
        recorder = asyncio.create_task(self.audio.run(socket))
        try:
            while not reader.done():
                first, items = self._backlog.take(MAX_BATCH)
                await socket.send(encode([state(self.dropped), Numbered(first), *items]))
                if self._backlog.waiting:
                    continue
                self._wake.clear()
                self._hurry.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STATE_EVERY_S):
                        await self._wake.wait()
                    async with asyncio.timeout(LINGER_S):
                        await self._hurry.wait()
        finally:
            reader.cancel()
            recorder.cancel()

    async def _read(self, socket: ClientConnection, on_order: Callable[[Order | SessionTold], None]) -> None:
        async for message in socket:
            try:
                downward = _DOWNWARD.decode(message)
            except msgspec.DecodeError as error:
                log.warning("link_garbage", error=str(error))
                continue
            if isinstance(downward, Acknowledged):
                self._known.set()
                self._backlog.acknowledge(downward.number)
            else:
                on_order(downward)

    async def until_known(self, at_most_s: float) -> bool:
        """Wait until the control process has heard of this process; False: it has not said so in that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._known.wait()
        return self._known.is_set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until every event is safe and every block sent, at most `timeout_s`: the last act of a worker."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (self._backlog or not self.audio.empty) and asyncio.get_running_loop().time() < deadline:
            self._wake.set()
            await asyncio.sleep(0.01)


def check_socket_path(path: Path) -> None:
    """ConfigError when the kernel cannot bind a Unix socket of this length."""
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ConfigError(f"run_dir: {path} is too long for a Unix socket ({MAX_UNIX_PATH} bytes): shorten it")
