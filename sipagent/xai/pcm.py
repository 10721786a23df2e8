"""PCM where G.711 was asked for: seen in the field, converted here (core: bytes in, bytes out)."""

from __future__ import annotations

import numpy as np
import soxr

from sipagent import audio
from sipagent.audio import Law


class PcmToLaw:
    """PCM of any rate to G.711, across deltas that may end in the middle of a sample."""

    def __init__(self, rate_hz: int, law: Law) -> None:
        self._law = law
        self._odd = b""
        self._resampler = (
            soxr.ResampleStream(rate_hz, audio.SAMPLE_RATE_HZ, 1, dtype="int16")
            if rate_hz != audio.SAMPLE_RATE_HZ
            else None
        )

    def convert(self, pcm: bytes) -> bytes:
        """Convert what came; the resampler may hold some of it back."""
        pcm = self._odd + pcm
        whole = len(pcm) & ~1
        self._odd = pcm[whole:]
        return self._encode(pcm[:whole], last=False)

    def finish(self) -> bytes:
        """What the resampler still holds; the next audio starts anew."""
        self._odd = b""
        tail = self._encode(b"", last=True)
        if self._resampler is not None:
            self._resampler.clear()
        return tail

    def _encode(self, pcm: bytes, *, last: bool) -> bytes:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(np.frombuffer(pcm, dtype="<i2"), last=last)
            pcm = np.asarray(samples, dtype="<i2").tobytes()
        return audio.encode(pcm, self._law)
