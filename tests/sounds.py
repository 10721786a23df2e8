"""Sounds for the ear that listens for interruptions, as G.711 frames of 20 ms: made here, the same every time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sipagent.audio import FRAME_BYTES, SAMPLE_RATE_HZ, SILENCE_FRAME, Law, encode

Wave = npt.NDArray[np.float64]


def frames(wave: Wave, law: Law = Law.ULAW) -> list[bytes]:
    """A wave of any length; the last frame is filled up with silence."""
    payload = encode(np.clip(wave, -32000, 32000).astype("<i2").tobytes(), law)
    return [
        payload[at : at + FRAME_BYTES].ljust(FRAME_BYTES, bytes([law.silence]))
        for at in range(0, len(payload), FRAME_BYTES)
    ]


def vowel(ms: int, level: float = 3000, pitch_hz: float = 120) -> Wave:
    """A voice: pulses of the vocal cords through the resonances of an "ah"."""
    size = ms * SAMPLE_RATE_HZ // 1000
    pulses = np.zeros(size)
    pulses[:: int(SAMPLE_RATE_HZ / pitch_hz)] = 1.0
    return _scaled(_resonances(pulses), level)


def cough(ms: int, level: float = 6000, seed: int = 1) -> Wave:
    """A burst of breath through the same throat: loud, sudden, dying away, without a pitch."""
    size = ms * SAMPLE_RATE_HZ // 1000
    burst = np.random.default_rng(seed).normal(size=size) * np.exp(-np.linspace(0, 3, size))
    return _scaled(_resonances(burst), level)


def noise(ms: int, level: float, seed: int = 2) -> Wave:
    """The even hiss of a line or a fan."""
    return np.random.default_rng(seed).normal(size=ms * SAMPLE_RATE_HZ // 1000) * level


def hum(ms: int, level: float = 2000) -> Wave:
    """Mains."""
    return level * np.sqrt(2) * np.sin(2 * np.pi * 50 * np.arange(ms * SAMPLE_RATE_HZ // 1000) / SAMPLE_RATE_HZ)


def silence(ms: int, law: Law = Law.ULAW) -> list[bytes]:
    """Digital silence."""
    return [SILENCE_FRAME[law]] * (ms // 20)


def _resonances(wave: Wave) -> Wave:
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE_HZ)
    shape = sum(1 / (1 + ((hz - centre) / width) ** 2) for centre, width in ((700, 130), (1200, 170), (2600, 250)))
    return np.fft.irfft(spectrum * shape, len(wave))


def _scaled(wave: Wave, level: float) -> Wave:
    return wave * (level / np.sqrt(np.mean(wave**2)))
