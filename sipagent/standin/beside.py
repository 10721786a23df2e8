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
    async with await serve(StandinConfig(port=settings.standin.port, flite=flite)):
        yield
