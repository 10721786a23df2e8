"""The socket of one realtime session: websockets' Sans-I/O core under a thin asyncio protocol.

Driven this way a frame of the caller is one synchronous write in the callback that brought it, without
the queue, lock and task of the library's own asyncio layer (9 us a message instead of 14). The shell
owns the socket and one timer and decides nothing: messages go to the `RealtimeSession`, its events to
`on_event`, its outbox to the socket, all within one loop step.

Towards the model at most `MAX_WAITING` frames of the caller wait here when the network does not take them,
and `MAX_UNSENT_BYTES` in the kernel; beyond that the oldest are dropped and counted, since late words are
worse than lost ones.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from sipagent.audio import PTIME_MS
from sipagent.errors import RealtimeError, RealtimeLost, RealtimeRefused
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.session import RealtimeSession, SessionEvent

CLOSE_TIMEOUT_S = 1.0
"""The socket is billed by the second: after this long without the server's close frame it is cut."""
DEAD_PEER_MS = 2500
"""Data that the other side's kernel has not acknowledged for so long: the connection is lost (RFC 5482)."""
PULSE_S, PING_AFTER_S, DEAD_AFTER_S = 0.5, 1.0, 2.5
"""How often we look; nothing came for so long: is somebody there? And for so long, a ping included: nobody is."""
MAX_MESSAGE_BYTES = 8 << 20
"""An hour of G.711 in one delta would be 38 MB of base64; the longest answers are about 0.5 MB."""
MAX_WAITING = 200 // PTIME_MS
"""200 ms of the caller."""
MAX_UNSENT_BYTES = 1400
"""In the kernel beyond what is on its way: 100 ms of the caller. More waits here, where it can still be dropped."""
_SIOCOUTQNSD = 0x894B
_unsent = array("i", [0])
_TCP_INFO_RTT = struct.Struct("@68xI")
"""tcpi_rtt of Linux's struct tcp_info: smoothed, in microseconds."""

OnEvent = Callable[[SessionEvent], None]


