"""A session's WebSocket by picows: frames in C, TLS by aiofastnet. The default, for its 12 % less CPU a call.

picows parses frames; messages are put together here, and what of RFC 6455 concerns more than one frame is watched over
here as well. Its masks are C's `rand`, which anybody could foresee: they are for proxies that read along (section
10.3), and TLS keeps those out.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)

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

_TEXT, _CONTINUATION, _CLOSE = WSMsgType.TEXT, WSMsgType.CONTINUATION, WSMsgType.CLOSE
_DATA = (_TEXT, _CONTINUATION, WSMsgType.BINARY)
_NO_STATUS = 1005
"""RFC 6455's number for a close frame without one; picows says 0."""
_log = Quiet(logging.getLogger("picows.client"), {})


async def upgrade(
    url: str, connected: socket.socket, ssl_context: ssl.SSLContext | None, headers: Mapping[str, str], to: Listener
) -> None:
    """As `websocket.Upgrade` says."""
    websocket = PicowsSocket(to)
    try:
        _, hearer = await ws_connect(
            lambda _request, _response: websocket,
            url,
            ssl_context=ssl_context,
            socket_factory=lambda _url: connected,
            extra_headers=headers,
            max_redirects=0,  # the key goes to nobody else
            websocket_handshake_timeout=None,  # whoever waits has one
            max_frame_size=MAX_MESSAGE_BYTES,
            logger_name=_log,
        )
    except WSHandshakeError as error:
        raise _refusal(error) from None
    except WSError as error:
        raise no_websocket(error) from None
    if hearer is not websocket:
        raise RealtimeLost(f"closed during the handshake: {DROPPED}")


class PicowsSocket(WSListener):
    """One connection, from its upgrade on."""

    def __init__(self, to: Listener) -> None:
        self._to: Listener | None = to
        self._transport: WSTransport | None = None
        self._message: bytearray | None = None
        """What has come of a message that is in fragments."""
        self._is_text = False
        self._closed = ""
        self._ending: asyncio.Task[None] | None = None
        self.send_text: Callable[[bytes], None] = _to_nobody

    # --- WebSocket

    @property
    def is_open(self) -> bool:
        """Messages can be sent."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_close_frame_sent
            and not transport.underlying_transport.is_closing()
        )

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._transport:
            self._transport.send_ping()

    def close(self) -> None:
        """Begin the closing handshake."""
        if self._transport:
            self._transport.send_close(WSCloseCode.OK)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport:
            self._transport.disconnect(graceful=False)

    # --- picows' listener

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The upgrade succeeded."""
        self._transport = transport
        self.send_text = sender(transport)
        if self._to:
            self._to.on_open(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame. What is raised here picows answers with a close frame."""
        kind = frame.msg_type
        if kind == _CLOSE:
            self._on_close(transport, frame)
        elif transport.is_close_frame_sent or self._to is None:
            return  # also after an error: picows goes on parsing what has come already
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "reserved bits must be 0")
        elif kind in _DATA:
            self._on_data(self._to, kind, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The end; what picows holds against the server it tells to whoever waits for it."""
        self._transport = None
        self.send_text = _to_nobody
        self._ending = asyncio.ensure_future(transport.wait_disconnected())
        self._ending.add_done_callback(self._ended)

    def pause_writing(self) -> None:
        """The client knows better: it asks the kernel."""

    def resume_writing(self) -> None:
        """As above."""

    # --- messages

    def _on_data(self, to: Listener, kind: WSMsgType, frame: WSFrame) -> None:
        message = self._message
        if (kind == _CONTINUATION) is (message is None):
            wrong = "a continuation of nothing" if message is None else "a new message inside a fragmented one"
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, wrong)
        if message is None:
            self._is_text = kind == _TEXT
            if frame.fin:
                self._tell(to, frame.get_payload_as_bytes())
                return
            message = self._message = bytearray()
        if len(message) + frame.payload_size > MAX_MESSAGE_BYTES:
            raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        message += frame.get_payload_as_memoryview()
        if frame.fin:
            self._message = None
            self._tell(to, bytes(message))

    def _tell(self, to: Listener, message: bytes) -> None:
        if self._is_text:
            to.on_text(message)
        else:
            to.on_binary()

    def _on_close(self, transport: WSTransport, frame: WSFrame) -> None:
        code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big") or _NO_STATUS
        self._closed = closed_with(code, frame.get_close_reason() or "")
        if not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()

    def _ended(self, waited: asyncio.Task[None]) -> None:
        error = None if waited.cancelled() else waited.exception()
        to, self._to = self._to, None
        if to:
            to.on_end(self._closed or (broken(error) if error else DROPPED))


def sender(transport: WSTransport) -> Callable[[bytes], None]:
    """What writes a text message, without a layer of ours in between."""
    return partial(transport.send, _TEXT)


def _to_nobody(_message: bytes) -> None:
    """Before it is open, and after its end."""


class _Received:
    """What http.client takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _refusal(error: WSHandshakeError) -> RealtimeError:
    """Read by the standard library: picows knows no status of Cloudflare's, and leaves the body as it was sent.

    What of the body was not read together with the head is lost: picows has let go of the connection by now.
    """
    received = _Received(b"%b\r\n\r\n%b" % (error.raw_header or b"", error.raw_body or b""))
    response = http.client.HTTPResponse(received)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.IncompleteRead as incomplete:
        body = incomplete.partial
    except (http.client.HTTPException, ValueError):
        return no_websocket(error)
    if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
        return no_websocket(error)
    return refused(response.status, response.reason, body)
