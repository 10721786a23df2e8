"""Composition root of the control process: builds, supervises, drains.

Order of start: prompts (a call without them would be silent), the link, the API, the workers. Order of
stop: the workers first, so that their last events still reach the link.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvicorn

from sipagent.config import Settings
from sipagent.control import api
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.supervisor import Supervisor
from sipagent.errors import ConfigError
from sipagent.flow.prompts import FliteVoice, Prompts, Voice, XaiVoice, prompt_folder, render
from sipagent.model import HangUp
from sipagent.speech import Flite
from sipagent.worker import Worker, needed_prompts

log = structlog.get_logger()


def prompt_voice(settings: Settings, flite: Sequence[str]) -> Voice:
    """xAI's own voice when the calls go to xAI, flite otherwise."""
    realtime = settings.realtime
    key = realtime.api_key.get_secret_value()
    if key and not realtime.url:
        return XaiVoice(key, realtime.voice, "en")
    return FliteVoice(Flite(flite))


def prompts_folder(settings: Settings, voice: Voice) -> Path:
    """Where this configuration's prompts lie."""
    return prompt_folder(settings.run_dir / "prompts", voice.name)


class ControlProcess:
    """The node's control process; with no workers set, the one worker lives inside it."""

    def __init__(
        self, settings: Settings, config_options: Sequence[str], flite: Sequence[str], log_file: Path | None = None
    ) -> None:
        self.live = Live(max(settings.control.workers, 1))
        self._settings = settings
        self._voice = prompt_voice(settings, flite)
        self._hub = Hub(settings.control_socket, self.live)
        self._supervisor = Supervisor(settings.control.workers, config_options, log_file)
        self._inside: Worker | None = None

    async def run(self) -> None:
        """Serve until cancelled."""
        await render(self._settings.run_dir / "prompts", needed_prompts(self._settings), self._voice, _log_progress)
        server = self._api_server()
        await self._hub.start()
        await _bind(server, self._settings)
        workers = asyncio.create_task(self._run_workers(), name="workers")
        serving = asyncio.create_task(server.main_loop(), name="api")
        log.info("control_started", api=f"http://{self._settings.control.host}:{self._settings.control.port}")
        try:
            await asyncio.wait({workers, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            workers.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await workers
            server.should_exit = True
            await serving
            await server.shutdown()
            await self._hub.aclose()
            log.info("control_stopped")

    async def _run_workers(self) -> None:
        if self._settings.control.workers:
            await self._supervisor.run()
            return
        prompts = Prompts(prompts_folder(self._settings, self._voice))
        prompts.load(needed_prompts(self._settings))
        worker = self._inside = Worker(self._settings, 1, prompts, self.live.take)
        working = asyncio.create_task(worker.run())
        try:
            while not working.done():
                self.live.worker_state(1, worker.state(0))
                await asyncio.wait({working}, timeout=0.2)
            await working
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working

    async def _hang_up(self, call_id: str) -> bool:
        call = self.live.calls.get(call_id)
        if call is None:
            return False
        if self._inside:
            self._inside.obey(HangUp(call_id))
            return True
        return await self._hub.send(call.worker, HangUp(call_id))

    def _api_server(self) -> uvicorn.Server:
        control = self._settings.control
        config = uvicorn.Config(
            api.build(self.live, self._hang_up),
            host=control.host,
            port=control.port,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        return uvicorn.Server(config)


async def _bind(server: uvicorn.Server, settings: Settings) -> None:
    """uvicorn's own start ends the process when the port is taken; we want to say which setting to change."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    try:
        await server.startup()
    except SystemExit:
        raise ConfigError(
            f"control.port: {settings.control.host}:{settings.control.port} cannot be bound; "
            "is another sipagent running? Change [control] port or SIPAGENT_CONTROL__PORT"
        ) from None


def _log_progress(done: int, count: int) -> None:
    log.info("prompt_rendered", done=done, of=count)
