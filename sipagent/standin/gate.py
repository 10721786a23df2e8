"""The ear's gate: where speech begins and ends in a stream of caller audio. Core: no I/O, no clock.

Time is the stream's own: positions are counted in samples received. Bytes come in in the session's input
format and are kept in it, so an echo is bit-exact; a copy at 8 kHz goes through the gate in 20 ms frames.
Holds at most `MAX_SPEECH_S` of audio: a caller who never stops is cut there and heard in pieces.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import soxr
import webrtcvad

from sipagent import audio
from sipagent.standin.settings import TurnDetection
from sipagent.standin.wire import AudioFormat

MAX_SPEECH_S = 30
_FRAME_PCM_BYTES = audio.FRAME_BYTES * 2
_ONSET_WINDOW, _ONSET_VOICED = 5, 3
"""Speech begins when 3 of the last 5 frames (100 ms) are voiced: a click is one or two."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Onset; `at_ms` since the session's first sample, padding included."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The end after `silence_duration_ms` of silence; `audio` is the whole utterance, padding included."""

    at_ms: int
    audio: bytes


def gate_level_dbov(threshold: float) -> float:
    """xAI's 0.1-0.9 as a level: 0.5 is -43 dBov (quiet speech), 0.85 about -36."""
    return -53 + 20 * threshold


class Gate:
    """Feed it the caller's bytes; it answers with onsets and ends."""

    def __init__(
        self, audio_format: AudioFormat, detection: TurnDetection, *, level_dbov: float | None, voice_only: bool
    ) -> None:
        self._format = audio_format
        self._detection = detection
        self._level = gate_level_dbov(detection.threshold) if level_dbov is None else level_dbov
        # webrtcvad tells speech from noise; the deterministic modes are fed noise on purpose.
        self._vad = webrtcvad.Vad(2) if voice_only else None
        self._to_8k: soxr.ResampleStream | None = None
        if audio_format.rate != audio.SAMPLE_RATE_HZ:
            self._to_8k = soxr.ResampleStream(audio_format.rate, audio.SAMPLE_RATE_HZ, 1, dtype="int16")
        self._step_bytes = audio_format.rate // 50 * audio_format.sample_bytes  # a decision is 20 ms late at most
        self._max_bytes = MAX_SPEECH_S * audio_format.bytes_per_s
        keep_ms = detection.prefix_padding_ms + _ONSET_WINDOW * audio.PTIME_MS
        self._padding_bytes = audio_format.rate * keep_ms // 1000 * audio_format.sample_bytes
        self._kept = bytearray()  # input format: the utterance, or the padding before the next
        self._received = 0  # bytes ever received; `_kept` ends there
        self._frames = bytearray()  # PCM at 8 kHz short of a frame
        self._recent: deque[bool] = deque(maxlen=_ONSET_WINDOW)
        self._quiet_ms = 0
        self.speaking = False

    def feed(self, data: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Caller bytes of any length in; what they began or ended out."""
        step = self._step_bytes
        events: list[SpeechStarted | SpeechStopped] = []
        for start in range(0, len(data), step):
            event = self._take(data[start : start + step])
            if event is not None:
                events.append(event)
        return events

    def _take(self, data: bytes) -> SpeechStarted | SpeechStopped | None:
        self._kept += data
        self._received += len(data)
        self._frames += self._at_8k(data)
        event = None
        while event is None and len(self._frames) >= _FRAME_PCM_BYTES:
            event = self._frame(bytes(self._frames[:_FRAME_PCM_BYTES]))
            del self._frames[:_FRAME_PCM_BYTES]
        if not self.speaking:
            self._trim()
        elif len(self._kept) >= self._max_bytes:
            return self.stop()
        return event

    def stop(self) -> SpeechStopped:
        """End the utterance here: too long, or the stream itself has stopped."""
        self.speaking = False
        self._recent.clear()
        self._quiet_ms = 0
        utterance = bytes(self._kept)
        self._kept.clear()
        return SpeechStopped(self._now_ms(), utterance)

    def _frame(self, pcm: bytes) -> SpeechStarted | SpeechStopped | None:
        voiced = audio.level_dbov(pcm) > self._level and (
            self._vad is None or self._vad.is_speech(pcm, audio.SAMPLE_RATE_HZ)
        )
        if not self.speaking:
            self._recent.append(voiced)
            if sum(self._recent) < _ONSET_VOICED:
                return None
            self.speaking, self._quiet_ms = True, 0
            self._trim()
            return SpeechStarted(max(0, self._now_ms() - self._ms(len(self._kept))))
        self._quiet_ms = 0 if voiced else self._quiet_ms + audio.PTIME_MS
        return self.stop() if not voiced and self._quiet_ms >= self._detection.silence_duration_ms else None

    def _trim(self) -> None:
        """Before speech only the padding is kept, and the window the onset is found in."""
        surplus = len(self._kept) - self._padding_bytes
        if surplus > 0:
            del self._kept[: surplus + surplus % self._format.sample_bytes]

    def _at_8k(self, data: bytes) -> bytes:
        pcm = self._format.to_pcm(data)
        if self._to_8k is None:
            return pcm
        return bytes(self._to_8k.resample_chunk(np.frombuffer(pcm, dtype="<i2")).astype("<i2").tobytes())

    def _ms(self, length: int) -> int:
        return length * 1000 // self._format.bytes_per_s

    def _now_ms(self) -> int:
        return self._ms(self._received)
