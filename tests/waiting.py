"""Waiting for the outside world without sleeping blindly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

PATIENCE_S = 10.0
"""How long a test waits for something that is to happen; generous, since only failures wait it out."""


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str | Callable[[], str]) -> None:
    """Wait for the outside world; fails with `what` when it does not come about."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                holds = condition()
                if holds if isinstance(holds, bool) else await holds:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{what if isinstance(what, str) else what()}: not within {PATIENCE_S:g} s")
