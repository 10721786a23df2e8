"""The realtime socket against real servers: the stand-in over TLS, and servers that are none."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve

from sipagent.audio import Law
from sipagent.errors import RealtimeError, RealtimeLost, RealtimeRefused
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.pattern import pattern
from sipagent.standin.server import StandinServer
from sipagent.xai import session as xai
from sipagent.xai.client import MAX_BACKLOG_BYTES, RealtimeClient, connect, endpoint_url
from sipagent.xai.session import RealtimeSession, SessionConfig
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


async def test_a_turn_over_tls_with_a_verified_certificate() -> None:
    authority = trustme.CA()
    server_side, client_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
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


async def test_a_peer_that_stops_reading_costs_bounded_memory_and_is_counted() -> None:
    async with StandinServer(deterministic("freeze@0.05")) as server:
        caller = Caller()
        client = await caller.connect(server.url)
        await until(lambda: bool(caller.of(xai.Ready)), "the session")

        async def pushed() -> bool:
            for _ in range(2000):
                client.append_audio(FRAME)
            await asyncio.sleep(0)
            return client.dropped_frames > 0

        await until(pushed, "the kernel's buffers to fill")
        assert client._transport is not None
        assert client._transport.get_write_buffer_size() <= MAX_BACKLOG_BYTES + 300
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
