"""The client's end of one realtime session: from the caller's frames to a WebSocket, from its messages to the call.

The shell owns the connection and two timers and decides nothing: messages go to the `RealtimeSession`, its events to
`on_event`, its outbox to the WebSocket, all within one loop step. Which library speaks WebSocket is not its concern
(`websocket.py`). The caller's frames, fifty a second, pass it by (`uplink.py`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

from sipagent.config.sections import WebSocketName
from sipagent.errors import RealtimeError, RealtimeLost
from sipagent.xai import by_picows, by_websockets
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.session import RealtimeSession, SessionEvent
from sipagent.xai.tcp import Tcp
from sipagent.xai.uplink import Uplink
from sipagent.xai.websocket import Upgrade, WebSocket

log = structlog.get_logger()

CLOSE_TIMEOUT_S = 1.0
"""The socket is billed by the second: after this long without the server's close frame it is cut."""
PULSE_S, PING_AFTER_S, DEAD_AFTER_S = 0.5, 1.0, 2.5
"""How often we look; nothing came for so long: is somebody there? And for so long, a ping included: nobody is."""
LIBRARIES: Mapping[WebSocketName, Upgrade] = {"picows": by_picows.upgrade, "websockets": by_websockets.upgrade}

TICK_S = 0.01
"""The kernel tells silence in its own ticks of up to so much: a look that comes a moment too early would see none."""

OnEvent = Callable[[SessionEvent], None]


class RealtimeClient:
    """One session's connection, used once. Make it with `connect`."""

    def __init__(self, session: RealtimeSession, on_event: OnEvent, tcp: Tcp) -> None:
        self.session = session
        self.uplink = Uplink(session)
        self.append_audio = self.uplink.append_audio
        """One caller frame, written to the socket before this returns (or kept, or dropped and counted)."""
        self.lost: asyncio.Future[RealtimeLost] = asyncio.get_running_loop().create_future()
        """Done when the connection ends before `aclose`."""
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._tcp = tcp
        self._websocket: WebSocket | None = None
        """From its opening to its end."""
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._pulse: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._closing = False
        self._why = ""
        """Why we gave it up, where it was us."""

    # --- the caller's side

    def flush(self) -> None:
        """Send what the session has put in its outbox."""
        if not self.session.outbox or (websocket := self._websocket) is None or not websocket.is_open:
            return
        for message in self.session.take_outbox():
            websocket.send_text(message)

    def configure(self, config: SessionConfig, on_event: OnEvent) -> None:
        """A session that stands by is somebody's from now on: who they are, and who hears what it says."""
        self._on_event = on_event
        self.session.configure(config, self._loop.time())
        self.flush()
        self._arm()

    def round_trip_ms(self) -> float | None:
        """To the server's end of the TCP connection and back, as the kernel measures it; None when it cannot say."""
        return self._tcp.round_trip_ms()

    def forget(self) -> None:
        """What comes from now on is for nobody."""
        self._on_event = _forget

    async def aclose(self) -> None:
        """Close politely, then by force; twice is fine."""
        self._closing = True
        self.uplink.close()
        if self._timer:
            self._timer.cancel()
        if (websocket := self._websocket) is None:
            return
        try:
            if websocket.is_open:
                websocket.close()
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await asyncio.shield(self._gone)
        except TimeoutError:
            pass
        finally:
            websocket.abort()  # also when nobody waits any more

    # --- websocket.Listener

    def on_open(self, websocket: WebSocket) -> None:
        """The upgrade succeeded."""
        self._websocket = websocket
        self.uplink.open(websocket.send_text, self._tcp.socket.fileno())
        self._pulse = self._loop.call_later(PULSE_S, self._feel_pulse)

    def on_text(self, message: bytes) -> None:
        """A message to the session, its events to the call."""
        if not self._why:  # more may have come in the same breath as what ended it
            self._tell(self.session.receive, message, self._loop.time())

    def on_binary(self) -> None:
        """Only `transport: binary` would bring these, which we never ask for."""
        self.session.counts["binary_frames"] += 1

    def on_end(self, why: str) -> None:
        """The end, however it came. Nothing of the call is held from here on: no cycle is left for the collector."""
        self._gone.set_result(None)
        for timer in (self._timer, self._pulse):
            if timer:
                timer.cancel()
        self._timer = self._pulse = None
        if not self._closing and not self.lost.done():
            self.lost.set_result(RealtimeLost(self._why or why))
        self._on_event = _forget
        self._websocket = None
        self.uplink.close()

    # --- the shell's own

    def _tell(self, core: Callable[..., list[SessionEvent]], *what: Any) -> None:
        """To the session, and what that means for the call.

        A fault of ours on the way, which a library may swallow: it is told, and the session ends, since it would go on
        in no known state.
        """
        try:
            for event in core(*what):
                self._on_event(event)
        except Exception as error:  # whatever it was, the call goes on without this session
            log.exception("realtime_event_failed")
            self._give_up(f"this program failed on what the server said: {error!r}")
            return
        self.flush()
        self._arm()

    def _give_up(self, why: str) -> None:
        self._why = self._why or why
        if self._websocket:
            self._websocket.abort()

    def _feel_pulse(self) -> None:
        """A server whose program has died behind a living kernel acknowledges for ever, and answers no ping."""
        if (websocket := self._websocket) is None:
            return
        if not websocket.is_open:
            if not self._closing:  # the server ended it, or erred, and does not let go of the connection
                websocket.abort()
            return
        silent_s = self._tcp.silent_s()
        # One that has just spoken need not be looked at before it may have been silent for too long.
        again_s = max(PULSE_S, PING_AFTER_S + TICK_S - silent_s)
        self._pulse = self._loop.call_later(again_s, self._feel_pulse)
        if silent_s > DEAD_AFTER_S:
            self._give_up(f"the server has not said a word for {DEAD_AFTER_S:g} s, not even to a ping")
        elif silent_s > PING_AFTER_S:
            websocket.ping()

    def _arm(self) -> None:
        due = self.session.next_timer()
        if self._timer and due != self._due:
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._due, self._timer = due, self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._tell(self.session.handle_timer, max(self._loop.time(), self.session.next_timer() or 0.0))


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
    library: WebSocketName,
    ssl_context: ssl.SSLContext | None = None,
    timeout_s: float,
    conversation_id: str = "",
) -> RealtimeClient:
    """Open the socket and upgrade it, by this library for WebSocket.

    `conversation_id` of a conversation that is to go on. `ssl_context` is shared by all sessions of a process (making
    one takes 33 ms); without one wss trusts who the system trusts. Raises RealtimeRefused with the server's status and
    words, RealtimeError for a socket that cannot be had in `timeout_s`.
    """
    url = endpoint_url(url, model=session.config.model, conversation_id=conversation_id)
    parts = urlsplit(url)
    secure, host = parts.scheme == "wss", parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    context = (ssl_context or ssl.create_default_context()) if secure else None
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with AsyncExitStack() as undo:
        try:
            async with asyncio.timeout(timeout_s):
                tcp = await Tcp.connect(host, port)
                undo.callback(tcp.cut)
                client = RealtimeClient(session, on_event, tcp)
                undo.push_async_callback(client.aclose)
                await LIBRARIES[library](url, tcp.socket, context, headers, client)
        except TimeoutError:
            raise RealtimeError(f"{host}:{port} did not open a session in {timeout_s:g} s") from None
        except OSError as error:
            raise RealtimeError(f"cannot reach {host}:{port}: {error}") from error
        undo.pop_all()  # it stands: whoever asked for it closes it
    return client
