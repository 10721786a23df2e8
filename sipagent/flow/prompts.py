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
from sipagent.flow.phrases import RECORDING, Phrase
from sipagent.speech import Flite

TTS_TIMEOUT_S = 20.0


class Voice(Protocol):
    """Something that speaks; `name` goes into the cache key."""

    @property
    def name(self) -> str:
        """Engine and voice."""

    async def speak(self, phrase: Phrase) -> bytes:
        """PCM at 8000 Hz."""


class FliteVoice:
    """flite: small, offline, dated, and English whatever the language."""

    def __init__(self, flite: Flite, voice: str = "slt") -> None:
        self._flite, self._voice = flite, voice
        self.name = f"flite:{voice}"

    async def speak(self, phrase: Phrase) -> bytes:
        """PCM at 8000 Hz."""
        pcm, rate_hz = await self._flite.synthesize(phrase.text, self._voice)
        return resample(trim_silence(pcm, rate_hz), rate_hz, SAMPLE_RATE_HZ)


class XaiVoice:
    """xAI's text to speech (``POST /v1/tts``), so that prompts sound like the agent."""

    def __init__(self, api_key: str, voice: str, url: str = "https://api.x.ai/v1/tts") -> None:
        self._api_key, self._voice, self._url = api_key, voice, url
        self.name = f"xai:{voice}"

    @stamina.retry(on=(aiohttp.ClientConnectionError, TimeoutError), attempts=3, timeout=TTS_TIMEOUT_S)
    async def speak(self, phrase: Phrase) -> bytes:
        """PCM at 8000 Hz."""
        request = {
            "text": phrase.text,
            "voice_id": self._voice,
            "language": phrase.language,
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


def read_recording(file: Path) -> bytes:
    """PCM at 8000 Hz of a sound file: WAV, FLAC, Ogg, MP3 and whatever else libsndfile reads.

    Raises:
        ConfigError: it cannot be read, or nothing is to be heard in it.
    """
    import numpy as np  # noqa: PLC0415 - a worker reads what was rendered, and needs neither
    import soundfile  # noqa: PLC0415

    try:
        sound, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ConfigError(f"{file}: no recording that can be read: {error}") from None
    pcm = (np.clip(sound.mean(axis=1), -1, 1) * 32767).astype("<i2").tobytes()
    if not any(pcm):
        raise ConfigError(f"{file}: nothing is to be heard in this recording")
    return resample(pcm, rate_hz, SAMPLE_RATE_HZ)


def _file(folder: Path, phrase: Phrase, law: Law, recordings: Path) -> Path:
    """By content, so that a changed text or recording is another prompt, and an old one is never taken for it."""
    if phrase.text.startswith(RECORDING):
        content = (recordings / phrase.text.removeprefix(RECORDING)).read_bytes()
    else:
        content = f"{phrase.language}\0{phrase.text}".encode()
    return folder / f"{hashlib.sha256(content).hexdigest()[:24]}.{law}"


async def render(
    folder: Path,
    phrases: Iterable[Phrase],
    voice: Voice,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    recordings: Path = Path(),
) -> None:
    """Make every prompt that is missing in `folder`/<voice>; calls `progress(done, all)` after each.

    Recordings are named relative to the folder `recordings`.
    """
    target = prompt_folder(folder, voice.name)
    target.mkdir(parents=True, exist_ok=True)
    wanted = dict.fromkeys(phrase for phrase in phrases if phrase.text)
    missing = await asyncio.to_thread(_missing, target, wanted, recordings)
    for done, phrase in enumerate(missing, 1):
        if phrase.text.startswith(RECORDING):
            pcm = await asyncio.to_thread(read_recording, recordings / phrase.text.removeprefix(RECORDING))
        else:
            pcm = await voice.speak(phrase)
        if not any(pcm):
            raise ToolError(f"{voice.name} made no sound of the prompt {phrase.text[:40]!r}")
        for law in Law:
            await asyncio.to_thread(_write, _file(target, phrase, law, recordings), encode(pcm, law))
        progress(done, len(missing))


def _missing(folder: Path, wanted: Iterable[Phrase], recordings: Path) -> list[Phrase]:
    """Recordings are read to be known: they may be long, and calls are up where a configuration is read anew."""
    return [phrase for phrase in wanted if not all(_file(folder, phrase, law, recordings).exists() for law in Law)]


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

    def __init__(self, folder: Path, recordings: Path = Path()) -> None:
        self._folder, self._recordings = folder, recordings
        self._kept: dict[tuple[Phrase, Law], bytes] = {}

    @classmethod
    def of(cls, audio: Mapping[tuple[Phrase, Law], bytes]) -> Prompts:
        """Prompts from memory, for tests."""
        prompts = cls(Path("/nonexistent"))
        prompts._kept.update(audio)
        return prompts

    def load(self, phrases: Iterable[Phrase]) -> None:
        """Read prompts in advance; ConfigError for one that was never rendered."""
        for phrase in phrases:
            for law in Law:
                self.get(phrase, law)

    def get(self, phrase: Phrase, law: Law) -> bytes:
        """A prompt's G.711."""
        key = (phrase, law)
        if key not in self._kept:
            try:
                self._kept[key] = _file(self._folder, phrase, law, self._recordings).read_bytes()
            except OSError:
                raise ConfigError(
                    f"prompt {phrase.text[:40]!r} is not rendered in {self._folder}: restart sipagent"
                ) from None
        return self._kept[key]
