"""A whole node on this machine: Asterisk, the stand-in where there is no key, the control process.

`sipagent demo` runs one, the end-to-end tests run many side by side. Started in order, each part waited
for until it says ready; stopped together, within 5 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from sipagent import tuning
from sipagent.app import Anew, ControlProcess
from sipagent.asterisk import run as asterisk_run
from sipagent.asterisk import services, trunks
from sipagent.asterisk.conf import AsteriskConfig
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.config import Settings
from sipagent.errors import ToolError
from sipagent.standin.config import StandinConfig

READY_TIMEOUT_S = 15.0
"""Prompts are rendered, workers start Python and dial Asterisk; measured 1 to 2 s."""


def asterisk_config(settings: Settings) -> AsteriskConfig:
    """What `sipagent asterisk up` runs, from the settings."""
    asterisk = settings.asterisk
    return AsteriskConfig(
        run_dir=(settings.run_dir / "asterisk").absolute(),
        ari_password=asterisk.password.get_secret_value(),
        phone_password=asterisk.phone_password.get_secret_value(),
        http_port=asterisk.http_port,
        sip_host=asterisk.sip_address,
        sip_port=asterisk.sip_port,
        rtp_ports=asterisk.rtp_ports,
        workers=max(settings.control.workers, 1),
        app=asterisk.app,
        ari_user=asterisk.username,
        phone_user=asterisk.phone_user,
        files=trunks.files(asterisk, settings.trunks) | services.files(settings),
        tls_port=asterisk.tls_port,
        ice=any(trunk.transport == "ws" for trunk in settings.trunks.values()),
    )


def standin_config(settings: Settings, root: Root) -> StandinConfig:
    """The scripted agent on loopback."""
    return StandinConfig(port=settings.standin.port, flite=tuple(root.command("flite")))


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
    anew = Anew(load, functools.partial(reload_switch, root)) if load else None
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


@contextlib.asynccontextmanager
async def asterisk(
    settings: Settings, root: Root, say: Callable[[str], None] = lambda _text: None
) -> AsyncIterator[Asterisk]:
    """A real Asterisk for the length of the block."""
    async with Asterisk(asterisk_config(settings), root) as server:
        if server.pid is not None:
            for refused in tuning.prioritise(server.pid, settings.asterisk):
                refused.tell()
        version = server.info.version if server.info else "?"
        say(f"Asterisk {version} is up, SIP on {settings.asterisk.sip_address}:{settings.asterisk.sip_port}")
        yield server


async def reload_switch(root: Root, settings: Settings) -> None:
    """Have the Asterisk that runs from our run folder read its configuration anew; one elsewhere is its admin's."""
    config = asterisk_config(settings)
    if asterisk_run.running_pid(config) is not None:
        await asterisk_run.reload(config, root)


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
