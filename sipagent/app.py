"""Composition root of the control process: builds, supervises, drains.

Order of start: prompts (a call without them would be silent), the records, the link, the API, the workers. Order of
stop: the workers first, so that their last events still reach the link, the recordings and the records last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog
from fastapi import FastAPI

from sipagent.config import Settings
from sipagent.control import api, api_calls, api_metrics, api_probes, api_recordings, api_service
from sipagent.control.api import Reloaded
from sipagent.control.audit import Audit
from sipagent.control.door import Door
from sipagent.control.endpoints import Endpoints
from sipagent.control.heartbeat import Heartbeat
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.operator import Operator
from sipagent.control.probes import Probes
from sipagent.control.recordings.recorder import Recorder
from sipagent.control.rescue import Rescue
from sipagent.control.serving import Serving
from sipagent.control.sessions import Sessions
from sipagent.control.supervisor import Supervisor
from sipagent.control.tokens import Tokens
from sipagent.control.upgrade import FAREWELL_S, Upgrade
from sipagent.errors import ConfigError, OrderRefused, ToolError
from sipagent.flow.prompts import FliteVoice, Prompts, Voice, XaiVoice, render, use_voice
from sipagent.notify import ServiceManager
from sipagent.observe import node as node_metrics
from sipagent.orders import Reload
from sipagent.routing.routes import Routes
from sipagent.speech import Flite
from sipagent.tasks import told_if_failed
from sipagent.worker import Worker, needed_prompts

if TYPE_CHECKING:
    from sipagent.observe.tracing import Tracing
    from sipagent.records.service import Records

log = structlog.get_logger()

RELOAD_TIMEOUT_S = 15.0
STOP_WITHIN_S = 20.0
"""From the last farewell to our own end: workers clear up, recordings and records are brought home."""


@dataclass(frozen=True, slots=True)
class Anew:
    """How a configuration comes in force again: read it, tell the switch."""

    load: Callable[[], Settings]
    switch: Callable[[Settings], Awaitable[str]]
    """Gives what the operator should know, "" where there is nothing."""


def prompt_voice(settings: Settings, flite: Sequence[str]) -> Voice:
    """xAI's own voice when the calls go to xAI, flite otherwise."""
    realtime = settings.realtime
    key = realtime.api_key.get_secret_value()
    if key and not realtime.url:
        return XaiVoice(key, realtime.voice)
    return FliteVoice(Flite(flite))


async def speak_prompts(settings: Settings, flite: Sequence[str]) -> Prompts:
    """Render what is missing and say in `prompts/now` which voice it is; the workers read there.

    A text-to-speech service that is away must not keep the node from starting: flite speaks then.
    """
    folder = settings.run_dir / "prompts"
    voice = prompt_voice(settings, flite)
    try:
        await render(folder, needed_prompts(settings), voice, _log_progress, settings.folder)
    except (ToolError, aiohttp.ClientError, TimeoutError) as error:
        if isinstance(voice, FliteVoice):
            raise
        log.warning("prompts_by_flite", voice=voice.name, error=str(error) or type(error).__name__)
        voice = FliteVoice(Flite(flite))
        await render(folder, needed_prompts(settings), voice, _log_progress, settings.folder)
    return Prompts(use_voice(folder, voice.name), settings.folder)


