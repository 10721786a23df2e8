"""The stand-in's voice: flite's speech in the format a session asked for, kept by content.

A line of the script is synthesized once and converted once per format; a reception says the same few lines
all day. Holds at most `CACHE_BYTES` of converted speech.
"""

from __future__ import annotations

from collections import OrderedDict

from sipagent import audio
from sipagent.speech import Flite
from sipagent.standin.wire import AudioFormat

CACHE_BYTES = 32 * 1024 * 1024
"""An hour and more of G.711."""


class Voice:
    """Text in, bytes of an audio format out."""

    def __init__(self, flite: Flite) -> None:
        self._flite = flite
        self._cache: OrderedDict[tuple[str, AudioFormat], bytes] = OrderedDict()
        self._held = 0

    async def check(self) -> None:
        """Say one word, so that a missing program is told of at start (ToolError)."""
        await self._flite.synthesize("ready")

    async def say(self, text: str, audio_format: AudioFormat) -> bytes:
        """The words as sound; ToolError if the synthesizer fails."""
        key = text, audio_format
        speech = self._cache.get(key)
        if speech is None:
            pcm, rate_hz = await self._flite.synthesize(text)
            speech = audio_format.from_pcm(audio.trim_silence(pcm, rate_hz), rate_hz)
            if key not in self._cache:  # two sessions may have asked at once
                self._cache[key] = speech
                self._held += len(speech)
            while self._held > CACHE_BYTES:
                self._held -= len(self._cache.popitem(last=False)[1])
        else:
            self._cache.move_to_end(key)
        return speech
