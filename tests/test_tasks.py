"""Work that something may cut short."""

from __future__ import annotations

import asyncio

import pytest

from sipagent.tasks import unless


async def test_what_is_done_before_the_event_is_returned() -> None:
    async def work() -> str:
        return "done"

    assert await unless(asyncio.Event(), work()) == "done"


async def test_the_event_ends_the_work_and_waits_until_it_has_gone() -> None:
    event, gone = asyncio.Event(), False

    async def work() -> None:
        nonlocal gone
        event.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            gone = True

    assert await unless(event, work()) is None
    assert gone


async def test_what_fails_fails_here() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await unless(asyncio.Event(), work())
