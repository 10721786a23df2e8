"""The realtime socket against real servers: the stand-in over TLS, and servers that are none."""

import asyncio
import contextlib
import gc
import re
import socket
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Self

import pytest
import structlog
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.utils import accept_key

from sipagent.audio import Law
from sipagent.config.sections import WebSocketName
from sipagent.errors import RealtimeError, RealtimeLost, RealtimeRefused
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.pattern import pattern
from sipagent.standin.server import StandinServer
from sipagent.xai import session as xai
from sipagent.xai.client import RealtimeClient, connect, endpoint_url
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.session import RealtimeSession
from sipagent.xai.uplink import MAX_WAITING
from tests.waiting import until

CONFIG = SessionConfig(Law.ULAW, "grok-voice-latest", "eve", "Be brief.")
FRAME = pattern(Law.ULAW, 1, 0, 160)


class Caller:
    """A client and the events it was given."""

    library: WebSocketName

    def __init__(self) -> None:
        self.events: list[xai.SessionEvent] = []
        self.session = RealtimeSession(CONFIG)

    async def connect(
        self, url: str, ssl_context: ssl.SSLContext | None = None, key: str = "key", timeout_s: float = 2
    ) -> RealtimeClient:
        return await connect(
            url,
            self.session,
            self.events.append,
            api_key=key,
            library=self.library,
            ssl_context=ssl_context,
            timeout_s=timeout_s,
        )

    def of(self, kind: type) -> list[xai.SessionEvent]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(params=["picows", "websockets"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here is passed by both."""
    monkeypatch.setattr(Caller, "library", request.param, raising=False)


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
        with pytest.raises(RealtimeError, match="CERTIFICATE_VERIFY_FAILED"):  # never wss in clear
            await Caller().connect(server.url)


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
    [
        b"",
        b"garbage\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: none\r\n\r\n",
        None,
    ],
)
async def test_servers_that_are_none(
    tcp_server: Callable[[bytes | None], "asyncio.Future[str]"], answer: bytes | None
) -> None:
    url = await tcp_server(answer)
    with pytest.raises(RealtimeError) as error:
        await Caller().connect(url, timeout_s=2 if answer is not None else 0.05)
    assert not isinstance(error.value, RealtimeRefused)
    if answer is None:
        assert str(error.value).endswith("did not open a session in 0.05 s")


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi"),
        (b"HTTP/1.1 520 Origin\r\nContent-Length: 300\r\n\r\n" + b"x" * 300, 520, "x" * 300),
        (b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 403, "no"),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 500\r\n\r\n" + b"y" * 500, 429, "y" * 300),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503, "Service Unavailable"),
    ],
)
async def test_any_answer_but_an_upgrade_is_a_refusal(
    tcp_server: Callable[[bytes | None], "asyncio.Future[str]"], answer: bytes, status: int, detail: str
) -> None:
    url = await tcp_server(answer)
    with pytest.raises(RealtimeRefused) as error:
        await Caller().connect(url)
    assert (error.value.status, error.value.detail) == (status, detail)


async def test_a_redirect_is_not_followed(tcp_server: Callable[[bytes | None], "asyncio.Future[str]"]) -> None:
    """The key is for the host of the configuration."""
    visitors: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: visitors.append(writer), "127.0.0.1", 0) as elsewhere:
        location = f"ws://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/"
        url = await tcp_server(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        with pytest.raises(RealtimeRefused, match="302"):
            await Caller().connect(url)
        # Whoever comes after us is the first.
        _, writer = await asyncio.open_connection(*elsewhere.sockets[0].getsockname())
        await until(lambda: bool(visitors), "somebody")
        assert visitors[0].get_extra_info("peername") == writer.get_extra_info("sockname")
        for one in (writer, *visitors):
            one.close()


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


def upgrade(request: bytes) -> bytes:
    """The answer to it."""
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert key
    accept = accept_key(key[1].decode()).encode()
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"


class Raw:
    """A server that says what it is told to, byte by byte, and lets go of no connection by itself."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, reads: bool = True) -> None:
        self.writer: asyncio.StreamWriter
        self.asked = asyncio.Event()
        self.got = bytearray()
        self.ended = asyncio.Event()
        """The client has let go of its side."""
        self._tls, self._reads = tls, reads

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"ws{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1/realtime"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await self.ended.wait()
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self._reads:
                self.request = await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            while data := await reader.read(65536):
                self.got += data
        self.ended.set()

    async def say(self, *messages: bytes) -> None:
        """After the upgrade, in one segment with it."""
        await self.asked.wait()
        self.writer.write(upgrade(self.request) + b"".join(messages))


async def opened(caller: Caller, server: Raw, *messages: bytes) -> RealtimeClient:
    """A session with it."""
    client, _ = await asyncio.gather(caller.connect(server.url), server.say(*messages))
    return client


CREATED, UPDATED = b'{"type":"session.created","session":{}}', b'{"type":"session.updated","session":{}}'


def close_code(sent: bytes) -> int:
    """Of a client's close frame, which is masked."""
    assert sent[0] == 0x88, sent
    return int.from_bytes(bytes(byte ^ mask for byte, mask in zip(sent[6:8], sent[2:6], strict=False)), "big")


def text(message: bytes, first: int = 0x81) -> bytes:
    """A short one in a frame."""
    return bytes([first, len(message)]) + message


async def test_what_comes_with_the_upgrade_is_heard_and_answered() -> None:
    async with Raw() as server:
        caller = Caller()
        client = await opened(caller, server, text(CREATED), text(UPDATED))
        await until(lambda: bool(caller.of(xai.Ready)), "the session")
        await until(lambda: bool(server.got), "session.update")
        await client.aclose()


@pytest.mark.parametrize(
    "junk",
    [
        b"this is no WebSocket",
        b"\x00" * 40,
        bytes(range(128, 200)),
        text(CREATED, 0xC1),
        text(CREATED, 0xA1),
        text(CREATED, 0x91),
        text(b"{}", 0x83),
        b"\x81\x82abcd{}",
        b"\x80\x02{}",
        text(b"{", 0x01) + text(b"}"),
        text(b"{", 0x01) + text(b"}", 0x82),
        b"\x09\x00",
        b"\x89\x7e\x00\x80" + b"p" * 128,
        b"\x81\x7f" + (9 << 20).to_bytes(8, "big"),
        b"\x81\x7f" + b"\xff" * 8,
        b"\x88\x01x",
        b"\x88\x02\x03\xec",
        b"\x88\x04\x03\xe8\xff\xff",
    ],
)
@pytest.mark.parametrize("with_the_upgrade", [True, False])
async def test_what_is_no_websocket_ends_the_session(junk: bytes, with_the_upgrade: bool) -> None:
    async with Raw() as server:
        caller = Caller()
        client = await opened(caller, server, junk if with_the_upgrade else b"")
        if not with_the_upgrade:
            server.writer.write(junk)
        assert str(await client.lost).startswith("WebSocket protocol error: ")
        await until(server.ended.is_set, "the client to let go")
        assert not caller.of(xai.Ready)
        await client.aclose()


async def test_text_that_is_no_utf8_is_garbage_like_any_other() -> None:
    async with Raw() as server:
        caller = Caller()
        client = await opened(caller, server, text(b"\xff\xfe\x80"), text(CREATED), text(UPDATED))
        await until(lambda: bool(caller.of(xai.Ready)), "the session")
        assert caller.session.counts["garbage"] == 1
        await client.aclose()


@pytest.mark.parametrize("first", [0x01, 0x02])
async def test_a_message_in_fragments_is_bounded_in_all(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("by_picows", "by_websockets"):
        monkeypatch.setattr(f"sipagent.xai.{library}.MAX_MESSAGE_BYTES", 1000)
    async with Raw() as server:
        client = await opened(Caller(), server, text(b"a" * 100, first), *[text(b"a" * 100, 0x00)] * 10)
        assert str(await client.lost).startswith("WebSocket protocol error: ")
        await until(server.ended.is_set, "the client to let go")
        assert close_code(server.got) == 1009
        await client.aclose()


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"\x88\x0c\x03\xe9going away", "the server closed with 1001 going away"),
        (b"\x88\x02\x0f\xa0", "the server closed with 4000"),
        (b"\x88\x00", "the server closed with 1005"),
    ],
)
async def test_the_server_says_why_it_closes(frame: bytes, why: str) -> None:
    async with Raw() as server:
        client = await opened(Caller(), server)
        server.writer.write(frame)
        assert str(await client.lost) == why
        await until(server.ended.is_set, "the client to let go")
        assert server.got[0] == 0x88
        await client.aclose()