class RealtimeClient(asyncio.Protocol):
    """One session's socket, used once. Make it with `connect`."""

    def __init__(
        self, uri: WebSocketURI, headers: Mapping[str, str], session: RealtimeSession, on_event: OnEvent
    ) -> None:
        self.session = session
        self.dropped_frames = 0
        self.lost: asyncio.Future[RealtimeLost] = asyncio.get_running_loop().create_future()
        """Done when the socket ends before `aclose`."""
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._protocol = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES)
        self._headers = headers
        self._transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when the upgrade succeeded, or with the error that it brought."""
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._heard_s = 0.0
        """When the last bytes came."""
        self._pulse: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._fragments: list[bytes] = []
        self._fileno = -1
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._closing = False
        self._why = ""
        """Why we gave it up, where it was us."""

    # --- the caller's side

    def append_audio(self, payload: bytes) -> None:
        """One caller frame, written to the socket before this returns (or kept, or dropped and counted)."""
        message = self.session.append_audio(payload)
        transport = self._transport
        # A transport that is closing may have given its descriptor back already: nothing may be asked of it.
        if message is None or transport is None or transport.is_closing() or self._protocol.state is not State.OPEN:
            return
        waiting = self._waiting
        if waiting or self._unsent_bytes() > MAX_UNSENT_BYTES:
            self.dropped_frames += len(waiting) == MAX_WAITING
            waiting.append(message)
            while waiting and self._unsent_bytes() <= MAX_UNSENT_BYTES:
                self._send(waiting.popleft())
        else:
            self._send(message)

    def _send(self, message: bytes) -> None:
        self._protocol.send_text(message)
        if self._transport:
            self._transport.writelines(self._protocol.data_to_send())

    def _unsent_bytes(self) -> int:
        """What the kernel holds and the network has not taken (SIOCOUTQNSD; 0.3 us).

        Transports are asked in vain: 64 kB may hide in asyncio's TLS, and the kernel's own buffer holds six seconds
        of audio before it notices.
        """
        fcntl.ioctl(self._fileno, _SIOCOUTQNSD, _unsent)
        return _unsent[0]

    def flush(self) -> None:
        """Send what the session has put in its outbox."""
        if self._transport is None or self._protocol.state is not State.OPEN:
            return
        for message in self.session.take_outbox():
            self._protocol.send_text(message)
        self._write()

    def configure(self, config: SessionConfig, on_event: OnEvent) -> None:
        """A session that stands by is somebody's from now on: who they are, and who hears what it says."""
        self._on_event = on_event
        self.session.configure(config, self._loop.time())
        self.flush()
        self._arm()

    def round_trip_ms(self) -> float | None:
        """To the server's end of the TCP connection and back, as the kernel measures it; None when it cannot say."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return None
        try:
            (rtt_us,) = _TCP_INFO_RTT.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))
        except (OSError, struct.error):
            return None
        return float(rtt_us) / 1000

    def forget(self) -> None:
        """What comes from now on is for nobody."""
        self._on_event = _forget

    async def aclose(self) -> None:
        """Close politely, then by force; twice is fine."""
        self._closing = True
        if self._timer:
            self._timer.cancel()
        transport = self._transport
        if transport is None or self._gone.done():
            return
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._write()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await asyncio.shield(self._gone)
            except TimeoutError:
                pass
            finally:
                transport.abort()  # also when nobody waits any more
        else:
            transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP (and TLS) stand: ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        if sock := transport.get_extra_info("socket"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # While a caller is heard something is always on its way: what nobody acknowledges tells a dead peer.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
            self._fileno = sock.fileno()
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        """Bytes to frames, frames to the session, its events to the call."""
        self._heard_s = self._loop.time()
        self._protocol.receive_data(data)
        self._process()

    def eof_received(self) -> bool | None:
        """The server closed its side; False lets asyncio close ours."""
        self._protocol.receive_eof()
        self._process()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, however it came."""
        if not self._gone.done():
            self._gone.set_result(None)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._pulse:
            self._pulse.cancel()
            self._pulse = None
        why = self._why or (str(exc) if exc else _close_text(self._protocol))
        if not self.opened.done():
            error = self._protocol.handshake_exc
            self.opened.set_exception(_refusal(error) if error else RealtimeLost(f"closed during the handshake: {why}"))
        elif not self._closing and not self.lost.done():
            self.lost.set_result(RealtimeLost(why))
        # Nothing comes any more: let go of the call, and end the parser, a generator that holds the protocol which
        # holds it. So no cycle is left for the collector.
        self._on_event = _forget
        self._protocol.parser.close()
        self._transport = None

    # --- the shell's own

    def _process(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                if self._protocol.handshake_exc is None and not self.opened.done():
                    self.opened.set_result(None)
                    self._feel_pulse()
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._write()
        if self._protocol.close_expected() and self._transport:
            self._transport.close()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._receive(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT or (frame.opcode is Opcode.CONT and self._fragments):
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), []
                self._receive(whole)
        elif frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            # Only `transport: binary` would bring these, which we never ask for.
            self.session.counts["binary_frames"] += 1

    def _receive(self, message: bytes) -> None:
        for event in self.session.receive(message, self._loop.time()):
            self._on_event(event)
        self.flush()
        self._arm()

    def _feel_pulse(self) -> None:
        """A server whose program has died behind a living kernel acknowledges for ever, and answers no ping."""
        silent_s = self._loop.time() - self._heard_s
        if silent_s > DEAD_AFTER_S and self._transport is not None:
            self._why = f"the server has not said a word for {DEAD_AFTER_S:g} s, not even to a ping"
            self._transport.abort()
            return
        if silent_s > PING_AFTER_S and self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._write()
        self._pulse = self._loop.call_later(PULSE_S, self._feel_pulse)

    def _arm(self) -> None:
        due = self.session.next_timer()
        if self._timer and due != self._due:
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._due, self._timer = due, self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for event in self.session.handle_timer(max(self._loop.time(), self.session.next_timer() or 0.0)):
            self._on_event(event)
        self.flush()
        self._arm()

    def _write(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()


def _forget(_event: SessionEvent) -> None:
    """After the end of the socket."""


def endpoint_url(url: str, **query: str) -> str:
    """`url` with further query parameters; empty ones are left out."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query) + [(name, value) for name, value in query.items() if value]
    return urlunsplit(parts._replace(query=urlencode(pairs)))


async def connect(
    url: str,
    session: RealtimeSession,
    on_event: OnEvent,
    *,
    api_key: str,
    ssl_context: ssl.SSLContext | None = None,
    timeout_s: float,
    conversation_id: str = "",
) -> RealtimeClient:
    """Open the socket and upgrade it.

    `conversation_id` of a conversation that is to go on. `ssl_context` is shared by all sessions of a process (making
    one takes 33 ms). Raises RealtimeRefused with the server's status and words, RealtimeError for a socket that cannot
    be had in `timeout_s`.
    """
    uri = parse_uri(endpoint_url(url, model=session.config.model, conversation_id=conversation_id))
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    client = RealtimeClient(uri, headers, session, on_event)
    where = f"{uri.host}:{uri.port}"
    async with AsyncExitStack() as undo:
        undo.push_async_callback(client.aclose)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: client, uri.host, uri.port, ssl=ssl_context if uri.secure else None
                )
                await client.opened
        except TimeoutError:
            raise RealtimeError(f"{where} did not open a session in {timeout_s:g} s") from None
        except OSError as error:
            raise RealtimeError(f"cannot reach {where}: {error}") from error
        undo.pop_all()  # it stands: whoever asked for it closes it
    return client


def _refusal(error: BaseException) -> RealtimeError:
    if isinstance(error, InvalidStatus):
        body = error.response.body or b""
        return RealtimeRefused(error.response.status_code, bytes(body[:300]).decode("utf-8", "replace").strip())
    return RealtimeError(f"the endpoint does not speak WebSocket: {error}")


def _close_text(protocol: ClientProtocol) -> str:
    if received := protocol.close_rcvd:
        return f"the server closed with {received.code} {received.reason}".rstrip()
    if protocol.parser_exc is not None:
        return f"WebSocket protocol error: {protocol.parser_exc}"
    return "the connection dropped without a close frame"
