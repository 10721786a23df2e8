"""The stand-in judged by a client we did not write: openai-python's realtime client, in both dialects."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from websockets.exceptions import InvalidStatus

from sipagent.standin import Burst, Dialect, Mode, StandinConfig, StandinServer, parse_faults, pattern, serve
from tests.standin.ga import published, session
from tests.standin.harness import ULAW, VAD, loud, quiet

FORMAT = {"type": "audio/pcmu"}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Answer in one sentence.",
    "audio": {
        "input": {"format": FORMAT, "turn_detection": VAD, "transcription": {"model": "grok-transcribe"}},
        "output": {"format": FORMAT, "voice": "eve"},
    },
}


async def server_and_client(**config: Any) -> tuple[StandinServer, Any]:
    server = await serve(StandinConfig(think_ms=50, burst=Burst(speed=50), **config))
    base = server.url.removesuffix("/realtime")
    client = openai.AsyncOpenAI(api_key="a-key", base_url=base.replace("ws", "http", 1), websocket_base_url=base)
    return server, client


async def test_connect_update_speak_and_hear() -> None:
    server, client = await server_and_client(mode=Mode.DETERMINISTIC, answer_ms=500)
    seen: list[str] = []
    sound, words, heard = b"", "", ""
    try:
        async with asyncio.timeout(20), client, client.realtime.connect(model="grok-voice-latest") as connection:
            await connection.session.update(session=SESSION)
            caller = loud(400) + quiet(300)
            async for event in connection:
                seen.append(event.type)
                if event.type == "session.updated":
                    for start in range(0, len(caller), 160):
                        chunk = base64.b64encode(caller[start : start + 160]).decode()
                        await connection.input_audio_buffer.append(audio=chunk)
                elif event.type == "conversation.item.input_audio_transcription.completed":
                    heard = event.transcript
                elif event.type == "response.output_audio.delta":
                    sound += base64.b64decode(event.delta)
                elif event.type == "response.output_audio_transcript.done":
                    words = event.transcript
                elif event.type == "response.done":
                    assert event.response.status == "completed"
                    break
    finally:
        await server.aclose()
    assert seen[:3] == ["session.created", "conversation.created", "ping"]
    assert sound == pattern(ULAW, 1, 0, 4000)
    assert words == "(answer 1)"
    assert "ms of sound" in heard
    assert "error" not in seen


async def test_typed_turn_and_function_call(flite: tuple[str, ...]) -> None:
    server, client = await server_and_client(mode=Mode.SCRIPT, flite=flite)
    tool = {"type": "function", "name": "order_status", "description": "", "parameters": {"type": "object"}}
    try:
        async with asyncio.timeout(20), client, client.realtime.connect(model="any") as connection:
            await connection.session.update(session={**SESSION, "tools": [tool]})
            await connection.conversation.item.create(
                item={
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "where is my order"}],
                }
            )
            await connection.response.create()
            spoken: list[str] = []
            call_id = ""
            async for event in connection:
                if event.type == "response.function_call_arguments.done":
                    call_id = event.call_id
                elif event.type == "response.output_audio_transcript.done":
                    spoken.append(event.transcript)
                elif event.type == "response.done":
                    if len(spoken) == 2:
                        break
                    await connection.conversation.item.create(
                        item={"type": "function_call_output", "call_id": call_id, "output": '{"status": "on its way"}'}
                    )
                    await connection.response.create()
    finally:
        await server.aclose()
    assert spoken == ["One moment, I am looking for your order.", "Your order is on its way."]


@asynccontextmanager
async def ga(**config: Any) -> AsyncIterator[tuple[StandinServer, Any]]:
    """A connection in OpenAI's own dialect; whatever was sent in it is judged in the end."""
    server, client = await server_and_client(dialect=Dialect.OPENAI, **config)
    try:
        async with asyncio.timeout(20), client, client.realtime.connect(model="gpt-realtime") as connection:
            yield server, connection
        sent = [event for _, event in server.sessions[-1].record.sent]
        assert sent
        for event in sent:
            assert isinstance(event, dict)
            published(event)
    finally:
        await server.aclose()


async def until(connection: Any, type_: str) -> list[Any]:
    """All events up to the first of that type."""
    events: list[Any] = []
    async for event in connection:
        events.append(event)
        if event.type == type_:
            return events
    raise AssertionError(f"closed before {type_}")


async def speak(connection: Any, sound: bytes) -> None:
    for start in range(0, len(sound), 160):
        await connection.input_audio_buffer.append(audio=base64.b64encode(sound[start : start + 160]).decode())


