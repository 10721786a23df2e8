"""The stand-in beside a node that has no key."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sipagent.config import Settings
from sipagent.standin.config import StandinConfig
from sipagent.standin.server import serve


@contextlib.asynccontextmanager
async def serving(settings: Settings, flite: tuple[str, ...]) -> AsyncIterator[None]:
    """The scripted agent on loopback, for the length of the block; `flite` is the command that speaks."""
    # Nobody here reads what it would record, and a demonstration may last for days.
    async with await serve(StandinConfig(port=settings.standin.port, flite=flite, record_bytes=0)):
        yield
