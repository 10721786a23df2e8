"""The whole node for a run: real Asterisk, `sipagent run` with its worker, the load generator as telephones and model.

Everything has ports of its own and a run folder that goes with it. No process is bound to a core: the machine is
the node's and the load's together, as far as it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench import build, processes, records
from bench.bridges import tail
from bench.callers import Callers, Plan, callers
from bench.generator import Generator, generator
from bench.ports import free_block
from bench.processes import only_one, process
from sipagent import secretfiles, switch
from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.config import Settings, load
from sipagent.errors import ToolError

HOST = "127.0.0.1"
PARTS = ("asterisk", "worker", "control", "load")
START_TIMEOUT_S = 30.0
REST_TIMEOUT_S = 10.0
"""After the last call, until every channel is gone; the worker's ports rest for 5 s."""
_POLL_S = 0.2
_REALTIME_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a node is needed, and how it is set up."""

    callers: int
    """RTP ports of callers: the most calls that are up or have just been."""
    greeting: str = ""
    """Words the agent opens with; empty: it waits for the model."""
    by_order: bool = False
    """The load generator's window begins and ends when told; otherwise when every caller is up."""
    phases: tuple[str, ...] = ()
    fifo: bool = False
    """Real-time priority: worker and Asterisk by their own `realtime_priority`, the load generator as well."""
    records: int = 0
    """Calls of the past that its records hold."""
    core_percent: int = 0
    """Of [limits]: above it no call is taken. 0: whatever comes, since how many that may be is what is measured."""


@dataclass(frozen=True, slots=True)
class Level:
    """How much of everything there is, at one moment."""

    at_s: float
    """Of the event loop's clock."""
    cpu_s: dict[str, float]
    idle_s: float
    """Of all cores of the machine."""
    rss_kb: dict[str, int]
    descriptors: dict[str, int]
    udp_sockets: dict[str, int]
    threads: dict[str, int]
    channels: int
    tasks: int = 0
    """Of the worker's event loop."""
    open_files: dict[str, dict[str, int]] = field(default_factory=dict)
    """The descriptors by what they are of."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used between two levels."""

    span_s: float
    cores: dict[str, float]
    """By PARTS; 1 is a whole core."""
    busy: float
    """Share of all cores that was in use, by whomever."""
    others_busy: float
    """Share of all cores that was used by processes which are not of PARTS. More than a little spoils a run."""

    @classmethod
    def between(cls, before: Level, after: Level) -> Spent:
        """Of the whole machine."""
        span_s, machine = after.at_s - before.at_s, os.cpu_count() or 1
        cores = {name: (after.cpu_s[name] - before.cpu_s[name]) / span_s for name in after.cpu_s}
        busy = machine - (after.idle_s - before.idle_s) / span_s
        return cls(span_s, cores, busy / machine, max(busy - sum(cores.values()), 0) / machine)


@dataclass(frozen=True, slots=True)
class Node:
    """A node that takes calls."""

    asterisk: Asterisk
    load: Generator
    pids: dict[str, int]
    """By PARTS."""
    folder: Path
    log: Path
    settings: Settings
    root: Root
    sipp_port: int

    def dial(self, calls: int, per_second: float, hold_s: float) -> AbstractAsyncContextManager[Callers]:
        """SIPp begins to dial; each call is held for `hold_s`."""
        folder = Path(tempfile.mkdtemp(prefix="sipp-", dir=self.folder))
        asterisk = self.settings.asterisk
        login = (asterisk.phone_user, asterisk.phone_password.get_secret_value())
        plan = Plan(calls, per_second, hold_s, self.load.caller_ports)
        return callers(self.root.command("sipp"), (HOST, asterisk.sip_port), login, self.sipp_port, plan, folder)

    async def level(self) -> Level:
        """Now."""
        return Level(
            at_s=asyncio.get_running_loop().time(),
            cpu_s={name: processes.cpu_s(pid) for name, pid in self.pids.items()},
            idle_s=processes.machine_idle_s(),
            rss_kb={name: processes.rss_kb(pid) for name, pid in self.pids.items()},
            descriptors={name: processes.descriptors(pid) for name, pid in self.pids.items()},
            open_files={name: processes.open_files(pid) for name, pid in self.pids.items()},
            udp_sockets={name: processes.udp_sockets(pid) for name, pid in self.pids.items()},
            threads={name: processes.threads(pid) for name, pid in self.pids.items()},
            channels=await self.channels(),
            tasks=await self.tasks(),
        )

    async def tasks(self) -> int:
        """Of the worker's event loop, as it last told, a second ago at most."""
        url = f"http://{HOST}:{self.settings.control.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found = re.search(r'^sipagent_worker_tasks\{worker="1"\} (\S+)', await answer.text(), re.MULTILINE)
        return round(float(found[1])) if found else 0

    async def channels(self) -> int:
        """That Asterisk has."""
        return int((await self.asterisk.cli("core show channels count")).split()[0])

    async def hang_up_all(self) -> None:
        """Asterisk releases every call; ToolError when some stay."""
        await self.asterisk.cli("channel request hangup all")
        await self.until_empty()

    async def until_empty(self) -> None:
        """No channel is left; ToolError when some stay."""
        for _ in range(round(REST_TIMEOUT_S / _POLL_S)):
            left = await self.channels()
            if not left:
                return
            await asyncio.sleep(_POLL_S)
        raise ToolError(f"{left} channels are left {REST_TIMEOUT_S:g} s after the calls")

    def ended(self) -> Counter[str]:
        """How the worker says that its calls ended, and its warnings and errors, by what they are."""
        found: Counter[str] = Counter()
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("level") in {"warning", "error", "critical"}:
                    found[f"{entry['level']} {entry.get('event')} {entry.get('what', '')}".rstrip()] += 1
                if entry.get("event") == "call_ended":
                    found[f"call ended: {entry.get('reason')}"] += 1
        return found