class TestOpenAI:
    """The same client in the dialect that it was made for."""

    async def test_connect_update_speak_and_hear(self) -> None:
        async with ga(mode=Mode.DETERMINISTIC, answer_ms=500) as (_, connection):
            created = await connection.recv()
            assert created.type == "session.created"
            assert created.session.model == "sipagent-standin-1"
            await connection.session.update(session=session(instructions="Answer in one sentence."))
            updated = (await until(connection, "session.updated"))[-1]
            assert updated.session.audio.input.format.type == "audio/pcmu"
            await speak(connection, loud(400) + quiet(300))
            events = await until(connection, "rate_limits.updated")
        by_type = {event.type: event for event in events}
        sound = [base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta"]
        assert b"".join(sound) == pattern(ULAW, 1, 0, 4000)
        assert by_type["response.output_audio_transcript.done"].transcript == "(answer 1)"
        heard = by_type["conversation.item.input_audio_transcription.completed"]
        assert "ms of sound" in heard.transcript
        assert heard.usage.type == "tokens"
        assert by_type["response.done"].response.usage.output_token_details.audio_tokens == 10
        assert "error" not in by_type

    async def test_typed_turn_and_function_call(self, flite: tuple[str, ...]) -> None:
        tool = {"type": "function", "name": "order_status", "description": "", "parameters": {"type": "object"}}
        async with ga(mode=Mode.SCRIPT, flite=flite) as (_, connection):
            await connection.session.update(session=session(tools=[tool]))
            content = [{"type": "input_text", "text": "where is my order"}]
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            await connection.response.create()
            events = await until(connection, "response.done")
            call = next(event for event in events if event.type == "response.function_call_arguments.done")
            output = {"type": "function_call_output", "call_id": call.call_id, "output": '{"status": "on its way"}'}
            await connection.conversation.item.create(item=output)
            await connection.response.create()
            events += await until(connection, "response.done")
            await connection.response.create(response={"instructions": 'Say this and no more:\n"Thank you, goodbye."'})
            events += await until(connection, "response.done")
        said = [event.transcript for event in events if event.type == "response.output_audio_transcript.done"]
        assert said == [
            "One moment, I am looking for your order.", "Your order is on its way.", "Thank you, goodbye.",
        ]  # fmt: skip

    async def test_barge_in_truncate_and_cancel(self) -> None:
        async with ga(mode=Mode.DETERMINISTIC, answer_ms=60_000) as (_, connection):
            await connection.session.update(session=session())
            await connection.response.create()
            item = (await until(connection, "response.output_audio.delta"))[-1].item_id
            await speak(connection, loud(400))
            interrupted = (await until(connection, "response.done"))[-1].response
            assert interrupted.status_details.reason == "turn_detected"
            await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=20)
            assert (await until(connection, "conversation.item.truncated"))[-1].audio_end_ms == 20
            await speak(connection, quiet(300))
            await until(connection, "response.output_audio.delta")
            await connection.response.cancel()
            assert (await until(connection, "response.done"))[-1].response.status_details.reason == "client_cancelled"

    async def test_errors(self) -> None:
        async with ga(mode=Mode.DETERMINISTIC) as (_, connection):
            sent: list[tuple[dict[str, Any], str]] = [
                ({"type": "session.update", "session": {"voice": "eve"}}, "missing_required_parameter"),
                ({"type": "session.update", "session": {"type": "realtime", "voice": "eve"}}, "unknown_parameter"),
                ({"type": "response.cancel"}, "response_cancel_not_active"),
                ({"type": "conversation.item.create", "item": {"type": "force_message"}}, "invalid_value"),
                ({"type": "nothing"}, "invalid_value"),
            ]
            for number, (event, code) in enumerate(sent):
                await connection.send({**event, "event_id": f"mine_{number}"})
                error = (await until(connection, "error"))[-1].error
                assert (error.code, error.event_id, error.type) == (code, f"mine_{number}", "invalid_request_error")

    async def test_the_end_of_the_hour(self) -> None:
        async with ga(mode=Mode.DETERMINISTIC, faults=parse_faults(["expire@0"])) as (_, connection):
            assert (await until(connection, "error"))[-1].error.code == "session_expired"
            assert [event async for event in connection] == []

    @pytest.mark.parametrize(("faults", "status"), [((), 401), (("refuse=429",), 429), (("refuse=401",), 401)])
    async def test_handshake_refusals(self, faults: tuple[str, ...], status: int) -> None:
        server, client = await server_and_client(
            dialect=Dialect.OPENAI, mode=Mode.DETERMINISTIC, api_keys=frozenset({"right"}), faults=parse_faults(faults)
        )
        try:
            async with asyncio.timeout(20), client:
                with pytest.raises(InvalidStatus) as refused:
                    await client.realtime.connect(model="gpt-realtime").enter()
        finally:
            await server.aclose()
        response = refused.value.response
        assert response.status_code == status
        assert set(json.loads(response.body or b"")["error"]) == {"message", "type", "code", "param"}
