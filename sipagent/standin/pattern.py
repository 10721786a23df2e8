"""Audio whose every byte can be predicted: what the deterministic mode says, and what a test caller may say.

A byte depends on (law, seed, position) alone, so a receiver that finds one run of bytes knows where it is
and can check the rest bit for bit. The bytes are drawn from loud code words only: no run of them looks like
silence, and an energy gate counts them as speech. Refuses to sound good: it is noise.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from sipagent import audio

_BLOCK = 64  # blake2b's digest: one hash call for 64 bytes
_QUIETEST, _LOUDEST = 900, 9000  # PCM magnitudes kept: about -18 dBov on the whole, far from clipping


def _voiced_table(law: audio.Law) -> bytes:
    """All 256 hash bytes onto the code words of medium loudness, evenly."""
    pcm = audio.decode(bytes(range(256)), law)
    values = memoryview(pcm).cast("h")
    loud = [code for code in range(256) if _QUIETEST <= abs(values[code]) <= _LOUDEST]
    return bytes(loud[i % len(loud)] for i in range(256))


_TABLES = {law: _voiced_table(law) for law in audio.Law}


def pattern(law: audio.Law, seed: int, start: int, length: int) -> bytes:
    """Bytes `start` to `start + length` of the endless G.711 signal that belongs to `seed`."""
    if start < 0 or length < 0:
        raise ValueError(f"pattern: start {start} and length {length} must not be negative")
    first, last = start // _BLOCK, -(-(start + length) // _BLOCK)
    raw = b"".join(_block(seed, index) for index in range(first, last))
    offset = start - first * _BLOCK
    return raw[offset : offset + length].translate(_TABLES[law])


@lru_cache(maxsize=4096)  # 256 KiB: under load every session says the same seeds
def _block(seed: int, index: int) -> bytes:
    return blake2b(index.to_bytes(8, "big"), key=(seed % 2**64).to_bytes(8, "big")).digest()
