"""Tasks that nobody waits for: what they die of is told when it happens, and not when the process ends."""

from __future__ import annotations

import asyncio

import structlog

log = structlog.get_logger()


def told_if_failed(task: asyncio.Task[None]) -> None:
    """For `add_done_callback`: without its recorder or its probes a node still takes calls; somebody has to know."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", task=task.get_name(), exc_info=error)
