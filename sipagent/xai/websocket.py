"""What a session asks of a WebSocket, and what it is told: the interface that every library for it is fitted to.

`by_picows.py` and `by_websockets.py` fit two of them, `[realtime] websocket` chooses. Each is given a TCP connection
that stands, speaks TLS and WebSocket over it, and puts fragments together.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from sipagent.errors import RealtimeError, RealtimeRefused

MAX_MESSAGE_BYTES = 8 << 20
"""An hour of G.711 in one delta would be 38 MB of base64; the longest answers are about 0.5 MB."""
DROPPED = "the connection dropped without a close frame"
_MAX_DETAIL_BYTES = 300


class WebSocket(Protocol):
    """One that is open, or was. After its end everything here does nothing."""

    @property
    def send_text(self) -> Callable[[bytes], None]:
        """Write a text message now. For every frame of the caller: nothing slow may stand in between."""

    @property
    def is_open(self) -> bool:
        """Messages can be sent, and the connection may be asked about itself."""

    def ping(self) -> None:
        """Ask for a sign of life."""

    def close(self) -> None:
        """Begin the closing handshake, with 1000."""

    def abort(self) -> None:
        """End the connection at once."""


class Listener(Protocol):
    """Who hears it: `on_open` once, messages, `on_end` once; without the first nothing of it."""

    def on_open(self, websocket: WebSocket) -> None:
        """The upgrade succeeded. Messages may come before whoever waits for it has been woken."""

    def on_text(self, message: bytes) -> None:
        """A whole message; whether it is UTF-8 is the hearer's to find out."""

    def on_binary(self) -> None:
        """A whole message of the other kind."""

    def on_end(self, why: str) -> None:
        """The connection is no more."""


Upgrade = Callable[[str, socket.socket, ssl.SSLContext | None, Mapping[str, str], Listener], Awaitable[None]]
"""A library: WebSocket to this address over this connection, with these headers; returns after `on_open`.

The socket is the library's from then on. Raises RealtimeRefused, RealtimeError, and OSError where TLS or TCP fail.
"""


def closed_with(code: int, reason: str) -> str:
    """Why it ended, when the server said so."""
    return f"the server closed with {code} {reason}".rstrip()


def broken(how: object) -> str:
    """Why it ended, when what the server sent was no WebSocket."""
    return f"WebSocket protocol error: {how}"


def refused(status: int, reason: str, body: bytes) -> RealtimeRefused:
    """An answer that is no upgrade, with the server's words where it had any."""
    return RealtimeRefused(status, body[:_MAX_DETAIL_BYTES].decode("utf-8", "replace").strip() or reason)


def no_websocket(how: object) -> RealtimeError:
    """An answer that is no HTTP, or an upgrade to something else."""
    return RealtimeError(f"the endpoint does not speak WebSocket: {how}")


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """For a library: its warnings only. Below them they log every connection, and the request with our key in it."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """Never below a warning, whatever the root logger is set to."""
        return level >= logging.WARNING and super().isEnabledFor(level)
