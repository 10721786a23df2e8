"""Sounds of our own: as loud as a voice, never silent where they must not be, without a seam."""

import numpy as np

from sipagent.audio import Law
from sipagent.tones import hold_music, looped, ringback


def test_the_tune() -> None:
    samples = np.frombuffer(hold_music(), dtype="<i2") / 32768
    assert len(samples) == 16 * 8000
    assert 0.17 < np.abs(samples).max() < 0.19
    halves = np.sqrt((samples.reshape(32, -1) ** 2).mean(axis=1))
    assert halves.min() > 0.02  # no half second without a sound
    assert abs(samples[0] - samples[-1]) < 0.02


def test_ringback_is_a_second_of_425_hz_in_five() -> None:
    samples = np.frombuffer(ringback(), dtype="<i2") / 32768
    assert len(samples) == 5 * 8000
    assert np.argmax(np.abs(np.fft.rfft(samples[:8000]))) == 425
    assert not samples[8000:].any()


def test_made_once() -> None:
    assert looped("hold", Law.ALAW) is looped("hold", Law.ALAW)
    assert len(looped("ringback", Law.ULAW)) == 5 * 8000
