"""The stand-in judged by a client we did not write: openai-python's realtime client."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import openai

from sipagent.standin import Burst, Mode, StandinConfig, StandinServer, pattern, serve
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
