"""Prompts: spoken once, kept by content, an error when missing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sipagent.app import speak_prompts
from sipagent.audio import Law, encode
from sipagent.config import Settings
from sipagent.errors import ConfigError, ToolError
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import FliteVoice, Prompts, XaiVoice, current_folder, prompt_folder, render, use_voice
from sipagent.speech import Flite

PCM = b"\x00\x20\x00\xe0" * 400


def phrases(*texts: str) -> list[Phrase]:
    return [Phrase(text) for text in texts]


class Voice:
    name = "test:one"

    def __init__(self, pcm: bytes = PCM) -> None:
        self.spoken: list[str] = []
        self.pcm = pcm

    async def speak(self, phrase: Phrase) -> bytes:
        self.spoken.append(phrase.text)
        return self.pcm


async def test_each_text_is_spoken_once_and_read_in_both_laws(tmp_path: Path) -> None:
    voice, progress = Voice(), []
    await render(tmp_path, phrases("a", "b", "a", ""), voice, lambda done, count: progress.append((done, count)))
    await render(tmp_path, phrases("a", "b", "c"), voice)
    assert voice.spoken == ["a", "b", "c"]
    assert progress == [(1, 2), (2, 2)]
    kept = Prompts(prompt_folder(tmp_path, voice.name))
    for law in Law:
        assert kept.get(Phrase("a"), law) == encode(PCM, law)


async def test_a_prompt_that_was_never_rendered_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'Sorry\.' is not rendered"):
        Prompts(tmp_path).load(phrases("Sorry."))


async def test_a_voice_without_sound_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="made no sound"):
        await render(tmp_path, phrases("a"), Voice(bytes(1600)))


async def test_half_a_prompt_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        await render(tmp_path, phrases("a"), Voice())
    monkeypatch.undo()
    with pytest.raises(ConfigError):
        Prompts(prompt_folder(tmp_path, "test:one")).get(Phrase("a"), Law.ULAW)


def test_the_voice_in_use_can_change(tmp_path: Path) -> None:
    for name in ("a:b", "c:d"):
        prompt_folder(tmp_path, name).mkdir()
        assert use_voice(tmp_path, name).resolve() == prompt_folder(tmp_path, name).resolve()


@pytest.fixture
async def tts() -> AsyncIterator[dict[str, Any]]:
    """xAI's text-to-speech endpoint as its documentation describes it."""
    state: dict[str, Any] = {"status": 200, "requests": []}

    async def speak(request: web.Request) -> web.Response:
        state["requests"].append((request.headers["Authorization"], await request.json()))
        return web.Response(status=state["status"], body=PCM)

    app = web.Application()
    app.router.add_post("/v1/tts", speak)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/tts"
    yield state
    await runner.cleanup()


async def test_xai_speaks_the_prompts(tts: dict[str, Any]) -> None:
    assert await XaiVoice("key", "eve", tts["url"]).speak(Phrase("Hello")) == PCM
    [(authorization, body)] = tts["requests"]
    assert authorization == "Bearer key"
    assert body["text"] == "Hello"
    assert (body["voice_id"], body["output_format"]) == ("eve", {"codec": "pcm", "sample_rate": 8000})
    tts["status"] = 403
    with pytest.raises(ToolError, match="HTTP 403"):
        await XaiVoice("key", "eve", tts["url"]).speak(Phrase("Hello"))


async def test_flite_speaks_when_xai_does_not(
    tts: dict[str, Any], flite: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tts["status"] = 503
    monkeypatch.setattr("sipagent.app.prompt_voice", lambda *_: XaiVoice("key", "eve", tts["url"]))
    values = {"run_dir": tmp_path, "agents": {"a": {"instructions": "x"}}, "numbers": {"*": "a"}}
    settings = Settings(**json.loads(json.dumps(values, default=str)))
    kept = await speak_prompts(settings, flite)
    spoken = kept.get(Phrase(settings.call.apology), Law.ULAW)
    assert len(spoken) > 8000
    assert current_folder(tmp_path / "prompts").resolve().name == "flite-slt"


async def test_flite_voice_is_at_8000_hz_without_its_silence(flite: tuple[str, ...]) -> None:
    pcm = await FliteVoice(Flite(flite)).speak(Phrase("Hello there."))
    assert 400 < len(pcm) / 16 < 1500
