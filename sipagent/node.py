"""A control process inside another program's loop, waited for until it takes calls: `sipagent demo`, the bench."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from sipagent import switch
from sipagent.app import Anew, ControlProcess
from sipagent.asterisk.root import Root
from sipagent.config import Settings
from sipagent.errors import ToolError

READY_TIMEOUT_S = 15.0
"""Prompts are rendered, workers start Python and dial Asterisk; measured 1 to 2 s."""


@contextlib.asynccontextmanager
async def control_process(
    settings: Settings,
    config_options: Sequence[str],
    root: Root,
    say: Callable[[str], None] = lambda _text: None,
    log_file: Path | None = None,
    load: Callable[[], Settings] | None = None,
) -> AsyncIterator[ControlProcess]:
    """The control process inside this process' loop, its workers logging to `log_file`, ready for calls.

    `load` reads the configuration anew; without it a reload is refused.
    """
    anew = Anew(load, functools.partial(switch.reload, root)) if load else None
    control = ControlProcess(settings, config_options, root.command("flite"), log_file, anew)
    running = asyncio.create_task(control.run(), name="control")
    try:
        await _until_ready(control, running)
        say(f"sipagent takes calls, API on {settings.control.url}")
        yield control
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _until_ready(control: ControlProcess, running: asyncio.Task[None]) -> None:
    ready = asyncio.create_task(control.live.until_ready())
    try:
        await asyncio.wait({ready, running}, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running  # raises what stopped it
            raise ToolError("the control process ended before it was ready")
        if not ready.done():
            reasons = "; ".join(control.live.why_not_ready())
            raise ToolError(f"not ready after {READY_TIMEOUT_S:g} s: {reasons}")
    finally:
        ready.cancel()
