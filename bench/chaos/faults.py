"""Every fault there is to order: what is done, what is undone, and what the callers were promised.

The promises are those of the project: no call and no record is lost but by Asterisk's own death; a voice within 0.3 s
and the conversation within 2 s of a model that drops, within 1 s and 2.5 s of a worker that is killed. Where nothing
was promised, the figures are only measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.chaos.caller import Caller
from bench.chaos.node import SERVICE_RESTART_S, Node

LOCKED_S = 7.0
"""Longer than a writer waits for another one (5 s): then the database counts as away."""
MUTE_S = 6.0
AWAY_S = 4.0
_NOISE = "garbage unknown-events dead-deltas"


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault strikes."""

    node: Node
    callers: Sequence[Caller]
    random: random.Random


Strike = Callable[[Scene], AbstractAsyncContextManager[None]]
"""Entered when the fault comes; left when it is to go. What it waits for is inside."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One, by its name."""

    name: str
    what: str
    strike: Strike
    voice_s: float | None = None
    """Promised: until anything is heard again."""
    talk_s: float | None = None
    """Promised: until the agent is heard again."""
    patience_s: float = 8.0
    """How long we listen for the agent before a caller counts as left in silence."""
    ends_calls: bool = False
    """Asterisk's own death: nobody can keep them."""
    loses_sessions: bool = False
    """Every caller's: four within a minute count as no line at all, and the caller is given to somebody else."""
    turns_away: bool = False
    """New calls are not taken meanwhile, on purpose."""


def _model(live: str, new: str = "", *, both: bool = False) -> Strike:
    """Sessions do `live` wrong at every endpoint, and one endpoint (or both) does `new` to whoever comes."""

    @contextlib.asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        models = list(scene.node.models)
        scene.random.shuffle(models)
        for place, model in enumerate(models):
            model.order(live, new if both or place == 0 else "")
        yield
        for model in models:
            model.order()

    return strike


def _endpoints(count: int) -> Strike:
    """So many of the two are gone, host and all, for a while."""

    @contextlib.asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        gone = scene.random.sample(list(scene.node.models), count)
        for model in gone:
            await model.kill()
        try:
            await asyncio.sleep(AWAY_S)
        finally:
            for model in gone:
                await model.start()
        yield

    return strike


def _worker(how: signal.Signals) -> Strike:
    @contextlib.asynccontextmanager
    async def strike(scene: Scene) -> AsyncIterator[None]:
        os.kill(scene.random.choice(await scene.node.workers()), how)
        yield
        await scene.node.until_ready()

    return strike


@contextlib.asynccontextmanager
async def _control(scene: Scene) -> AsyncIterator[None]:
    scene.node.control.kill()
    await scene.node.control.wait()
    await asyncio.sleep(SERVICE_RESTART_S)
    await scene.node.start_control()
    await scene.node.until_ready()
    yield


@contextlib.asynccontextmanager
async def _service(scene: Scene) -> AsyncIterator[None]:
    """What a service manager does when the control process has died: what is left of the unit goes too."""
    workers = await scene.node.workers()
    scene.node.control.kill()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    await scene.node.control.wait()
    await asyncio.sleep(SERVICE_RESTART_S)
    await scene.node.start_control()
    await scene.node.until_ready()
    yield


@contextlib.asynccontextmanager
async def _locked(scene: Scene) -> AsyncIterator[None]:
    """Somebody else writes in the database, and does not stop."""
    other = sqlite3.connect(scene.node.settings.run_dir / "records.db", isolation_level=None, timeout=30)
    try:
        other.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(LOCKED_S)
    finally:
        other.close()
    yield


@contextlib.asynccontextmanager
async def _asterisk(scene: Scene) -> AsyncIterator[None]:
    asterisk = scene.node.asterisk
    if asterisk.pid is not None:
        os.kill(asterisk.pid, signal.SIGKILL)
    await asterisk.wait()
    await asterisk.start()
    await scene.node.until_ready()
    yield


@contextlib.asynccontextmanager
async def _restart(scene: Scene) -> AsyncIterator[None]:
    await scene.node.ask("/v1/workers/restart", {"wait_s": 0})
    await scene.node.until_ready()
    yield


@contextlib.asynccontextmanager
async def _drain(scene: Scene) -> AsyncIterator[None]:
    await scene.node.ask("/v1/drain", {"on": True})
    yield
    await scene.node.ask("/v1/drain", {"on": False})
    await scene.node.until_ready()


@contextlib.asynccontextmanager
async def _one_way(scene: Scene) -> AsyncIterator[None]:
    """Half of the callers are not heard any more."""
    deaf = scene.random.sample(list(scene.callers), len(scene.callers) // 2)
    for caller in deaf:
        caller.mute(on=True)
    try:
        await asyncio.sleep(MUTE_S)
        yield
    finally:
        for caller in deaf:
            caller.mute(on=False)


_LOST, _KILLED = (0.3, 2.0), (1.0, 2.5)


def _lost(name: str, what: str, strike: Strike, *promised: float, patience_s: float = 8.0) -> Fault:
    """Every caller's session is gone, or as good as gone."""
    return Fault(name, what, strike, *promised, patience_s=patience_s, loses_sessions=True)


FAULTS: tuple[Fault, ...] = (
    _lost("drop", "the model's socket is reset in an answer", _model("drop@0"), *_LOST),
    _lost("close", "the model closes with 1011", _model("close=1011@0"), *_LOST),
    *(
        _lost(f"refuse-{code}", f"reset, and one endpoint answers {code}", _model("drop@0", f"refuse={code}"), *_LOST)
        for code in (401, 403, 429, 503)
    ),
    _lost("handshake", "reset, and one endpoint never answers the upgrade", _model("drop@0", "hang-handshake")),
    _lost("no-ack", "reset, and no session.updated ever comes", _model("drop@0", "no-ack", both=True)),
    _lost("half-open", "the model's socket stays open and is dead", _model("freeze@0"), patience_s=25.0),
    _lost("stuck", "responses are created and never speak", _model("stuck"), patience_s=15.0),
    _lost("endpoint-away", "one endpoint's host is gone for 4 s", _endpoints(1), *_LOST),
    _lost("model-away", "both endpoints are gone for 4 s", _endpoints(2), patience_s=15.0),
    Fault("garbage", "broken frames and unknown events between the good ones", _model(_NOISE, _NOISE, both=True)),
    Fault("worker-kill", "kill -9 of a worker, as by the kernel when memory is out", _worker(signal.SIGKILL), *_KILLED),
    Fault("worker-hang", "SIGSTOP of a worker", _worker(signal.SIGSTOP), *_KILLED, patience_s=16.0),
    Fault("control-kill", "kill -9 of the control process, started again", _control),
    Fault(
        "service-kill",
        "kill -9 of control process and workers, started again",
        _service,
        patience_s=20.0,
        turns_away=True,
    ),
    Fault("database", "the database is locked for 7 s", _locked),
    Fault("restart", "all workers are restarted, one after the other", _restart),
    Fault("drain", "the node takes no new calls for a while", _drain, turns_away=True),
    Fault("one-way", "half of the callers are not heard for 6 s", _one_way),
    Fault("asterisk", "kill -9 of Asterisk, started again", _asterisk, ends_calls=True),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
