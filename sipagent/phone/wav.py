"""Two directions of a call as one stereo WAV file. Pure function over bytes."""

from __future__ import annotations

import audioop  # standard library to 3.12, audioop-lts from 3.13
import io
import wave


def stereo(left: bytes, right: bytes, rate_hz: int) -> bytes:
    """Two 16-bit mono PCM streams side by side; the shorter one is filled with silence."""
    size = max(len(left), len(right))
    left, right = left.ljust(size, b"\0"), right.ljust(size, b"\0")
    both = audioop.add(audioop.tostereo(left, 2, 1, 0), audioop.tostereo(right, 2, 0, 1), 2)
    out = io.BytesIO()
    with wave.open(out, "wb") as wav:
        wav.setnchannels(2)
        wav.setsampwidth(2)
        wav.setframerate(rate_hz)
        wav.writeframes(both)
    return out.getvalue()