async def test_a_connection_that_drops_says_so() -> None:
    async with Raw() as server:
        client = await opened(Caller(), server)
        server.writer.close()
        assert str(await client.lost) == "the connection dropped without a close frame"


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_connection_that_nobody_waits_for_any_more_is_ended(secure: bool, how: str) -> None:
    """The caller hung up meanwhile; sessions are counted and billed."""
    async with Raw(reads=not secure) as server:  # with TLS it says nothing even to that
        url = server.url.replace("ws:", "wss:") if secure else server.url
        caller = Caller()
        connecting = asyncio.create_task(caller.connect(url, timeout_s=30 if how == "cancelled" else 0.1))
        await server.asked.wait()
        if how == "cancelled":
            connecting.cancel()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else RealtimeError):
            await connecting
        if not secure:
            with contextlib.suppress(ConnectionError):
                await server.say(text(CREATED))
        await until(server.ended.is_set, "the server to see the end")
        assert caller.events == []


async def test_a_fault_of_ours_in_what_hears_an_event_is_told_and_ends_the_session() -> None:
    def fails(_event: xai.SessionEvent) -> None:
        raise ZeroDivisionError("on purpose")

    async with Raw() as server:
        caller = Caller()
        client = await opened(caller, server, text(CREATED))
        await until(lambda: bool(server.got), "session.update")
        client._on_event = fails
        with structlog.testing.capture_logs() as logged:
            server.writer.write(text(UPDATED) + text(b"garbage"))
            assert "ZeroDivisionError('on purpose')" in str(await client.lost)
        assert [(line["event"], line["exc_info"]) for line in logged] == [("realtime_event_failed", True)]
        await until(server.ended.is_set, "the client to let go")


