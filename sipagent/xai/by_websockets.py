"""A session's WebSocket by websockets: its Sans-I/O core under a thin asyncio protocol, TLS by the event loop.

Driven this way a frame of the caller is one synchronous write in the callback that brought it, without the queue, lock
and task of the library's own asyncio layer (9 us a message instead of 14).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from sipagent.errors import RealtimeError, RealtimeLost
from sipagent.xai.websocket import (
    DROPPED,
    MAX_MESSAGE_BYTES,
    Listener,
    Quiet,
    broken,
    closed_with,
    no_websocket,
    refused,
)

_log = Quiet(logging.getLogger("websockets.client"), {})


async def upgrade(
    url: str, connected: socket.socket, ssl_context: ssl.SSLContext | None, headers: Mapping[str, str], to: Listener
) -> None:
    """As `websocket.Upgrade` says."""
    loop = asyncio.get_running_loop()
    websocket = WebsocketsSocket(url, headers, to)
    try:
        await loop.create_connection(
            lambda: websocket,
            sock=connected,
            ssl=ssl_context,
            server_hostname=urlsplit(url).hostname if ssl_context else None,
        )
        await websocket.opened
    finally:
        websocket.opened.cancel()  # unless it is done: nobody waits for it any more


class WebsocketsSocket(asyncio.Protocol):
    """One connection."""

    def __init__(self, url: str, headers: Mapping[str, str], to: Listener) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the upgrade succeeded, or with the error that it brought."""
        self._to: Listener | None = to
        self._headers = headers
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES, logger=_log)
        self._transport: asyncio.Transport | None = None
        self._message = bytearray()
        """What has come of a message that is in fragments; how they follow each other, the library looks after."""
        self._is_text = False

    # --- WebSocket

    @property
    def is_open(self) -> bool:
        """Messages can be sent. A transport that is closing may have given its descriptor back already."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._protocol.state is State.OPEN

    def send_text(self, message: bytes) -> None:
        """Write a text message now."""
        if self._transport and self._protocol.state is State.OPEN:
            self._protocol.send_text(message)
            self._transport.writelines(self._protocol.data_to_send())

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._write()

    def close(self) -> None:
        """Begin the closing handshake."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._write()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP (and TLS) stand: ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        """Bytes to frames."""
        self._protocol.receive_data(data)
        self._process()

    def eof_received(self) -> bool | None:
        """The server closed its side; False lets asyncio close ours."""
        self._protocol.receive_eof()
        self._process()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, however it came."""
        why = str(exc) if exc else _close_text(self._protocol)
        to, self._to, self._transport = self._to, None, None
        # The parser is a generator that holds the protocol which holds it: so no cycle is left for the collector.
        self._protocol.parser.close()
        if not self.opened.done():
            error = self._protocol.handshake_exc
            self.opened.set_exception(_refusal(error) if error else RealtimeLost(f"closed during the handshake: {why}"))
        elif to and not self.opened.cancelled():
            to.on_end(why)

    # --- messages

    def _process(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                if self._protocol.handshake_exc is None and not self.opened.done() and self._to:
                    self.opened.set_result(None)
                    self._to.on_open(self)
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._write()
        if self._protocol.close_expected() and self._transport:
            self._transport.close()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._message += frame.data
        if not frame.fin or self._to is None:
            return
        message, self._message = bytes(self._message), bytearray()
        if self._is_text:
            self._to.on_text(message)
        else:
            self._to.on_binary()

    def _write(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()


def _refusal(error: BaseException) -> RealtimeError:
    if isinstance(error, InvalidStatus):
        response = error.response
        return refused(response.status_code, response.reason_phrase, bytes(response.body or b""))
    return no_websocket(error)


def _close_text(protocol: ClientProtocol) -> str:
    if received := protocol.close_rcvd:
        return closed_with(received.code, received.reason)
    if protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError):
        return broken(protocol.parser_exc)
    return DROPPED
