"""Somebody who is called by us: SIPp signals, and what they hear and say is each frame of ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sipagent.audio import Law
from sipagent.phone.media import PhoneMedia
from tests.e2e.desk import ANSWERS, desk


@dataclass
class Callee:
    """Their phone: the port that is dialled, and their ear and mouth."""

    port: int
    media: PhoneMedia

    def hears(self, sound: bytes) -> bool:
        """Have they heard exactly this, somewhere?"""
        return sound in self.media.received_payload()


@contextlib.asynccontextmanager
async def callee(sipp: Sequence[str], folder: Path, says: bytes = b"") -> AsyncIterator[Callee]:
    """Answers, says this (µ-law) from the moment they hear us on, and stays until the other side hangs up."""
    media = PhoneMedia("127.0.0.1", Law.ULAW, latch=True)
    scenario = ANSWERS.replace("[media_port]", str(media.port)).replace("[media_ip]", "127.0.0.1")
    said = media.say(says)
    media.start()
    try:
        async with desk(sipp, scenario, folder) as port:
            yield Callee(port, media)
    finally:
        await media.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await said
