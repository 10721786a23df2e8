"""The ear of a probe: people speak, tones and noises do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sipagent.asterisk.root import Root
from sipagent.audio import PTIME_MS, QUIET_RMS, SAMPLE_RATE_HZ, SILENCE_FRAME, Law, encode, resample, rms
from sipagent.probe import Ear
from sipagent.speech import Flite
from tests.asterisk.fixtures import root
from tests.sounds import Wave, frames, noise

__all__ = ["root"]

GREETING = "Hello, this is the reception. How can I help you?"
STEP_S = PTIME_MS / 1000


def hears(ear: Ear, sound: list[bytes], at: float = 0.0) -> float:
    """Feed it all; the time after it."""
    for frame in sound:
        ear.hear(frame, at)
        at += STEP_S
    return at


def tone(*hertz: float, seconds: float = 4.0, on: float = 1.0, off: float = 0.0) -> Wave:
    """A tone with its cadence; its edges fall into frames, as on every line."""
    time_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ + 0.013
    sounds = (time_s % (on + off)) < on if off else np.ones_like(time_s)
    wave: Wave = sounds * sum(3000 * np.sin(2 * np.pi * each * time_s) for each in hertz)
    return wave


async def spoken(root: Root, law: Law, voice: str = "kal") -> list[bytes]:
    pcm, rate_hz = await Flite(root.command("flite"), voice).synthesize(GREETING)
    g711 = encode(resample(pcm, rate_hz, SAMPLE_RATE_HZ), law)
    sound = [g711[at : at + 160] for at in range(0, len(g711) - 159, 160)]
    # Without the breath that flite takes first.
    return list(itertools.dropwhile(lambda frame: rms(frame, law) <= QUIET_RMS, sound))


@pytest.mark.parametrize("voice", ["kal", "slt", "rms", "awb"])
@pytest.mark.parametrize("law", list(Law))
async def test_a_greeting_is_somebody(root: Root, law: Law, voice: str) -> None:
    ear = Ear(law)
    after = hears(ear, [SILENCE_FRAME[law]] * 50)
    hears(ear, await spoken(root, law, voice), after)
    assert ear.onset_at == after  # its first sound, not the moment of certainty


@pytest.mark.parametrize(
    "sound",
    [tone(425, on=1, off=4, seconds=9), tone(440, 480, on=2, off=4, seconds=9), tone(400, 450, on=0.4, off=0.2),
     tone(480, 620, on=0.25, off=0.25), tone(425, on=0.2, off=0.2), tone(1004), noise(4000, 2000), noise(4000, 20)],
    ids=["ringing", "ringing in America", "ringing in Britain", "reorder", "fast busy", "test tone", "noise", "quiet"],
)  # fmt: skip
def test_nobody_is_there(sound: Wave) -> None:
    ear = Ear(Law.ULAW)
    hears(ear, frames(sound))
    assert ear.onset_at is None


async def test_who_answers_after_the_ringing_is_heard_from_their_own_beginning(root: Root) -> None:
    ear = Ear(Law.ULAW)
    after = hears(ear, frames(tone(440, 480, seconds=2.0)))
    after = hears(ear, [SILENCE_FRAME[Law.ULAW]] * 100, after)
    hears(ear, await spoken(root, Law.ULAW), after)
    assert ear.onset_at == after
