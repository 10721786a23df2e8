"""server: the handshake, the faults of the socket, the life of a connection; by aiohttp's own client."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from sipagent.errors import ToolError
from sipagent.standin import Burst, Mode, StandinConfig, StandinServer, parse_faults, pattern, serve
from sipagent.standin.wire import AudioFormat
from tests.standin.harness import ULAW, VAD, loud, quiet
from tests.waiting import until

KEY = {"Authorization": "Bearer a-key"}
FAST = {"mode": Mode.DETERMINISTIC, "think_ms": 20, "force_ms": 5, "answer_ms": 300, "burst": Burst(speed=50)}
SETUP = {
    "turn_detection": VAD,
    "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcmu"}}},
}


@asynccontextmanager
async def running(*faults: str, **config: Any) -> AsyncIterator[StandinServer]:
    server = await serve(StandinConfig(faults=parse_faults(faults), **{**FAST, **config}))
    try:
        async with asyncio.timeout(20):
            yield server
    finally:
        await server.aclose()


@asynccontextmanager
async def connected(server: StandinServer, query: str = "") -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http, http.ws_connect(server.url + query, headers=KEY, max_msg_size=0) as ws:
        yield Client(ws)


class Client:
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, type_: str, **body: Any) -> None:
        await self.ws.send_json({"type": type_, **body})

    async def until(self, type_: str) -> list[dict[str, Any]]:
        events = []
        async for message in self.ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                try:
                    event = json.loads(message.data)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    events.append(event)
                    if event.get("type") == type_ and isinstance(event.get("response", {}), dict):
                        return events
        raise AssertionError(f"closed with {self.ws.close_code} before {type_}")

    async def turn(self) -> bytes:
        """One spoken turn, sent at once; the answer's bytes."""
        sound = loud(300) + quiet(300)
        for start in range(0, len(sound), 160):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(sound[start : start + 160]).decode())
        events = await self.until("response.done")
        return b"".join(base64.b64decode(e["delta"]) for e in events if _is_delta(e))


def _is_delta(event: dict[str, Any]) -> bool:
    garbage = event.get("response_id") in (3, "x")
    return event.get("type") == "response.output_audio.delta" and not garbage


