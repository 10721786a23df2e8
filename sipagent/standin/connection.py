"""One open WebSocket and its session: reads frames in, sends what the session puts out, keeps its one timer.

Tasks: the reader (the caller of `run`), the sender, and one for each utterance being heard or spoken; all
belong to one task group and end together. Holds no decision of the conversation.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from aiohttp import WSMsgType, web

from sipagent.errors import ToolError
from sipagent.standin.ears import Ears
from sipagent.standin.faults import Faults
from sipagent.standin.outputs import Close, Drop, Freeze, Hear, Send, Speak
from sipagent.standin.session import Session
from sipagent.standin.voice import Voice
from sipagent.standin.wire import encode

SEND_TIMEOUT_S = 10.0
"""A client that takes nothing for so long is gone: a call reads 50 times a second."""
_CLOSE_S = 1.0  # a closing handshake on loopback takes a millisecond

_log = structlog.get_logger(__name__)


class Connection:
    """Use once: `run` returns when the connection is over."""

    def __init__(
        self,
        session: Session,
        socket: web.WebSocketResponse,
        request: web.Request,
        *,
        ears: Ears | None,
        voice: Voice | None,
    ) -> None:
        self.session = session
        self._socket, self._request = socket, request
        self._ears, self._voice = ears, voice
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()  # the sender has something to do
        self._over = asyncio.Event()  # nothing more is to be read
        self._frozen = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # of the timer; uvloop's handles round it, and every frame would re-arm
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        self.session.open(self._loop.time())
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._spawn(self._send_all())
                self._wake.set()
                try:
                    await self._read_all()
                finally:
                    for task in self._tasks:
                        task.cancel()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def misbehave(self, faults: Faults) -> None:
        """Faults on order, in the middle of it."""
        self.session.misbehave(faults, self._loop.time())
        self._moved()

    async def aclose(self) -> None:
        """Close with 1001 (going away); within a second, whatever the client does."""
        if self._frozen:
            self._abort()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close(code=1001, message=b"stand-in stops")
        except TimeoutError:
            self._abort()
        self._over.set()

    # ---- in

    async def _read_all(self) -> None:
        session, loop = self.session, self._loop
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                session.receive_text(message.data, loop.time())
            elif message.type is WSMsgType.BINARY:
                session.receive_bytes(message.data, loop.time())
            else:
                break  # an error: too large, not UTF-8, a broken frame; aiohttp has closed it with the code
            self._moved()
            if self._frozen:
                await self._over.wait()

    def _moved(self) -> None:
        """After every change of the session: wake the sender, or set the timer if it has to be earlier."""
        if self.session.has_output:
            self._wake.set()
            return
        due = self.session.next_timer()
        if due is not None and (self._timer is None or due < self._due):
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = due, self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # uvloop fires up to a millisecond early; taken at its word, it would fire again and again until then.
        self.session.handle_timer(max(self._loop.time(), self._due))
        self._moved()

    # ---- out

    async def _send_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for output in self.session.take():
                if self._frozen:
                    continue
                match output:
                    case Send(event):
                        await self._send(event)
                    case Hear():
                        self._spawn(self._hear(output))
                    case Speak():
                        self._spawn(self._speak(output))
                    case Close(code, reason):
                        await self._close(code, reason)
                    case Drop():
                        self._abort()
                    case Freeze():
                        self._freeze()
            self._moved()

    async def _send(self, event: dict[str, object] | str | bytes) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                if isinstance(event, bytes):
                    await self._socket.send_bytes(event)
                else:
                    await self._socket.send_str(event if isinstance(event, str) else encode(event))
        except TimeoutError:
            _log.warning("stand-in: client reads nothing, dropped", seconds=SEND_TIMEOUT_S)
            self._abort()
        except ConnectionError:
            pass  # the client is gone; the reader ends with it

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close(code=code, message=reason.encode())
        self._abort()

    def _abort(self) -> None:
        """Reset: no close frame, unsent bytes thrown away."""
        if self._request.transport is not None:
            self._request.transport.abort()
        self._over.set()

    def _freeze(self) -> None:
        self._frozen = True
        transport = self._request.transport
        if isinstance(transport, asyncio.Transport) and transport.is_reading():
            transport.pause_reading()

    # ---- hearing and speaking

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        if self._group is None:
            raise RuntimeError("Connection is not running")
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, request: Hear) -> None:
        if self._ears is None:
            return
        try:
            text = await self._ears.hear(request.audio, request.format)
        except ToolError as error:
            self.session.failed(request.ticket, str(error), self._loop.time())
        else:
            self.session.heard(request.ticket, text, self._loop.time())
        self._moved()

    async def _speak(self, request: Speak) -> None:
        if self._voice is None:
            return
        try:
            speech = await self._voice.say(request.text, request.format)
        except ToolError as error:
            self.session.failed(request.ticket, str(error), self._loop.time())
        else:
            self.session.spoken(request.ticket, speech, self._loop.time())
        self._moved()
