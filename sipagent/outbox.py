"""Blocks of recordings on their way to the control process: bounded, in order, never waited for.

They travel beside the link's events, as binary messages on the same socket, and need no word back: what could not be
sent when the socket broke is sent again, and what the control process did not get is a hole that its writer sees.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

BUFFERED_BYTES = 64 << 20
"""A minute of 65 recorded calls, for a control process that is being restarted."""


class Outbox:
    """What waits for the socket, of all calls of one worker."""

    def __init__(self) -> None:
        self.dropped = 0
        """Blocks that had to go, the oldest first."""
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._sending = False

    @property
    def empty(self) -> bool:
        """All is sent."""
        return not self._waiting and not self._sending

    def put(self, message: bytes) -> None:
        """Queue one block; returns at once."""
        self._waiting.append(message)
        self._bytes += len(message)
        while self._bytes > BUFFERED_BYTES:
            self._bytes -= len(self._waiting.popleft())
            self.dropped += 1
        self._wake.set()

    async def run(self, socket: ClientConnection) -> None:
        """Send until cancelled, or until the socket is gone: what it did not take stays first in the queue."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._wake.clear()
                while self._waiting:
                    await self._send(socket, self._waiting.popleft())
                await self._wake.wait()

    async def _send(self, socket: ClientConnection, message: bytes) -> None:
        self._bytes -= len(message)
        self._sending = True
        try:
            await socket.send(message)
        except BaseException:  # cancelled as well as failed: it was not sent, and is the first to go next time
            self._waiting.appendleft(message)
            self._bytes += len(message)
            raise
        finally:
            self._sending = False
