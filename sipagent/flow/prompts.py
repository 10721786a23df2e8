"""Prompts: a text becomes G.711 once, at start, and is kept by content on disk.

`render` makes what is missing (xAI's text to speech with a key, flite without) and is called before any
call can come; `Prompts` only reads files, so a worker that speaks a prompt waits for nobody. A prompt that
cannot be made is an error at start, never a silence in a call.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import aiohttp
import stamina

from sipagent.audio import SAMPLE_RATE_HZ, Law, encode, resample, trim_silence
from sipagent.errors import ConfigError, ToolError
from sipagent.speech import Flite

TTS_TIMEOUT_S = 20.0


class Voice(Protocol):
    """Something that speaks; `name` goes into the cache key."""

    @property
    def name(self) -> str:
        """Engine and voice."""

    async def speak(self, text: str) -> bytes:
        """PCM at 8000 Hz."""


class FliteVoice:
    """flite: small, offline, dated."""

    def __init__(self, flite: Flite, voice: str = "slt") -> None:
        self._flite, self._voice = flite, voice
        self.name = f"flite:{voice}"

    async def speak(self, text: str) -> bytes:
        """PCM at 8000 Hz."""
        pcm, rate_hz = await self._flite.synthesize(text, self._voice)
        return resample(trim_silence(pcm, rate_hz), rate_hz, SAMPLE_RATE_HZ)


class XaiVoice:
    """xAI's text to speech (``POST /v1/tts``), so that prompts sound like the agent."""

    def __init__(self, api_key: str, voice: str, language: str, url: str = "https://api.x.ai/v1/tts") -> None:
        self._api_key, self._voice, self._language, self._url = api_key, voice, language, url
        self.name = f"xai:{voice}:{language}"

    @stamina.retry(on=(aiohttp.ClientConnectionError, TimeoutError), attempts=3, timeout=TTS_TIMEOUT_S)
    async def speak(self, text: str) -> bytes:
        """PCM at 8000 Hz."""
        request = {
            "text": text,
            "voice_id": self._voice,
            "language": self._language,
            "output_format": {"codec": "pcm", "sample_rate": SAMPLE_RATE_HZ},
        }
        headers = {"Authorization": f"Bearer {self._api_key}"}
        timeout = aiohttp.ClientTimeout(total=TTS_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(self._url, json=request, headers=headers) as response,
        ):
            if response.status != 200:
                raise ToolError(
                    f"xAI's text to speech answered HTTP {response.status} for a prompt: "
                    "check the key and the voice, or unset the key to use flite"
                )
            return await response.read()


def _file(folder: Path, text: str, law: Law) -> Path:
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.{law}"


async def render(
    folder: Path, texts: Iterable[str], voice: Voice, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> None:
    """Make every prompt that is missing in `folder`/<voice>; calls `progress(done, all)` after each."""
    target = prompt_folder(folder, voice.name)
    target.mkdir(parents=True, exist_ok=True)
    wanted = dict.fromkeys(text for text in texts if text)
    missing = [text for text in wanted if not all(_file(target, text, law).exists() for law in Law)]
    for done, text in enumerate(missing, 1):
        pcm = await voice.speak(text)
        if not any(pcm):
            raise ToolError(f"{voice.name} made no sound of the prompt {text[:40]!r}")
        for law in Law:
            file = _file(target, text, law)
            await asyncio.to_thread(_write, file, encode(pcm, law))
        progress(done, len(missing))


def _write(file: Path, data: bytes) -> None:
    # Beside and renamed, so that a reader never meets half a prompt.
    half = file.with_suffix(file.suffix + ".part")
    half.write_bytes(data)
    half.replace(file)


def prompt_folder(folder: Path, voice_name: str) -> Path:
    """Where a voice's prompts lie."""
    return folder / voice_name.replace(":", "-")


def current_folder(folder: Path) -> Path:
    """Where the prompts in use lie, whichever voice that is."""
    return folder / "now"


def use_voice(folder: Path, voice_name: str) -> Path:
    """Make a voice's prompts the ones in use; returns where they are."""
    now, fresh = current_folder(folder), folder / "now.part"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(prompt_folder(folder, voice_name).name)
    fresh.replace(now)
    return now


class Prompts:
    """The rendered prompts of one voice, read when they are first wanted and kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, Law], bytes] = {}

    @classmethod
    def of(cls, audio: Mapping[tuple[str, Law], bytes]) -> Prompts:
        """Prompts from memory, for tests."""
        prompts = cls(Path("/nonexistent"))
        prompts._kept.update(audio)
        return prompts

    def load(self, texts: Iterable[str]) -> None:
        """Read prompts in advance; ConfigError for one that was never rendered."""
        for text in texts:
            for law in Law:
                self.get(text, law)

    def get(self, text: str, law: Law) -> bytes:
        """A prompt's G.711."""
        key = (text, law)
        if key not in self._kept:
            try:
                self._kept[key] = _file(self._folder, text, law).read_bytes()
            except OSError:
                raise ConfigError(f"prompt {text[:40]!r} is not rendered in {self._folder}: restart sipagent") from None
        return self._kept[key]