class TestHandshake:
    async def test_says_what_it_is(self) -> None:
        async with running() as server, aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{server.port}/") as response:
                body = await response.json()
            assert "not Grok" in body["what"]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [({}, 401), ({"Authorization": "Bearer "}, 401), ({"Authorization": "Bearer wrong"}, 400)],
    )
    async def test_credentials(self, headers: dict[str, str], status: int) -> None:
        async with running(api_keys=frozenset({"right"})) as server, aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(server.url, headers=headers)
            assert refused.value.status == status

    @pytest.mark.parametrize("status", [400, 401, 403, 429, 503])
    async def test_ordered_refusals(self, status: int) -> None:
        async with running(f"refuse={status}") as server, aiohttp.ClientSession() as http:
            url = server.url.replace("ws", "http", 1)
            async with http.get(url, headers=KEY) as response:
                assert response.status == status
                assert set(await response.json()) == {"code", "error"}

    async def test_one_session_too_many(self) -> None:
        async with running(max_sessions=2) as server:
            async with connected(server) as first, connected(server):
                for _ in range(2):
                    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                        async with connected(server):
                            pass
                    assert refused.value.status == 429
                    assert refused.value.headers is not None
                    assert refused.value.headers["Retry-After"] == "1"
                assert server.turned_away == 2
                await first.until("ping")
            await until(lambda: not server.live, "both to be over")
            async with connected(server) as client:
                await client.until("ping")
            assert server.turned_away == 2

    async def test_who_is_in_the_handshake_has_a_place_and_who_is_refused_has_none(self) -> None:
        keys = frozenset({"a-key"})
        async with (
            running("slow-handshake=0.05", max_sessions=1, api_keys=keys) as server,
            aiohttp.ClientSession() as http,
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(server.url, headers={"Authorization": "Bearer wrong"})
            both = [asyncio.create_task(http.ws_connect(server.url, headers=KEY)) for _ in range(2)]
            done = await asyncio.gather(*both, return_exceptions=True)
            refused = [one for one in done if isinstance(one, aiohttp.WSServerHandshakeError)]
            assert [one.status for one in refused] == [429]

    async def test_plain_get_is_told_to_upgrade(self) -> None:
        async with running() as server, aiohttp.ClientSession() as http:
            url = server.url.replace("ws", "http", 1)
            async with http.get(url, headers=KEY) as response:
                assert response.status == 426

    async def test_ephemeral_token_as_subprotocol_and_bearer(self) -> None:
        async with running(api_keys=frozenset({"a-key"})) as server, aiohttp.ClientSession() as http:
            url = server.url.replace("ws", "http", 1) + "/client_secrets"
            async with http.post(url, headers=KEY, json={"expires_after": {"seconds": 60}}) as response:
                token = (await response.json())["value"]
            async with http.ws_connect(server.url, protocols=("realtime", f"xai-client-secret.{token}")) as ws:
                assert ws.protocol == "realtime"
            async with http.ws_connect(server.url, headers={"Authorization": f"Bearer {token}"}) as ws:
                assert (await ws.receive_json())["type"] == "session.created"

    @pytest.mark.parametrize(
        "body", [b"{", b"[]", b'{"expires_after":{"seconds":9999}}', b'{"expires_after":3}', b"[" * 50000]
    )
    async def test_bad_requests_for_tokens(self, body: bytes) -> None:
        async with running() as server, aiohttp.ClientSession() as http:
            url = server.url.replace("ws", "http", 1) + "/client_secrets"
            async with http.post(url, headers=KEY, data=body) as response:
                assert response.status == 400
            async with http.post(url, data=b"{}") as response:
                assert response.status == 401

    async def test_slow_handshake_then_service(self) -> None:
        async with running("slow-handshake=0.1") as server, connected(server) as client:
            assert await client.until("ping")

    async def test_hanging_handshake_ends_with_the_server(self) -> None:
        async with running("hang-handshake") as server, aiohttp.ClientSession() as http:
            attempt = asyncio.create_task(http.ws_connect(server.url, headers=KEY))
            done, _ = await asyncio.wait({attempt}, timeout=0.1)
            assert not done
            await server.aclose()
            with pytest.raises(aiohttp.ClientError):
                await attempt

    async def test_taken_port_is_named(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ToolError, match=f"127.0.0.1:{port}"):
                await serve(StandinConfig(port=port, mode=Mode.DETERMINISTIC))


class TestConversation:
    async def test_answers_are_bit_exact(self) -> None:
        async with running(seed=9) as server, connected(server, "?model=grok-voice-latest") as client:
            await client.send("session.update", session=SETUP)
            await client.until("session.updated")
            assert await client.turn() == pattern(ULAW, 9, 0, 2400)
            assert await client.turn() == pattern(ULAW, 10, 0, 2400)
            session = server.sessions[-1]
            assert session.record.caller_audio == (loud(300) + quiet(300)) * 2
            assert session.closed_at is None
        assert not server.live

    async def test_many_sessions_at_once(self) -> None:
        async with running() as server:

            async def one() -> None:
                async with connected(server) as client:
                    await client.send("session.update", session=SETUP)
                    assert await client.turn() == pattern(ULAW, 1, 0, 2400)

            await asyncio.gather(*(one() for _ in range(20)))
            assert len(server.sessions) == 20

    async def test_where_nothing_is_recorded_no_session_is_kept(self) -> None:
        async with running(record_bytes=0) as server:
            async with connected(server) as client:
                await client.until("ping")
                assert len(server.live) == len(server.sessions) == 1
            await until(lambda: not server.sessions, "it to be forgotten")

    async def test_resumption_over_two_connections(self) -> None:
        async with running() as server:
            async with connected(server) as client:
                await client.send("session.update", session={**SETUP, "resumption": {"enabled": True}})
                opening = await client.until("session.updated")
                name = next(e for e in opening if e["type"] == "conversation.created")["conversation"]["id"]
                await client.turn()
            async with asyncio.timeout(5):
                while server.live:  # noqa: ASYNC110 - the server has no event for the end of a session
                    await asyncio.sleep(0)
            async with connected(server, f"?conversation_id={name}") as client:
                await client.send("session.update", session={"resumption": {"enabled": True}})
                await client.send("response.create")
                events = await client.until("response.done")
                assert sum(e["type"] == "conversation.item.created" for e in events) == 2

    async def test_garbage_and_huge_frames_do_not_stop_the_server(self) -> None:
        async with running() as server:
            async with connected(server) as client:
                await client.ws.send_str("not json")
                await client.ws.send_bytes(b"\x00" * 500)
                await client.ws.send_str("[" * 300_000)
                for _ in range(3):
                    await client.until("error")
                # The server stops reading in the middle: a reset may overtake its close code 1009.
                with pytest.raises((AssertionError, ConnectionError, aiohttp.ClientError)):  # noqa: PT012 - either
                    await client.ws.send_str("x" * (5 * 1024 * 1024))
                    await client.until("never")
            async with connected(server) as client:
                assert await client.until("ping")

    async def test_client_that_vanishes_leaves_nothing(self) -> None:
        async with running() as server:
            before = len(asyncio.all_tasks())
            http = aiohttp.ClientSession()
            ws = await http.ws_connect(server.url, headers=KEY)
            await ws.receive()
            assert len(server.live) == 1
            ws._response.connection.transport.abort()  # type: ignore[union-attr]
            await ws.close()
            await http.close()
            async with asyncio.timeout(5):
                while server.live or len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - nor has asyncio for tasks
                    await asyncio.sleep(0.005)

    async def test_aclose_says_going_away_and_may_be_called_twice(self) -> None:
        async with running() as server, connected(server) as client:
            await client.until("ping")
            await asyncio.gather(server.aclose(), client.ws.receive())
            assert client.ws.close_code == 1001
            await server.aclose()


class TestSocketFaults:
    async def test_drop(self) -> None:
        async with running("drop@0.05") as server, connected(server) as client:
            with pytest.raises(AssertionError, match="1006"):
                await client.until("never")

    async def test_drop_in_answer(self) -> None:
        async with running("drop@answer") as server, connected(server) as client:
            await client.send("session.update", session=SETUP)
            with pytest.raises((AssertionError, aiohttp.ClientError, ConnectionError)):
                await client.turn()

    async def test_close_code(self) -> None:
        async with running("close=1011@0.05") as server, connected(server) as client:
            with pytest.raises(AssertionError, match="1011"):
                await client.until("never")

    async def test_freeze_answers_no_ping_and_stays_open(self) -> None:
        async with running("freeze@0") as server, connected(server) as client:
            await client.until("ping")
            await client.ws.ping()
            await client.send("response.create")
            with pytest.raises(TimeoutError):
                await client.ws.receive(timeout=0.2)
            assert not client.ws.closed
            client.ws._response.connection.transport.abort()  # type: ignore[union-attr]

    async def test_garbage_on_the_wire(self) -> None:
        async with running("garbage", "unknown-events") as server, connected(server) as client:
            await client.send("session.update", session=SETUP)
            assert len(await client.turn()) >= 2400

    async def test_faults_can_be_changed_for_the_next_session(self) -> None:
        async with running("refuse=503") as server:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with connected(server):
                    pass
            server.faults = parse_faults(["no-ack"])
            async with connected(server) as client:
                await client.send("session.update", session=SETUP)
                await client.turn()
            assert not server.sessions[-1].record.sent_events("session.updated")


async def test_script_mode_needs_flite() -> None:
    with pytest.raises(ToolError, match="flite"):
        await serve(StandinConfig(flite=("/nonexistent/flite",)))


async def test_conversation_in_speech(flite: tuple[str, ...]) -> None:
    """flite asks at 8 kHz µ-law, the ears hear, the script answers."""
    async with running(mode=Mode.SCRIPT, flite=flite) as server, connected(server) as client:
        from sipagent.speech import Flite  # noqa: PLC0415

        form = AudioFormat("audio/pcmu", 8000)
        await client.send("session.update", session=SETUP)
        for phrase, words in (
            ("what are your opening hours", "nine to six"),
            ("tell me about your services", "bicycles"),
        ):
            pcm, rate_hz = await Flite(flite).synthesize(phrase)
            sound = quiet(200) + form.from_pcm(pcm, rate_hz) + quiet(600)
            for start in range(0, len(sound), 160):
                await client.send(
                    "input_audio_buffer.append", audio=base64.b64encode(sound[start : start + 160]).decode()
                )
            events = await client.until("response.done")
            heard = [e for e in events if e["type"] == "conversation.item.input_audio_transcription.completed"]
            assert heard[-1]["transcript"] == phrase
            said = next(e for e in events if e["type"] == "response.output_audio_transcript.done")
            assert words in said["transcript"]
            spoken = sum(e["audio_duration_ms"] for e in events if e["type"] == "response.output_audio.delta")
            assert spoken > 2000
        assert 12_000 < spoken < 15_500  # the long answer that a caller interrupts
