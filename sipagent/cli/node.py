"""Commands for the node that serves."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from typing import Any

import structlog

from sipagent import config, coredumps, switch
from sipagent.app import Anew, ControlProcess
from sipagent.asterisk.root import Root, find_root
from sipagent.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    StandinOption,
    group,
    node_api,
    run_async,
    settings_of,
    until_signal,
)
from sipagent.errors import SipAgentError, ToolError
from sipagent.notify import ServiceManager
from sipagent.observe import logs

app = group()


@app.command(epilog="Example: sipagent run --config /etc/sipagent/sipagent.toml")
def run(config_file: ConfigOption = DEFAULT_CONFIG, standin: StandinOption = False) -> None:
    """The control process and its workers; Asterisk must be there already."""
    manager = ServiceManager.of(os.environ)
    settings = settings_of(config_file, standin=standin)
    if not settings.has_model:
        raise ToolError("no key for xAI: set XAI_API_KEY (or [realtime] url), or try `sipagent run --standin`")
    coredumps.follow(wanted=settings.log.core_dumps)
    logs.configure(settings.log)
    options = ["--config", str(config_file), *(["--standin"] if standin else [])]
    flite = tuple((find_root(("flite",)) or Root(None)).command("flite"))

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if standin:
                from sipagent.standin import beside  # noqa: PLC0415 - 0.1 s that a node with a key need not wait for

                await stack.enter_async_context(beside.serving(settings, flite))
            root = find_root(("asterisk",)) or Root(None)
            load = functools.partial(settings_of, config_file, standin=standin)
            anew = Anew(load, functools.partial(switch.reload, root))
            control = ControlProcess(settings, options, flite, anew=anew, manager=manager)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload_on_hangup, control)
            await until_signal(control.run(), control.wind_down)

    run_async(serve())


@app.command(epilog="SIGHUP to the control process does the same: systemctl reload sipagent")
def reload(config_file: ConfigOption = DEFAULT_CONFIG) -> None:
    """Put a changed configuration in force without dropping a call; one that is wrong changes nothing."""
    settings = config.load(config_file)

    async def ask() -> tuple[int, dict[str, Any]]:
        async with node_api(settings) as http, http.post("/v1/reload") as response:
            return response.status, await response.json(content_type=None)

    status, answer = run_async(ask())
    if status != 200:
        raise ToolError(f"not reloaded, the old configuration stays in force: {answer.get('detail', status)}")
    print("reloaded; new calls follow the new configuration")
    if fixed := answer["needs_restart"]:
        print(f"changed, but read at the start only: {', '.join(f'[{name}]' for name in fixed)}")
    if note := answer.get("note"):  # a node of before has none
        print(f"but {note}")


def _reload_on_hangup(control: ControlProcess) -> None:
    async def attempt() -> None:
        try:
            await control.reload()
        except SipAgentError as error:
            structlog.get_logger().error("reload_refused", error=str(error))

    _RELOADS.add(task := asyncio.ensure_future(attempt()))
    task.add_done_callback(_RELOADS.discard)


_RELOADS: set[asyncio.Future[None]] = set()
"""Held, or the loop might forget them."""
