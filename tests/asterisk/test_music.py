"""The tune of a queue: as loud as a voice, never silent, without a seam."""

import numpy as np

from sipagent.asterisk.music import hold_music
from sipagent.audio import read_wav


def test_the_tune() -> None:
    pcm, rate_hz = read_wav(hold_music())
    samples = np.frombuffer(pcm, dtype="<i2") / 32768
    assert (rate_hz, len(samples)) == (8000, 16 * 8000)
    assert 0.17 < np.abs(samples).max() < 0.19
    seconds = np.sqrt((samples.reshape(32, -1) ** 2).mean(axis=1))
    assert seconds.min() > 0.02  # no half second without a sound
    assert abs(samples[0] - samples[-1]) < 0.02
