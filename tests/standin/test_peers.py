"""The stand-in judged by two agent frameworks' own xAI clients.

They are heavy (750 MB with their dependencies) and pin other versions than ours, so `make test` runs this
file in an environment of its own (requirements-peers.lock).
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from sipagent import audio
from sipagent.standin import Burst, Mode, StandinConfig, pattern, serve
from tests.standin.harness import ULAW, loud, quiet

# Their dependencies warn of each other; that is not ours to mend.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

FAST: dict[str, Any] = {"mode": Mode.DETERMINISTIC, "answer_ms": 500, "think_ms": 50, "burst": Burst(speed=50)}


def caller_24k() -> bytes:
    return audio.resample(audio.decode(loud(500) + quiet(800), ULAW), 8000, 24000)


async def test_livekit_hears_an_answer_and_a_greeting() -> None:
    from livekit import rtc  # noqa: PLC0415
    from livekit.plugins.xai.realtime import RealtimeModel  # noqa: PLC0415

    server = await serve(StandinConfig(**FAST))
    answers: asyncio.Queue[Any] = asyncio.Queue()
    try:
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            model = RealtimeModel(base_url=server.url, api_key="a-key", http_session=http)
            session = model.session()
            session.on("generation_created", answers.put_nowait)
            transcripts: list[str] = []
            session.on("input_audio_transcription_completed", lambda event: transcripts.append(event.transcript))
            await asyncio.wait_for(session.say("Good day."), 5)
            assert (await _livekit_sound(await answers.get()))[1] == "Good day."
            pcm = caller_24k()
            for start in range(0, len(pcm), 960):
                part = pcm[start : start + 960]
                session.push_audio(rtc.AudioFrame(part, 24000, 1, len(part) // 2))
            sound, words = await _livekit_sound(await answers.get())
            assert sound == audio.decode(pattern(ULAW, 2, 0, 12_000), ULAW)
            assert words == "(answer 2)"
            assert "ms of sound" in transcripts[-1]
            await session.aclose()
            await model.aclose()
    finally:
        await server.aclose()
    assert not server.sessions[-1].record.sent_events("error")


async def _livekit_sound(generation: Any) -> tuple[bytes, str]:
    sound, words = b"", ""
    async for message in generation.message_stream:
        async for frame in message.audio_stream:
            sound += bytes(frame.data)
        async for text in message.text_stream:
            words += text
    return sound, words.strip()


async def test_pipecat_hears_an_answer() -> None:
    from pipecat.frames.frames import (  # noqa: PLC0415
        InputAudioRawFrame,
        LLMRunFrame,
        TTSAudioRawFrame,
        TTSStoppedFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline  # noqa: PLC0415
    from pipecat.pipeline.runner import PipelineRunner  # noqa: PLC0415
    from pipecat.pipeline.task import PipelineParams, PipelineTask  # noqa: PLC0415
    from pipecat.processors.aggregators.llm_context import LLMContext  # noqa: PLC0415
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair  # noqa: PLC0415
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor  # noqa: PLC0415
    from pipecat.services.xai.realtime import events  # noqa: PLC0415
    from pipecat.services.xai.realtime.llm import GrokRealtimeLLMService  # noqa: PLC0415

    sounds: list[bytes] = [b""]
    stopped: asyncio.Queue[None] = asyncio.Queue()

    class Ear(FrameProcessor):  # type: ignore[misc]
        async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TTSAudioRawFrame):
                sounds[-1] += frame.audio
            elif isinstance(frame, TTSStoppedFrame):
                sounds.append(b"")
                stopped.put_nowait(None)
            await self.push_frame(frame, direction)

    server = await serve(StandinConfig(**FAST))
    try:
        async with asyncio.timeout(30):
            vad = events.TurnDetection(type="server_vad")
            settings = GrokRealtimeLLMService.Settings(
                session_properties=events.SessionProperties(voice="eve", turn_detection=vad)
            )
            service = GrokRealtimeLLMService(api_key="a-key", base_url=server.url, settings=settings)
            pair = LLMContextAggregatorPair(LLMContext([{"role": "user", "content": "hello"}]))
            task = PipelineTask(
                Pipeline([pair.user(), service, Ear(), pair.assistant()]),
                params=PipelineParams(audio_in_sample_rate=24000, audio_out_sample_rate=24000),
            )
            running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
            await task.queue_frame(LLMRunFrame())
            await stopped.get()
            pcm = caller_24k()
            for start in range(0, len(pcm), 960):
                await task.queue_frame(InputAudioRawFrame(pcm[start : start + 960], 24000, 1))
                await asyncio.sleep(0.02)  # in real time: Pipecat cancels an answer that overtakes its own turn
            await stopped.get()
            await task.cancel()
            await running
    finally:
        await server.aclose()
    assert sounds[0] == audio.decode(pattern(ULAW, 1, 0, 12_000), ULAW)
    assert sounds[1] == audio.decode(pattern(ULAW, 2, 0, 12_000), ULAW)
    # Pipecat cancels at every onset, as the reference has it, and swallows the error when nothing is active.
    errors = [event["error"]["message"] for event in server.sessions[-1].record.sent_events("error")]
    assert set(errors) <= {"Cancellation failed: no active response found"}
