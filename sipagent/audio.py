"""Sound as pure functions: G.711, level, resampling, WAV. No I/O but the two WAV helpers, no state.

PCM is 16-bit signed little-endian mono in `bytes`; G.711 is one byte a sample at 8000 Hz. At frames of
160 samples audioop beats numpy 4 to 33 times, so per-frame work is audioop's and numpy stays out.
"""

from __future__ import annotations

import audioop  # standard library to 3.12, audioop-lts from 3.13
import io
import math
import wave
from enum import StrEnum

import numpy as np
import soxr

from sipagent import native

SAMPLE_RATE_HZ = 8000
PTIME_MS = 20
FRAME_BYTES = SAMPLE_RATE_HZ * PTIME_MS // 1000
"""One 20 ms frame of G.711: 160 bytes."""
QUIET_RMS = 300
"""Of 32768, -41 dBov: below this nothing is a voice, however quiet the line (soft speech is 10 dB above)."""


class Law(StrEnum):
    """The two laws of G.711, by Asterisk's names."""

    ULAW = "ulaw"
    ALAW = "alaw"

    @property
    def payload_type(self) -> int:
        """RTP's static payload type (RFC 3551, table 4)."""
        return 0 if self is Law.ULAW else 8

    @property
    def media_type(self) -> str:
        """xAI's name of the format."""
        return "audio/pcmu" if self is Law.ULAW else "audio/pcma"

    @property
    def silence(self) -> int:
        """The byte that decodes to (nearly) zero."""
        return 0xFF if self is Law.ULAW else 0xD5


SILENCE_FRAME = {law: bytes([law.silence]) * FRAME_BYTES for law in Law}


def decode(payload: bytes, law: Law) -> bytes:
    """G.711 to PCM at the same rate: twice as many bytes."""
    return audioop.ulaw2lin(payload, 2) if law is Law.ULAW else audioop.alaw2lin(payload, 2)


def encode(pcm: bytes, law: Law) -> bytes:
    """PCM at 8000 Hz to G.711: half as many bytes."""
    return audioop.lin2ulaw(pcm, 2) if law is Law.ULAW else audioop.lin2alaw(pcm, 2)


_LAW_CHANGE = {(a, b): encode(decode(bytes(range(256)), a), b) for a in Law for b in Law}


def change_law(payload: bytes, source: Law, target: Law) -> bytes:
    """One law to the other by a table of 256: same length, the same bytes when nothing changes."""
    return payload if source is target else payload.translate(_LAW_CHANGE[source, target])


def rms(payload: bytes, law: Law) -> int:
    """RMS of G.711, 0 to 32768."""
    return native.rms(payload, law is Law.ULAW)


def level_dbov(pcm: bytes) -> float:
    """RMS level in dB below overload (0 loudest, -100 for silence), as RFC 6464 counts."""
    rms = audioop.rms(pcm, 2) if pcm else 0
    return max(20 * math.log10(rms / 32768), -100.0) if rms else -100.0


def trim_silence(pcm: bytes, rate_hz: int, floor_dbov: float = -45.0) -> bytes:
    """Speech without the silence before and after it, to the 20 ms; all of it when nothing is above the floor.

    flite opens with 220 ms of nothing, which a caller would take for thinking.
    """
    step = rate_hz * PTIME_MS // 1000 * 2
    voiced = [at for at in range(0, len(pcm), step) if level_dbov(pcm[at : at + step]) > floor_dbov]
    return pcm[max(voiced[0] - step, 0) : voiced[-1] + 2 * step] if voiced else pcm


def resample(pcm: bytes, source_hz: int, target_hz: int) -> bytes:
    """Whole recordings from one rate to another, anti-aliased (soxr, high quality)."""
    if source_hz == target_hz:
        return pcm
    samples = soxr.resample(np.frombuffer(pcm, dtype="<i2"), source_hz, target_hz, quality="HQ")
    return bytes(np.asarray(samples, dtype="<i2").tobytes())


def read_wav(data: bytes) -> tuple[bytes, int]:
    """A mono or stereo 16-bit WAV file's bytes to mono PCM and its rate in Hz; ValueError for others."""
    try:
        with wave.open(io.BytesIO(data)) as wav:
            bits, rate_hz, channels = wav.getsampwidth() * 8, wav.getframerate(), wav.getnchannels()
            pcm = wav.readframes(wav.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a WAV file of PCM: {error or 'it ends too soon'}") from error
    if bits != 16:
        raise ValueError(f"WAV with {bits} bits a sample; 16 are needed")
    if channels == 2:
        pcm = audioop.tomono(pcm, 2, 0.5, 0.5)
    elif channels != 1:
        raise ValueError(f"WAV with {channels} channels; one or two are needed")
    return pcm, rate_hz


def write_wav(pcm: bytes, rate_hz: int) -> bytes:
    """Mono PCM as a WAV file's bytes."""
    out = io.BytesIO()
    with wave.open(out, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate_hz)
        wav.writeframes(pcm)
    return out.getvalue()
