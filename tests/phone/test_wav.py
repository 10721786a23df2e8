from __future__ import annotations

import io
import struct
import wave

from sipagent.phone.wav import stereo


def test_two_directions_side_by_side() -> None:
    data = stereo(struct.pack("<3h", 1, -2, 32767), struct.pack("<2h", 10, -32768), 8000)
    with wave.open(io.BytesIO(data)) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate()) == (2, 2, 8000)
        assert struct.unpack("<6h", wav.readframes(3)) == (1, 10, -2, -32768, 32767, 0)
