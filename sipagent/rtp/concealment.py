"""What the model hears instead of audio that did not come (core): the last of it again, softer, then silence.

Far from the pitch search of G.711 Appendix I, and a hundredth of its price: two table look-ups for the
20 ms that most losses last. A word with one frame missing stays a word, and after two frames nothing is
repeated any more, since a stuck vowel would be taken for speech.
"""

from __future__ import annotations

import audioop  # standard library to 3.12, audioop-lts from 3.13

from sipagent.audio import FRAME_BYTES, SILENCE_FRAME, Law, decode, encode

FADE = (0.5, 0.25)
"""Gain of the repeated frames: -6 dB, -12 dB, then nothing."""

_EVERY_BYTE = bytes(range(256))
_FADE_TABLE = {law: tuple(encode(audioop.mul(decode(_EVERY_BYTE, law), 2, gain), law) for gain in FADE) for law in Law}


def repeat(last: bytes, law: Law, ticks: int) -> list[bytes]:
    """The tail of the last payload, fading: at most two frames and at most `ticks` bytes in all."""
    frames: list[bytes] = []
    for table in _FADE_TABLE[law]:
        if frame := last[-FRAME_BYTES:][:ticks].translate(table):
            frames.append(frame)
            ticks -= len(frame)
    return frames


def silence(law: Law, ticks: int) -> list[bytes]:
    """Silence of exactly `ticks` bytes in frames of 20 ms, the last one shorter where it does not fit."""
    whole, rest = divmod(ticks, FRAME_BYTES)
    frame = SILENCE_FRAME[law]
    return [frame] * whole + ([frame[:rest]] if rest else [])
