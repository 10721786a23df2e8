"""The node that is broken on purpose: real Asterisk, `sipagent run` with two workers, two realtime endpoints.

Configured as somebody would who wants to lose no call: a second endpoint, and a place to wait when both are away.
Whoever kills a part brings it back here, as a service manager would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench import build
from bench.bridges import tail
from bench.chaos.model import Model
from bench.ports import free_block
from bench.processes import descriptors, only_one, rss_kb
from sipagent import secretfiles, switch
from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.config import Settings, load
from sipagent.errors import ToolError
from sipagent.phone.phone import Phone, PhoneConfig

START_TIMEOUT_S = 30.0
SERVICE_RESTART_S = 1.0
"""As `RestartSec` of the unit."""
HTTP_TIMEOUT_S = 40.0
"""A restart of all workers is answered when they are back."""
_POLL_S = 0.1
_AGENT = "reception"
_TASKS = re.compile(r'sipagent_worker_tasks\{worker="(\d+)"\} ([0-9.]+)')


@dataclass(frozen=True, slots=True)
class Level:
    """What there is when nobody calls."""

    channels: int
    bridges: int
    processes: int
    """Of the node, Asterisk apart: control, workers and what they have started, orphans too."""
    descriptors: dict[str, int]
    rss_kb: dict[str, int]
    tasks: dict[str, int]
    """Of each worker's event loop."""


@dataclass(slots=True)
class Node:
    """A node that takes calls; its parts may be killed."""

    settings: Settings
    root: Root
    models: Sequence[Model]
    asterisk: Asterisk
    log: Path
    config: Path
    control: asyncio.subprocess.Process

    def phone(self) -> Phone:
        """One that may call."""
        asterisk = self.settings.asterisk
        password = asterisk.phone_password.get_secret_value()
        login = PhoneConfig(f"127.0.0.1:{asterisk.sip_port}", asterisk.phone_user, password, Law.ULAW)
        return Phone(login, self.root.command("sipp"))

    async def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """The API: status and JSON; 0 when nobody is there."""
        method, timeout = "GET" if body is None else "POST", aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        url = f"http://127.0.0.1:{self.settings.control.port}{path}"
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http, http.request(method, url, json=body) as answer:
                return answer.status, await answer.json() if answer.content_type == "application/json" else None
        except (aiohttp.ClientError, TimeoutError):
            return 0, None

    async def metrics(self) -> str:
        """What Prometheus would read."""
        url = f"http://127.0.0.1:{self.settings.control.port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return await answer.text()

    async def workers(self) -> list[int]:
        """Process ids."""
        _, body = await self.ask("/readyz")
        return [int(worker["pid"]) for worker in (body or {}).get("workers", ()) if worker["pid"]]

    async def until_ready(self) -> None:
        """Every worker takes calls. ToolError when that takes too long."""
        for _ in range(round(START_TIMEOUT_S / _POLL_S)):
            if (await self.ask("/readyz"))[0] == 200:
                return
            if self.control.returncode is not None:
                break
            await asyncio.sleep(_POLL_S)
        raise ToolError(f"the node was not ready in {START_TIMEOUT_S:g} s: {tail(self.log)}")

    async def start_control(self) -> None:
        """Again, after it was killed."""
        self.control = await _control(self.config, self.log)

    async def records(self) -> list[dict[str, Any]]:
        """Every call that is in the records."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            status, page = await self.ask(f"/v1/calls?limit=500&cursor={cursor}")
            if status != 200:
                raise ToolError(f"the records cannot be read: HTTP {status}")
            found += page["calls"]
            if not (cursor := page["next"]):
                return found

    async def level(self) -> Level:
        """Now."""
        pids = {"control": self.control.pid, "asterisk": self.asterisk.pid or 0}
        pids |= {f"worker {number}": pid for number, pid in enumerate(sorted(await self.workers()), 1)}
        return Level(
            channels=int((await self.asterisk.cli("core show channels count")).split()[0]),
            bridges=(await self.asterisk.cli("bridge show all")).count("\n"),
            processes=len(_processes(self.config)),
            descriptors={name: descriptors(pid) for name, pid in pids.items()},
            rss_kb={name: rss_kb(pid) for name, pid in pids.items()},
            tasks={f"worker {number}": round(float(count)) for number, count in _TASKS.findall(await self.metrics())},
        )


@contextlib.asynccontextmanager
async def broken_node(callers: int, say: Callable[[str], None]) -> AsyncIterator[Node]:
    """Bring it up, take it down, whatever has become of it: only one bench at a time on this machine."""
    root = await asyncio.to_thread(fetch, ("asterisk", "sipp", "flite"))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(only_one(build.BUILD / "lock"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)))
        first = free_block(20 + 16 * callers)
        models = [Model(first + 4), Model(first + 6)]
        for one in models:
            stack.push_async_callback(one.stop)
            await one.start()
        config = folder / "sipagent.toml"
        config.write_text(_configuration(folder, first, callers, models))
        secretfiles.ensure(folder)
        settings = load(config)
        server = Asterisk(switch.asterisk_config(settings), root)
        stack.push_async_callback(server.stop)
        await server.start()
        log = folder / "sipagent.log"
        it = Node(settings, root, models, server, log, config, await _control(config, log))
        stack.push_async_callback(_stop, it)
        await it.until_ready()
        say(f"Asterisk {server.info.version if server.info else '?'}, two workers, two endpoints")
        yield it


def _configuration(folder: Path, first: int, callers: int, models: Sequence[Model]) -> str:
    # A worker keeps a port for 5 s after its call, and may have to take in the calls of the other one.
    asterisk, worker = first + 20, first + 20 + 8 * callers
    return f"""
run_dir = "{folder}"
[asterisk]
http_port = {first}
sip_port = {first + 1}
rtp_ports = [{asterisk}, {worker - 1}]
[realtime]
url = "{models[0].url}"
api_key = "chaos"
connect_timeout_s = 2
[realtime.fallbacks.second]
url = "{models[1].url}"
api_key = "chaos"
[media]
ports = [{worker}, {worker + 8 * callers - 1}]
[control]
port = {first + 2}
workers = 2
[agents.{_AGENT}]
instructions = "Be brief."
greeting = "Hello."
no_input_s = 4
fallback = "menu:away"
[menus.away]
prompt = "Our assistant is away for a moment. Please hold the line."
keys = {{ "1" = "agent:{_AGENT}" }}
timeout_s = 1
retries = 0
give_up = "agent:{_AGENT}"
[numbers]
"*" = "{_AGENT}"
[log]
format = "json"
"""


async def _control(config: Path, log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sipagent", "run", "--config", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip


async def _stop(it: Node) -> None:
    """The control process with its workers, and those that a dead one has left."""
    with contextlib.suppress(ProcessLookupError):
        it.control.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(10):
            await it.control.wait()
    except TimeoutError:
        it.control.kill()
        await it.control.wait()
    for pid in _processes(it.config):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes(config: Path) -> list[int]:
    """Those that were started with our configuration: it names a folder of this run."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if str(config).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