async def test_a_server_that_says_nothing_to_a_ping_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, 0.02, 0.05, 0.3)
    async with Raw() as server:
        client = await opened(Caller(), server)
        assert "has not said a word for 0.3 s, not even to a ping" in str(await client.lost)
        assert server.got[0] == 0x89
        await client.aclose()


async def test_a_message_that_comes_slowly_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library tells of it before it is whole, and no ping is answered in between."""
    hasten(monkeypatch, 0.02, 0.1, 2.0)
    message = b'{"type":"session.created","session":{},"a":"' + b"a" * 70 + b'"}'
    async with Raw() as server:
        caller = Caller()
        client = await opened(caller, server)
        began_s, slowly = asyncio.get_running_loop().time(), iter(text(message))

        def another_byte() -> bool:
            if (byte := next(slowly, None)) is not None:
                server.writer.write(bytes([byte]))
            return byte is None and bool(caller.session.next_timer())

        await until(another_byte, "the message")
        assert asyncio.get_running_loop().time() - began_s > 2.0
        assert not client.lost.done()
        await client.aclose()


def hasten(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    for name, value in zip(("PULSE_S", "PING_AFTER_S", "DEAD_AFTER_S"), seconds, strict=True):
        monkeypatch.setattr(f"sipagent.xai.client.{name}", value)


async def test_libraries_log_neither_connections_nor_the_key(caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, "picows.client", "websockets.client"):
        caplog.set_level(1, name)
    async with StandinServer(deterministic()) as server:
        caller = Caller()
        client = await caller.connect(server.url, key="a-secret-key")
        await until(lambda: bool(caller.of(xai.Ready)), "the session")
        await client.aclose()
    ours = [record for record in caplog.records if record.name.startswith(("picows", "websockets.client"))]
    assert ours == []


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("how", ["closed", "dropped", "junk"])
async def test_a_session_that_is_over_leaves_nothing_for_the_garbage_collector(secure: bool, how: str) -> None:
    server_side, client_side = tls() if secure else (None, None)
    over: weakref.ref[RealtimeClient]

    async def session() -> None:
        nonlocal over
        caller = Caller()
        client = (await asyncio.gather(caller.connect(server.url, client_side), server.say(text(CREATED))))[0]
        over = weakref.ref(client)
        if how == "closed":
            await client.aclose()
        else:
            server.writer.write(b"no WebSocket") if how == "junk" else server.writer.transport.abort()
            await client.lost

    async with Raw(tls=server_side) as server:
        gc.collect()
        gc.disable()
        try:
            await session()
            await until(lambda: over() is None, "the client to be gone")
        finally:
            gc.enable()


@pytest.mark.parametrize("secure", [False, True])
async def test_at_no_step_of_an_end_is_anything_asked_of_a_descriptor_that_is_gone(secure: bool) -> None:
    server_side, client_side = tls() if secure else (None, None)
    async with Raw(tls=server_side) as server:
        caller = Caller()
        connecting = caller.connect(server.url, client_side)
        client, _ = await asyncio.gather(connecting, server.say(text(CREATED), text(UPDATED)))
        await until(lambda: bool(caller.of(xai.Ready)), "the session")
        server.writer.transport.abort()
        while not client.lost.done():
            client.append_audio(FRAME)
            client.round_trip_ms()
            await asyncio.sleep(0)
        client.append_audio(FRAME)
        assert client.round_trip_ms() is None


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
            connection.sendall(upgrade(connection.recv(4096)))
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
        while client.uplink.dropped_frames < 100:
            client.append_audio(FRAME)
            sent += 1
            await asyncio.sleep(0)
        assert len(client.uplink.waiting) == MAX_WAITING
        assert sent - client.uplink.dropped_frames - MAX_WAITING < 50  # the far kernel's buffer among them
        server.listen.set()

        def caught_up() -> bool:
            client.append_audio(FRAME)
            return not client.uplink.waiting

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
