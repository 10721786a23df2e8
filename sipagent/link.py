"""The link between a worker and the control process: msgspec messages on a Unix-socket WebSocket.

Upward go lists of CallEvents with the worker's state before them, downward orders. A call never waits for
the link: events are put in a bounded buffer, the oldest dropped and counted when the control process is away
too long. What happens within a few milliseconds travels in one message, since at two hundred calls a message
an event would cost the worker more than the audio of ten of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import WebSocketException

from sipagent.errors import ConfigError
from sipagent.orders import Order, Upward, WorkerHello, WorkerState
from sipagent.outbox import Outbox

log = structlog.get_logger()

BUFFERED_EVENTS = 10_000
"""About an hour of one worker's calls at full load, 5 MB."""
STATE_EVERY_S = 1.0
LINGER_S = 0.02
MAX_BATCH = 500
RECONNECT_S = 0.5
MAX_UNIX_PATH = 107

_UPWARD: msgspec.json.Decoder[list[Upward]] = msgspec.json.Decoder(list[Upward])
_ORDER: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)


def decode_upward(message: str | bytes) -> list[Upward]:
    """A worker's message, in the order things happened; msgspec.DecodeError for anything else."""
    return _UPWARD.decode(message)


def encode(message: Sequence[Upward] | Order) -> str:
    """A message as text."""
    return msgspec.json.encode(message).decode()


class WorkerLink:
    """The worker's end."""

    def __init__(self, path: Path, worker: int) -> None:
        self.dropped = 0
        self.audio = Outbox()
        """Recordings, in binary messages of their own."""
        self._path, self._worker = path, worker
        self._buffer: deque[Upward] = deque()
        self._batch: list[Upward] = []  # on its way
        self._wake = asyncio.Event()

    def send(self, event: Upward) -> None:
        """Queue one event; returns at once."""
        if len(self._buffer) >= BUFFERED_EVENTS:
            self._buffer.popleft()
            self.dropped += 1
        self._buffer.append(event)
        self._wake.set()

    async def run(self, state: Callable[[int], WorkerState], on_order: Callable[[Order], None]) -> None:
        """Keep the link up until cancelled; the control process may come and go.

        `state(events dropped)` is asked for every second and before events, `on_order` gets each order.
        """
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with unix_connect(str(self._path), compression=None) as socket:
                    await self._serve(socket, state, on_order)
            await asyncio.sleep(RECONNECT_S)

    async def _serve(
        self, socket: ClientConnection, state: Callable[[int], WorkerState], on_order: Callable[[Order], None]
    ) -> None:
        await socket.send(encode([WorkerHello(self._worker, os.getpid())]))
        reader = asyncio.create_task(_read(socket, on_order))
        recorder = asyncio.create_task(self.audio.run(socket))
        try:
            while not reader.done():
                await self._send_batch(socket, state(self.dropped))
                if self._buffer:
                    continue
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STATE_EVERY_S):
                        await self._wake.wait()
                    await asyncio.sleep(LINGER_S)
        finally:
            reader.cancel()
            recorder.cancel()

    async def _send_batch(self, socket: ClientConnection, state: WorkerState) -> None:
        batch = self._batch = [self._buffer.popleft() for _ in range(min(len(self._buffer), MAX_BATCH))]
        try:
            await socket.send(encode([state, *batch]))
        except BaseException:  # cancelled as well as failed: whatever it was goes on, and so do the events
            self._buffer.extendleft(reversed(batch))
            raise
        finally:
            self._batch = []

    async def drain(self, timeout_s: float) -> None:
        """Wait until every event and block has been sent, at most `timeout_s`: the last act of a worker."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (self._buffer or self._batch or not self.audio.empty) and asyncio.get_running_loop().time() < deadline:
            self._wake.set()
            await asyncio.sleep(0.01)


async def _read(socket: ClientConnection, on_order: Callable[[Order], None]) -> None:
    async for message in socket:
        try:
            on_order(_ORDER.decode(message))
        except msgspec.DecodeError as error:
            log.warning("link_garbage", error=str(error))


def check_socket_path(path: Path) -> None:
    """ConfigError when the kernel cannot bind a Unix socket of this length."""
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ConfigError(f"run_dir: {path} is too long for a Unix socket ({MAX_UNIX_PATH} bytes): shorten it")
