"""Sounds of our own making: ringback, and music for those who wait, so that nobody believes the line is dead."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from sipagent.audio import SAMPLE_RATE_HZ, Law, encode

NOTE_S = 0.5
CHORDS_HZ = (
    (130.8, 261.6, 329.6, 392.0),  # C
    (110.0, 261.6, 329.6, 440.0),  # A minor
    (87.3, 261.6, 349.2, 440.0),  # F
    (98.0, 246.9, 293.7, 392.0),  # G
)
ORDER = (0, 1, 2, 3, 2, 1, 2, 3)
PEAK = 0.18
"""Of full scale: about -20 dBm0, as loud as a voice and no louder."""


def hold_music() -> bytes:
    """PCM at 8000 Hz, 16 s that may be repeated without a seam: a slow arpeggio."""
    notes = [chord[place] for chord in CHORDS_HZ for place in ORDER]
    step, length = int(NOTE_S * SAMPLE_RATE_HZ), int(4 * NOTE_S * SAMPLE_RATE_HZ)
    time_s = np.arange(length) / SAMPLE_RATE_HZ
    # Plucked: quick in, slowly out, gone before it would be cut off.
    envelope = np.minimum(time_s / 0.01, 1) * np.exp(-2.2 * time_s) * np.minimum((time_s[-1] - time_s) / 0.1, 1)
    music = np.zeros(step * len(notes))
    for place, pitch_hz in enumerate(notes):
        tone = np.sin(2 * np.pi * pitch_hz * time_s) + 0.3 * np.sin(4 * np.pi * pitch_hz * time_s)
        where = (place * step + np.arange(length)) % len(music)  # the last notes ring on into the beginning
        music[where] += tone * envelope
    return _pcm(music)


def ringback() -> bytes:
    """PCM at 8000 Hz, 5 s: one second of 425 Hz, then silence (ITU-T E.180, the most common one)."""
    second = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * 425 * second) * np.minimum(np.minimum(second, 1 - second) / 0.01, 1)
    return _pcm(np.concatenate([tone, np.zeros(4 * SAMPLE_RATE_HZ)]))


@functools.lru_cache(maxsize=8)
def looped(name: str, law: Law) -> bytes:
    """One of SOUNDS as G.711, made once."""
    return encode(SOUNDS[name](), law)


SOUNDS: Mapping[str, Callable[[], bytes]] = {"hold": hold_music, "ringback": ringback}


def _pcm(sound: np.ndarray) -> bytes:
    return bytes((sound * (PEAK / np.abs(sound).max()) * 32767).astype("<i2").tobytes())
