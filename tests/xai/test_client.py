"""The realtime socket against real servers: the stand-in over TLS, and servers that are none."""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from typing import Self

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.utils import accept_key

from sipagent.audio import Law
from sipagent.errors import RealtimeError, RealtimeLost, RealtimeRefused
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.pattern import pattern
from sipagent.standin.server import StandinServer
from sipagent.xai import session as xai
from sipagent.xai.client import MAX_WAITING, RealtimeClient, connect, endpoint_url
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.session import RealtimeSession
from tests.waiting import until

CONFIG = SessionConfig(Law.ULAW, "grok-voice-latest", "eve", "Be brief.")
FRAME = pattern(Law.ULAW, 1, 0, 160)


class Caller:
    """A client and the events it was given."""

    def __init__(self) -> None:
        self.events: list[xai.SessionEvent] = []
        self.session = RealtimeSession(CONFIG)

    async def connect(self, url: str, ssl_context: ssl.SSLContext | None = None, key: str = "key") -> RealtimeClient:
        return await connect(url, self.session, self.events.append, api_key=key, ssl_context=ssl_context, timeout_s=2)

    def of(self, kind: type) -> list[xai.SessionEvent]:
        return [event for event in self.events if isinstance(event, kind)]


def deterministic(*faults: str) -> StandinConfig:
    return StandinConfig(mode=Mode.DETERMINISTIC, think_ms=50, answer_ms=200, faults=parse_faults(faults))


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side and the side of a client that trusts it."""
    authority = trustme.CA()
    server_side, client_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
    return server_side, client_side


async def test_a_turn_over_tls_with_a_verified_certificate() -> None:
    server_side, client_side = tls()
    async with StandinServer(deterministic(), ssl_context=server_side) as server:
        caller = Caller()
        client = await caller.connect(server.url, client_side)
        await until(lambda: bool(caller.of(xai.Ready)), "the session")
        for _ in range(30):
            client.append_audio(FRAME)
        for _ in range(60):
            client.append_audio(b"\xff" * 160)
        await until(lambda: bool(caller.of(xai.AgentAudioDone)), "an answer")
        heard = b"".join(event.audio for event in caller.events if isinstance(event, xai.AgentAudio))
        assert heard == pattern(Law.ULAW, 1, 0, 1600)
        await client.aclose()
        await client.aclose()
        assert not client.lost.done()
        await until(lambda: not server.live, "the server to see the close")

        with pytest.raises(RealtimeError, match="CERTIFICATE_VERIFY_FAILED"):
            await Caller().connect(server.url, ssl.create_default_context())


@pytest.mark.parametrize("status", [400, 401, 403, 429, 503])
async def test_a_refusal_holds_the_status_and_the_words(status: int) -> None:
    async with StandinServer(deterministic(f"refuse={status}")) as server:
        with pytest.raises(RealtimeRefused) as error:
            await Caller().connect(server.url)
    assert error.value.status == status
    assert error.value.detail


async def test_no_key_is_401() -> None:
    async with StandinServer(deterministic()) as server:
        with pytest.raises(RealtimeRefused, match="401"):
            await Caller().connect(server.url, key="")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


@pytest.fixture
async def tcp_server() -> AsyncIterator[Callable[[bytes | None], "asyncio.Future[str]"]]:
    """A server that answers the handshake with these bytes and closes, or (None) never answers."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(answer: bytes | None) -> str:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            if answer is not None:
                writer.write(answer)
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        servers.append(server)
        return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"

    yield start  # type: ignore[misc]
    for writer in writers:
        writer.close()
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 101 X\r\n\r\n", None],
)
async def test_servers_that_are_none(
    tcp_server: Callable[[bytes | None], "asyncio.Future[str]"], answer: bytes | None
) -> None:
    url = await tcp_server(answer)
    with pytest.raises(RealtimeError):
        await Caller().connect(url)


async def test_nobody_there() -> None:
    with pytest.raises(RealtimeError, match="cannot reach"):
        await Caller().connect("ws://127.0.0.1:9/v1/realtime")


async def test_a_drop_is_told_once_and_sending_goes_on_harmlessly() -> None:
    async with StandinServer(deterministic("drop@0.05")) as server:
        caller = Caller()
        client = await caller.connect(server.url)
        assert isinstance(await client.lost, RealtimeLost)
        client.append_audio(FRAME)
        client.flush()
        await client.aclose()


class Deaf:
    """A server in a thread that upgrades, opens the session, and then reads nothing until `listen` is set.

    Blocking sockets, since the point is what the two kernels and the sender hold: an event loop would read ahead.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.listen = threading.Event()
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listen.set()
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        connection.settimeout(10)
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection:
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", connection.recv(4096))
            assert key
            accept = accept_key(key[1].decode()).encode()
            upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            connection.sendall(upgrade + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            for kind in (b"session.created", b"session.updated"):
                text = b'{"type":"%s","session":{}}' % kind
                connection.sendall(bytes([0x81, len(text)]) + text)
            self.listen.wait(30)
            connection.settimeout(1)
            with contextlib.suppress(OSError):  # also when the test fails and nobody closes
                while connection.recv(65536):
                    pass


@pytest.mark.parametrize("secure", [False, True])
async def test_to_a_peer_that_stops_reading_little_audio_waits_and_the_oldest_is_dropped(secure: bool) -> None:
    server_side, client_side = tls() if secure else (None, None)
    with Deaf(server_side) as server:
        caller = Caller()
        client = await caller.connect(f"{'wss' if secure else 'ws'}://127.0.0.1:{server.port}/", client_side)
        await until(lambda: bool(caller.of(xai.Ready)), "the session")
        sent = 0
        while client.dropped_frames < 100:
            client.append_audio(FRAME)
            sent += 1
            await asyncio.sleep(0)
        assert len(client._waiting) == MAX_WAITING
        assert sent - client.dropped_frames - MAX_WAITING < 50  # the far kernel's buffer among them
        server.listen.set()

        def caught_up() -> bool:
            client.append_audio(FRAME)
            return not client._waiting

        await until(caught_up, "what waited to leave with the frames that follow")
        await client.aclose()


async def test_fragments_and_binary_frames() -> None:
    """Our stand-in never sends them; a server may (RFC 6455, section 5.4)."""
    done = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await socket.send(b"\x00\x01binary")
        await socket.send(['{"type":"session.created","session":{"id":"s",', '"model":"m"}}'])
        await socket.recv()
        await socket.send('{"type":"session.updated","session":{}}')
        await done.wait()

    async with serve(talk, "127.0.0.1", 0) as server:
        caller = Caller()
        client = await caller.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime")
        await until(lambda: caller.of(xai.Ready) == [xai.Ready("m", "", acknowledged=True)], "the session")
        assert caller.session.counts["binary_frames"] == 1
        done.set()
        await client.aclose()


def test_the_model_goes_into_the_address() -> None:
    assert endpoint_url("wss://h/v1/realtime?a=1", model="m x", b="") == "wss://h/v1/realtime?a=1&model=m+x"