@contextlib.asynccontextmanager
async def whole(shape: Shape, say: Callable[[str], None]) -> AsyncIterator[Node]:
    """Bring it up, take it down: only one at a time on this machine."""
    root = await asyncio.to_thread(fetch, ("asterisk", "sipp", "flite"))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(only_one(build.BUILD / "lock"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        block = free_block(_Ports.size(shape.callers))
        ports = _Ports.of(block, shape.callers)
        options = ("--first-port", str(ports.callers), "--latch", *shape.phases)
        options += ("--by-order",) if shape.by_order else ()
        made = await stack.enter_async_context(generator(shape.callers, None, tls=True, options=options))
        config = folder / "sipagent.toml"
        config.write_text(_configuration(folder, ports, made.model_port, shape))
        secretfiles.ensure(folder)
        settings = load(config)
        if shape.records:
            await records.fill(settings.records_url, shape.records)
        server = await stack.enter_async_context(switch.asterisk(settings, root, say))
        log = folder / "sipagent.log"
        env = os.environ | {"SSL_CERT_FILE": str(build.certificate()[0])}
        command = [sys.executable, "-m", "sipagent", "run", "--config", str(config)]
        workers: list[int] = []
        stack.callback(_end_orphans, workers, config)
        control = await stack.enter_async_context(process(command, None, env=env, log=log))
        worker = await _worker_when_ready(settings.control.port, control, log)
        workers.append(worker)
        if shape.fifo:
            processes.make_fifo(made.pid)
        pids = {"asterisk": server.pid or 0, "worker": worker, "control": control.pid, "load": made.pid}
        yield Node(server, made, pids, folder, log, settings, root, ports.sipp)


@dataclass(frozen=True, slots=True)
class _Ports:
    """The parts of a run's block."""

    http: int
    sip: int
    control: int
    sipp: int
    callers: int
    asterisk: tuple[int, int]
    worker: tuple[int, int]

    @classmethod
    def of(cls, first: int, count: int) -> _Ports:
        # Asterisk takes 4 a call, at random; the worker 2 a call, and they rest for 5 s: twice as many for both.
        asterisk, worker = first + 10 + 2 * count, first + 10 + 10 * count
        sizes = {"asterisk": (asterisk, worker - 1), "worker": (worker, worker + 4 * count - 1)}
        return cls(http=first, sip=first + 1, control=first + 2, sipp=first + 3, callers=first + 10, **sizes)

    @staticmethod
    def size(count: int) -> int:
        return 10 + 14 * count


def _configuration(folder: Path, ports: _Ports, model_port: int, shape: Shape) -> str:
    return f"""
run_dir = "{folder}"
[asterisk]
http_port = {ports.http}
sip_port = {ports.sip}
rtp_ports = {list(ports.asterisk)}
realtime_priority = {_REALTIME_PRIORITY if shape.fifo else 0}
[realtime]
url = "wss://{HOST}:{model_port}/v1/realtime"
api_key = "bench"
[media]
ports = {list(ports.worker)}
[control]
port = {ports.control}
[worker]
realtime_priority = {_REALTIME_PRIORITY if shape.fifo else 0}
[agents.bench]
instructions = "Be brief."
greeting = "{shape.greeting}"
no_input_s = 120
[limits]
core_percent = {shape.core_percent}
[numbers]
100 = "bench"
[log]
format = "json"
"""


async def _worker_when_ready(port: int, control: asyncio.subprocess.Process, log: Path) -> int:
    """The worker's process id, as soon as it takes calls and has imported what no call is to pay for."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession() as session:
            while control.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://{HOST}:{port}/readyz") as answer:
                        if answer.status == 200 and _is_prepared(log):
                            return int((await answer.json())["workers"][0]["pid"])
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    raise ToolError(f"the node was not ready in {START_TIMEOUT_S:g} s: {tail(log)}")


def _is_prepared(log: Path) -> bool:
    return '"prepared"' in log.read_text(errors="replace")


def _end_orphans(workers: list[int], config: Path) -> None:
    """A worker outlives a control process that had to be killed."""
    for pid in workers:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # Only one that names our configuration is ours: numbers are used again.
            if str(config).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
