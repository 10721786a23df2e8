"""A whole node inside the test's own loop: real Asterisk, real SIPp, the worker, the stand-in on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from pydantic import SecretStr

from bench.ports import free_block
from sipagent import model
from sipagent.ari.client import AriClient
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.config import Settings
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import FliteVoice, Prompts, prompt_folder, render
from sipagent.outcome import CallOutcome, Reason
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.speech import Flite
from sipagent.standin.config import StandinConfig
from sipagent.standin.server import StandinServer
from sipagent.worker import Worker
from tests.asterisk.fixtures import asterisk, baresip_root, phone_config, root, sipp
from tests.waiting import until

__all__ = ["asterisk", "baresip_root", "phone_config", "root", "sipp"]

E = TypeVar("E")
SHORT_PROMPTS = {"apology": "We are sorry.", "one_moment": "One moment."}


@dataclass
class Rig:
    """One worker on one Asterisk with one stand-in, and a phone to call it."""

    asterisk: Asterisk
    root: Root
    settings: Settings
    standin: StandinServer
    worker: Worker
    events: list[model.CallEvent] = field(default_factory=list)

    @property
    def ari(self) -> AriClient:
        return self.worker.ari

    def of(self, kind: type[E]) -> list[E]:
        """Events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def hang_up(self) -> None:
        """The operator ends the call that is up."""
        ((call, _),) = self.worker._calls.values()
        call.hang_up(CallOutcome(Reason.OPERATOR_HANGUP))

    @property
    def outcome(self) -> CallOutcome:
        return self.of(model.CallEnded)[-1].outcome

    def phone(self, law: Law = Law.ULAW) -> Phone:
        config = self.asterisk.config
        login = PhoneConfig(f"127.0.0.1:{config.sip_port}", config.phone_user, config.phone_password, law)
        return Phone(login, self.root.command("sipp"))

    async def ended(self, calls: int = 1) -> CallOutcome:
        """Wait until that many calls have ended; the last outcome."""
        await until(lambda: len(self.of(model.CallEnded)) >= calls, f"{calls} call(s) to end")
        return self.outcome

    async def nothing_left(self, *, standin_sees: bool = True) -> None:
        """No channel, bridge, socket or task of any call is left. A frozen stand-in cannot see a socket close."""
        await until(lambda: self.worker.calls == 0, "calls gone")
        if standin_sees:
            await until(lambda: not self.standin.live, "realtime sockets closed")

        left: list[str] = []

        async def asterisk_is_empty() -> bool:
            left[:] = [f"{channel.name} ({channel.state})" for channel in await self.ari.channels()]
            left.extend(bridge["id"] for bridge in await self.ari.request("GET", "bridges"))
            return not left

        await until(asterisk_is_empty, lambda: f"channels and bridges to be gone, of which {left} are left")
        tasks = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("call-")]
        assert tasks == []
        assert len(self.worker.pacer_wheel) == 0


MakeRig = Callable[..., Awaitable[Rig]]


@pytest.fixture(scope="session")
def prompts_dir(root: Root, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default prompts, spoken once a session."""
    folder = tmp_path_factory.mktemp("prompts")
    voice = FliteVoice(Flite(root.command("flite")))
    asyncio.run(render(folder, [Phrase(text) for text in SHORT_PROMPTS.values()], voice))
    return prompt_folder(folder, voice.name)


def settings_for(switch: Asterisk, standin_url: str, tmp_path: Path, /, **changes: Any) -> Settings:
    """Settings of a node on this Asterisk; `agent` changes the one agent."""
    agent = {"instructions": "Be brief.", "greeting": "Hello.", **changes.pop("agent", {})}
    first = free_block(400)
    values: dict[str, Any] = {
        "run_dir": tmp_path,
        "asterisk": {
            "http_port": switch.config.http_port,
            "sip_port": switch.config.sip_port,
            "rtp_ports": switch.config.rtp_ports,
            "password": SecretStr(switch.config.ari_password),
            "phone_password": SecretStr(switch.config.phone_password),
        },
        "realtime": {"url": standin_url, "api_key": SecretStr("key")},
        "media": {"ports": (first, first + 399)},
        "agents": {"reception": agent},
        "numbers": {"100": "reception"},
        "call": SHORT_PROMPTS,
        "limits": {"core_percent": 0},  # how busy this machine is says nothing about us
    }
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    return Settings(**values)


@pytest_asyncio.fixture(loop_scope="module")
async def rig(asterisk: Asterisk, root: Root, prompts_dir: Path, tmp_path: Path) -> AsyncIterator[MakeRig]:
    """Make a node: `await rig(StandinConfig(...), agent={...}, call={...})`; taken down after the test."""
    async with AsyncExitStack() as stack:

        async def make(standin: StandinConfig, **changes: Any) -> Rig:
            standin = replace(standin, flite=tuple(root.command("flite")))
            server = await stack.enter_async_context(StandinServer(standin))
            settings = settings_for(asterisk, server.url, tmp_path, **changes)
            events: list[model.CallEvent] = []
            worker = Worker(settings, 1, Prompts(prompts_dir), events.append)
            running = asyncio.create_task(worker.run(), name="worker")
            stack.push_async_callback(_stop, running)
            await until(lambda: worker.ari.connected, "the worker to reach Asterisk")
            return Rig(asterisk, root, settings, server, worker, events)

        yield make


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