class ControlProcess:
    """The node's control process; with no workers set, the one worker lives inside it."""

    def __init__(
        self,
        settings: Settings,
        config_options: Sequence[str],
        flite: Sequence[str],
        log_file: Path | None = None,
        anew: Anew | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        """`config_options` are what a worker is started with; without `anew` nothing can be reloaded."""
        self._manager = manager or ServiceManager()
        self.live = Live(max(settings.control.workers, 1))
        self._settings = self._started_with = settings
        self._flite = flite
        self.records = _records(settings)
        self._hub = Hub(settings.control_socket, self.live, self.records.recorder if self.records else None)
        self.sessions = Sessions(self._hub, self.live, lambda: self._settings)
        self.operator = Operator(self._hub, self.live, lambda: self._settings, self._known)
        self.upgrade = Upgrade(self._hub, self.live)
        self._rescue = Rescue(self._hub, self.live, lambda: self._settings)
        self.tracing: Tracing | None = None
        """Once it runs."""
        self.endpoints = Endpoints(lambda: self._settings)
        self.probes = Probes(self.operator, self.live, lambda: self._settings)
        self._recorder = Recorder(settings, self._hub.take)
        self._hub.on_audio = self._recorder.take
        self._supervisor = Supervisor(settings.control.workers, config_options, log_file)
        self._refused: Counter[int] = Counter()
        self._closed: Counter[str] = Counter()
        """Connections of the API that had to go."""
        self.metrics = node_metrics.measure(
            self.live,
            lambda: self._settings,
            node_metrics.Sources(
                restarts=lambda: self._supervisor.restarts,
                recorder=lambda: self._recorder.counts,
                probes=lambda: self.probes.places,
                taken=self.sessions.quota.taken,
                endpoints=lambda: self.endpoints.state,
                traces=lambda: self.tracing.counts if self.tracing else {},
                refused=lambda: self._refused,
                connections=lambda: len(self._serving.outside) if self._serving else 0,
                closed=lambda: self._closed,
            ),
        )
        self._anew = anew
        self._serving: Serving | None = None
        """Once it runs."""
        self._one_reload = asyncio.Lock()

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.to_thread(Routes, self._settings)
        prompts = await speak_prompts(self._settings, self._flite)
        self._serving = Serving(self._settings.control, self._settings.api_socket, self._closed)
        async with contextlib.AsyncExitStack() as stack:
            if self.records:
                self.records.recorder.on_safe = self._hub.safe
                await stack.enter_async_context(self.records.running(lambda: self._hub.linked))
                await stack.enter_async_context(self._calling_back(self.records))
            if self._settings.tracing.endpoint:
                await stack.enter_async_context(self._tracing())
            await self._serve(prompts, self._serving)

    @contextlib.asynccontextmanager
    async def _tracing(self) -> AsyncIterator[None]:
        """Calls are told to a collector for the length of the block."""
        from sipagent.observe.tracing import Tracing  # noqa: PLC0415 - 12 MB, for who has a collector

        self.tracing = tracing = Tracing(self._settings.tracing, self._settings.log)
        self.live.subscribe(tracing.take, tracing.lost)
        async with tracing.running():
            yield

    @contextlib.asynccontextmanager
    async def _calling_back(self, records: Records) -> AsyncIterator[None]:
        """What was promised to callers is kept for the length of the block."""
        from sipagent.control.callbacks import CallbackDialler  # noqa: PLC0415 - as the records themselves, see below

        dialler = CallbackDialler(records.callbacks, self.operator, self.live, lambda: self._settings)
        try:
            async with _beside(dialler.run(), "callbacks"):
                yield
        finally:
            await dialler.aclose()

    async def _known(self, call_id: str) -> bool:
        """Has there been a call of this id? Where nobody can say, no: then it is made."""
        if self.records is None:
            return False
        try:
            return await self.records.store.call(call_id, events=False) is not None
        except Exception as error:  # noqa: BLE001 - whatever the database's trouble is, calls go on
            log.warning("idempotency_unknown", error=str(error).partition("\n")[0])
            return False

    async def _serve(self, prompts: Prompts, api: Serving) -> None:
        await self._hub.start()
        door = self.door()
        recording = asyncio.create_task(self._recorder.run(), name="recordings")
        recording.add_done_callback(told_if_failed)
        workers = asyncio.create_task(self._run_workers(prompts), name="workers")
        serving = asyncio.create_task(api.run(door, door.within()), name="api")
        heartbeat = Heartbeat(self._manager, self.live, on_mute=self._rescue.mute, on_voice=self._rescue.speaks)
        beating = asyncio.create_task(heartbeat.run(), name="heartbeat")
        log.info("control_started", api=self._settings.control.url, login=self._settings.control.login)
        try:
            async with _beside(self.probes.run(), "probes"), _beside(self.endpoints.run(), "endpoints"):
                await asyncio.wait({workers, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._manager.stopping(STOP_WITHIN_S)
            await self._rescue.aclose()
            workers.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await workers
            api.stop()
            await serving
            await self._hub.aclose()
            recording.cancel()
            await asyncio.wait({recording})
            await self._recorder.aclose()
            beating.cancel()
            log.info("control_stopped")

    def door(self) -> Door:
        """The whole API, behind what asks who comes."""
        control, run_dir = self._settings.control, self._settings.run_dir
        audit = Audit(run_dir / "audit", control.keep_audit_days)
        return Door(self.api(), control, Tokens(run_dir), audit, refused=self._refused)

    def api(self) -> FastAPI:
        """The whole API."""
        from sipagent.control import api_callbacks, api_records  # noqa: PLC0415 - as the records themselves, see below

        routers = (
            # In this order: what is live has names of its own under the paths of what is over.
            api_calls.build(self.operator),
            api_recordings.router(self._recorder.shelf, self.operator),
            api_service.router(self.upgrade),
            api_records.router(self.records),
            api_callbacks.router(self.records, self.operator, lambda: self._settings),
            api_metrics.router(self.metrics.registry),
            api_probes.router(self.probes),
        )
        return api.build(self.live, self.reload, *routers, troubles=self.troubles)

    def troubles(self) -> list[str]:
        """What an operator should know of, and calls are taken all the same."""
        away = self.records is not None and self.records.recorder.database_is_away
        return [
            *self.endpoints.troubles,
            *(["the records' database is away: events wait in the spool"] if away else []),
        ]

    async def wind_down(self) -> None:
        """Before the end: no new calls, `drain_s` for those that are up, and a farewell to those that still are."""
        drain_s = self._settings.control.drain_s
        self._manager.stopping(drain_s + FAREWELL_S + STOP_WITHIN_S)
        with contextlib.suppress(OrderRefused):
            await self.upgrade.drain(on=True)
        log.info("drained", calls_left=await self.upgrade.until_empty(drain_s))
        try:
            await self.upgrade.conclude()
        except OrderRefused as error:
            log.error("not_concluded", error=str(error))

    async def _run_workers(self, prompts: Prompts) -> None:
        if self._settings.control.workers:
            await self._supervisor.run()
            return
        prompts.load(needed_prompts(self._settings))
        load = self._anew.load if self._anew else None
        worker = Worker(self._settings, 1, prompts, self._hub.take, load, self._recorder.take)
        self._hub.attach(1, worker.obey)
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

    async def reload(self) -> Reloaded:
        """Read the configuration anew and put it in force for new calls; tells what is not in force all the same.

        Raises:
            ConfigError, ToolError: it cannot be used; the old one stays in force, unless the text says otherwise.
        """
        if self._anew is None:
            raise ToolError("this control process was started without a configuration file")
        async with self._one_reload, self._manager.reloading():
            settings = await asyncio.to_thread(self._anew.load)
            # What it names is read here first: a worker would find out when the switch has been told already.
            await asyncio.to_thread(Routes, settings)
            await speak_prompts(settings, self._flite)
            if self._serving:
                self._serving.renew()
            note = await self._anew.switch(settings)
            there = [number for number, worker in self.live.workers.items() if worker.state]
            answers = await asyncio.gather(
                *(self._hub.ask(worker, Reload(), RELOAD_TIMEOUT_S) for worker in there), return_exceptions=True
            )
            # One that is away reads the file when it is back.
            refused = [f"worker {worker}: {answer}" for worker, answer in zip(there, answers, strict=True)
                       if isinstance(answer, BaseException)]  # fmt: skip
            if refused:
                raise ConfigError("; ".join(refused))
            fixed = _needs_restart(self._started_with, settings)
            log.info("reloaded", needs_restart=fixed, **({"note": note} if note else {}))
            self._settings = settings
            self._recorder.follow(settings)
            self.sessions.follow(settings)
            return Reloaded(needs_restart=fixed, note=note)


def _records(settings: Settings) -> Records | None:
    """A worker is started by the same command line, and has no database: it need not load one (0.7 s, 20 MB)."""
    from sipagent.records.service import Records  # noqa: PLC0415

    return Records(settings) if settings.records.enabled else None


def _needs_restart(started_with: Settings, new: Settings) -> list[str]:
    """Sections that are read at the start only, and are others now."""
    fixed = ("run_dir", "asterisk", "media", "control", "records", "webhooks", "worker", "standin", "log", "tracing")
    return [name for name in fixed if getattr(started_with, name) != getattr(new, name)]


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """It runs for the length of the block; if it fails, that is told and the block goes on."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(told_if_failed)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _log_progress(done: int, count: int) -> None:
    log.info("prompt_rendered", done=done, of=count)
