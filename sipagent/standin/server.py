"""The stand-in's socket: aiohttp in front, one `Session` behind each connection. A thin shell.

It holds the listening socket, the handshake's faults, one timer a session, and the tasks that hear and speak.
What is answered and when is the session's. `GET /` says plainly what this is.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from sipagent.errors import ToolError
from sipagent.speech import Flite
from sipagent.standin.config import MODEL_NAME, Mode, StandinConfig
from sipagent.standin.connection import Connection
from sipagent.standin.conversation import ConversationStore
from sipagent.standin.doorman import DOOR_WORDS, Doorman
from sipagent.standin.ears import Ears
from sipagent.standin.faults import Faults
from sipagent.standin.script import Script, load_script
from sipagent.standin.session import Session
from sipagent.standin.voice import Voice

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""One WebSocket message; 30 s of 48 kHz PCM in base64 is 3.8 MB. The real limit is not known."""
RECENT_SESSIONS = 256
"""Sessions kept for inspection, live ones included in the count."""
_SHUTDOWN_S = 2.0  # for aiohttp's handlers to end after their connections are closed

_log = structlog.get_logger(__name__)


class StandinServer:
    """A running (or not yet started) stand-in."""

    def __init__(self, config: StandinConfig, *, ssl_context: ssl.SSLContext | None = None) -> None:
        """Nothing is opened yet; a bad script is told of here (ConfigError)."""
        self.config = config
        self.faults: Faults = config.faults
        """What new sessions will do wrong; set it at any time."""
        self.sessions: deque[Session] = deque(maxlen=RECENT_SESSIONS)
        """Live and (where anything is recorded) recent sessions, oldest first."""
        self.turned_away = 0
        """Of `max_sessions`: who came when all were open."""
        self._ssl = ssl_context
        self._script: Script | None = load_script(config.script) if config.mode is Mode.SCRIPT else None
        self._doorman = Doorman(config.api_keys, DOOR_WORDS[config.dialect])
        self._store = ConversationStore()
        self._ears = Ears(self._script.phrases, processes=config.ears) if self._script else None
        self._voice = Voice(Flite(config.flite, config.voice)) if self._script else None
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._closing = asyncio.Event()
        self._connections: set[Connection] = set()
        self._open = 0  # the same, and those in their handshake

    # ---- life

    async def start(self) -> None:
        """Listen. In script mode voice and ears are tried first: ToolError names what is missing."""
        if self._runner is not None:
            return
        if self._voice is not None and self._ears is not None:
            await self._voice.check()
            await self._ears.start()
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/", self._about)
        app.router.add_get("/v1/realtime", self._realtime)
        app.router.add_post("/v1/realtime/client_secrets", self._client_secrets)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.host, self.config.port, ssl_context=self._ssl)
        try:
            await site.start()
        except OSError as error:
            await self.aclose()
            where = f"{self.config.host}:{self.config.port}"
            raise ToolError(
                f"stand-in: cannot listen on {where}: {error.strerror}. End the other program or set standin.port "
                "(SIPAGENT_STANDIN__PORT, `sipagent standin --port`)"
            ) from error
        self._port = self._runner.addresses[0][1]
        config = self.config
        _log.info(
            "stand-in listens",
            url=self.url, dialect=str(config.dialect), mode=str(config.mode), faults=self.faults.texts(),
        )  # fmt: skip

    async def aclose(self) -> None:
        """End every session (close code 1001) and free the port; a second call does nothing."""
        self._closing.set()
        runner, self._runner = self._runner, None
        await asyncio.gather(*(connection.aclose() for connection in list(self._connections)))
        if runner is not None:
            await runner.cleanup()
        if self._ears is not None:
            await self._ears.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def misbehave(self, faults: Faults) -> None:
        """Sessions that are open do this wrong from now on; for those to come there is `faults`."""
        for connection in list(self._connections):
            connection.misbehave(faults)

    # ---- what it is

    @property
    def port(self) -> int:
        """The TCP port really bound; 0 before `start`."""
        return self._port

    @property
    def url(self) -> str:
        """Where a realtime client connects."""
        scheme = "ws" if self._ssl is None else "wss"
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{scheme}://{host}:{self._port}/v1/realtime"

    @property
    def live(self) -> list[Session]:
        """Sessions whose connection is open."""
        return [session for session in self.sessions if session.closed_at is None]

    # ---- handlers

    async def _about(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "service": "sipagent stand-in",
                "what": "A scripted stand-in for a realtime voice service. It is not Grok and not xAI or OpenAI: "
                "it imitates the wire, for demonstrations, tests and load.",
                "model": MODEL_NAME,
                "mode": str(self.config.mode),
                "dialect": str(self.config.dialect),
                "live_sessions": len(self.live),
            }
        )

    async def _client_secrets(self, request: web.Request) -> web.Response:
        return await self._doorman.client_secret(request, time.time())

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        faults = self.faults
        if faults.hang_handshake:
            return await self._hang(request)
        if faults.slow_handshake_s:
            await self._pause(faults.slow_handshake_s)
        refusal = self._doorman.refuse(request, faults.refuse, time.time())
        if refusal is not None:
            return refusal
        if self.config.max_sessions and self._open >= self.config.max_sessions:
            self.turned_away += 1
            return self._doorman.full()
        self._open += 1
        try:
            return await self._serve(request, faults)
        finally:
            self._open -= 1

    async def _serve(self, request: web.Request, faults: Faults) -> web.StreamResponse:
        """Somebody who was let in."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        session = Session(
            self.config,
            script=self._script,
            now=now,
            faults=faults,
            epoch=time.time() - now,
            resumed=self._store.find(request.query.get("conversation_id", ""), now),
        )
        socket = web.WebSocketResponse(
            protocols=self._doorman.protocols(request),
            compress=False,
            autoping=True,
            max_msg_size=MAX_MESSAGE_BYTES,
            timeout=_SHUTDOWN_S,
        )
        await socket.prepare(request)
        connection = Connection(session, socket, request, ears=self._ears, voice=self._voice)
        self.sessions.append(session)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            session.closed_at = loop.time()
            if not self.config.record_bytes and session in self.sessions:
                self.sessions.remove(session)
            if session.settings.resumption:
                self._store.keep(session.conversation, session.closed_at)
        return socket

    async def _hang(self, request: web.Request) -> web.Response:
        """Keep the client waiting for its upgrade until it, or we, give up."""
        while request.transport is not None and not self._closing.is_set():
            await self._pause(0.2)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass


async def serve(config: StandinConfig, *, ssl_context: ssl.SSLContext | None = None) -> StandinServer:
    """Make a server and start it; close it with `aclose`."""
    server = StandinServer(config, ssl_context=ssl_context)
    await server.start()
    return server
