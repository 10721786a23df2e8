"""A node as an operator runs it: our own processes with the stand-in, on the module's Asterisk or one of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.phone.phone import Phone, PhoneConfig
from tests.asterisk.fixtures import free_port, rtp_ports
from tests.e2e.test_api_calls import post
from tests.e2e.test_processes import environment, get, on, output_of, ready, sipagent, with_prompts
from tests.waiting import until

RECEPTION = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
[numbers]
"100" = "reception"
"""
STANDIN = "--standin"
PHONE_PASSWORD = "a-phone-of-the-test"


@dataclass(frozen=True)
class ServiceNode:
    """Running, and ready for calls."""

    env: dict[str, str]
    file: Path
    process: asyncio.subprocess.Process
    login: PhoneConfig
    root: Root

    def phone(self) -> Phone:
        """Somebody who may call it."""
        return Phone(self.login, self.root.command("sipp"))

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await get(self.env, path)

    async def post(self, path: str, body: dict[str, Any]) -> int:
        """The status it is answered with."""
        return (await post(self.env, path, body))[0]

    async def command(self, *arguments: str) -> tuple[int, str]:
        """One of our commands: its exit code and what it printed."""
        return await output_of(self.env, *arguments, "--config", str(self.file))

    async def asterisk(self, command: str) -> str:
        """What a command of Asterisk's says; of a node with an Asterisk of its own."""
        _, told = await output_of(self.env, "asterisk", "cli", "--config", str(self.file), command)
        return told

    async def ready(self) -> None:
        await ready(self.env)

    async def pids(self) -> set[int]:
        """Of its workers."""
        return {worker["pid"] for worker in (await self.get("/readyz"))[1]["workers"]}

    async def the_call(self) -> dict[str, Any]:
        """The one call that is up, as soon as it has come to something."""
        calls: list[Any] = []

        async def is_there() -> bool:
            calls[:] = (await self.get("/v1/calls/live"))[1]["calls"]
            return len(calls) == 1 and bool(calls[0]["step"])

        await until(is_there, lambda: f"the call to be seen, and not {calls}")
        return dict(calls[0])

    async def kill_its_worker(self, how: signal.Signals = signal.SIGKILL) -> dict[str, Any]:
        """The one call that is up loses its worker; what was known of it before."""
        call = await self.the_call()
        workers = (await self.get("/readyz"))[1]["workers"]
        os.kill(next(one["pid"] for one in workers if one["worker"] == call["worker"]), how)
        return call

    async def adopted(self, before: dict[str, Any]) -> dict[str, Any]:
        """Wait until somebody has it again: the state is back, and it is another process."""
        found: dict[str, Any] = {}

        async def is_back() -> bool:
            calls = (await self.get("/v1/calls/live"))[1]["calls"]
            found.update(calls[0] if calls else {})
            history = (await self.get(f"/v1/calls/{before['call_id']}"))[1].get("history", {})
            return bool(calls) and any(event["type"] == "call_adopted" for event in history.get("events", []))

        await until(is_back, "the call to be adopted")
        return found

    async def record(self, call_id: str) -> dict[str, Any]:
        """Of a call, when its end is written."""
        found: dict[str, Any] = {}

        async def is_over() -> bool:
            found.update((await self.get(f"/v1/calls/{call_id}"))[1])
            return found.get("state") == "ended"

        await until(is_over, "the end to be written")
        return found

    async def empty(self, but_for: str = "0 active channels") -> None:
        """No channel is left in its own Asterisk, but for these."""
        told = ""

        async def is_empty() -> bool:
            nonlocal told
            told = await self.asterisk("core show channels")
            return but_for in told

        await until(is_empty, lambda: f"every channel to be gone, and not {told}")

    async def stopped(self) -> None:
        """It has ended, and well."""
        told, _ = await self.process.communicate()
        assert self.process.returncode == 0, told.decode()


@asynccontextmanager
async def service_node(
    asterisk: Asterisk, root: Root, folder: Path, config: str = RECEPTION, **settings: object
) -> AsyncIterator[ServiceNode]:
    """One on the module's Asterisk; `settings` by their names in the environment, as CONTROL__WORKERS=2."""
    async with running(
        on(asterisk, folder / "run", **settings), _file(folder, config), login_at(asterisk), root, STANDIN
    ) as node:
        yield node


@asynccontextmanager
async def service_node_of_its_own(
    root: Root, folder: Path, config: str, **settings: object
) -> AsyncIterator[ServiceNode]:
    """One with an Asterisk that knows its queues and trunks, which stays when the node goes."""
    ports = {"HTTP_PORT": free_port(), "SIP_PORT": free_port(), "RTP_PORTS": list(rtp_ports())}
    switch = {f"ASTERISK__{name}": port for name, port in ports.items()}
    env = environment(with_prompts(folder / "run"), **(switch | settings))
    env["SIPAGENT_ASTERISK__PHONE_PASSWORD"] = PHONE_PASSWORD
    file = _file(folder, config)
    login = PhoneConfig(f"127.0.0.1:{ports['SIP_PORT']}", "phone", PHONE_PASSWORD)
    async with sipagent(env, "asterisk", "up", "--config", str(file)), running(env, file, login, root, STANDIN) as node:
        yield node


def login_at(asterisk: Asterisk) -> PhoneConfig:
    """Of a phone at the module's Asterisk."""
    switch = asterisk.config
    return PhoneConfig(f"127.0.0.1:{switch.sip_port}", switch.phone_user, switch.phone_password)


def _file(folder: Path, config: str) -> Path:
    file = folder / "sipagent.toml"
    file.write_text(config)
    return file


@asynccontextmanager
async def running(
    env: dict[str, str], file: Path, login: PhoneConfig, root: Root, *options: str
) -> AsyncIterator[ServiceNode]:
    """A node that is started with this file, and with a stand-in of its own if that is one of the `options`."""
    async with sipagent(env, "run", *options, "--config", str(file)) as process:
        await ready(env)
        yield ServiceNode(env, file, process, login, root)
