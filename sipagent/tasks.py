"""Tasks: those that nobody waits for, whose death is told when it happens, and those that something may cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


def told_if_failed(task: asyncio.Task[None]) -> None:
    """For `add_done_callback`: without its recorder or its probes a node still takes calls; somebody has to know."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", task=task.get_name(), exc_info=error)


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns; None when the event comes first: then it is cancelled, and gone when this returns."""
    working, coming = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, coming}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        coming.cancel()
        await asyncio.wait({working, coming})
