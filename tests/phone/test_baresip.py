"""An independent judge: baresip, a softphone with its own SIP stack and media, calls the echo.

What our own phone says of the configuration could be wrong twice in the same way; baresip shares no code
with it.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import level_dbov
from tests.phone import baresip

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

RATE_HZ = 8000


def tone(seconds: float) -> bytes:
    samples = (int(12000 * math.sin(2 * math.pi * 440 * n / RATE_HZ)) for n in range(int(seconds * RATE_HZ)))
    return b"".join(struct.pack("<h", sample) for sample in samples)


async def test_baresip_hears_its_own_voice(baresip_root: Root, asterisk: Asterisk, tmp_path: Path) -> None:
    pcm = await baresip.call(baresip_root, asterisk.config, tmp_path, "600", tone(5), seconds=4)
    third = len(pcm) // 6 * 2
    middle = pcm[third : 2 * third]
    assert level_dbov(middle) == pytest.approx(level_dbov(tone(1)), abs=2)
