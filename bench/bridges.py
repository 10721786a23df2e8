"""The bridges that can be measured, each started as its own process and told of its calls in its own way.

The worker is the real one, unmodified, with its configuration in a temporary folder; its calls come over ARI from
`bench/switch.py`. It has no control process: its link tries now and then to find one. The floor and the naive
bridge listen at a port for each call from the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import build
from bench.ports import free_block
from bench.processes import process
from bench.results import Case
from bench.switch import Switch
from sipagent.config import load
from sipagent.control.supervisor import worker_command
from sipagent.errors import ToolError
from sipagent.flow import prompts
from sipagent.flow.phrases import Phrase
from sipagent.worker import needed_prompts

MOST_COMPLAINTS = 8
"""Of different kinds; a traceback has many lines, and every call may have one."""
START_TIMEOUT_S = 20.0
HANG_UP_TIMEOUT_S = 20.0

OnMedia = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge that is up, without calls."""

    process: asyncio.subprocess.Process
    ring: Callable[[int], Awaitable[None]]
    """Bring up call I; its RTP port is told by `on_media`."""
    hang_up: Callable[[], Awaitable[None]]
    """End every call; returns when the bridge has cleared up and reported."""
    log: Path
    refused: Mapping[str, int] = field(default_factory=dict)

    def complaints(self) -> dict[str, int]:
        """Warnings and errors of its log, calls that did not end well, questions the switch could not answer."""
        found = Counter(self.refused)
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("level") in {"warning", "error", "critical"}:
                    found[f"{entry['level']} {entry.get('event')} {entry.get('what', '')}".rstrip()] += 1
                elif entry.get("event") == "call_ended" and entry.get("reason") != "caller_hangup":
                    found[f"call ended: {entry.get('reason')}"] += 1
                continue
            if line.strip() and line != "ready":
                found[line[:80]] += 1
        return dict(found.most_common(MOST_COMPLAINTS))

    def counters(self) -> dict[str, int]:
        """The counters with which the worker reports its calls' ends, added up."""
        found: Counter[str] = Counter()
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "call_ended":
                    found.update({name: value for name, value in entry.items() if name.startswith("rtp_")})
        return dict(found)


@contextlib.asynccontextmanager
async def start(
    case: Case, core: int, folder: Path, model_port: int, caller_ports: Sequence[int], on_media: OnMedia
) -> AsyncIterator[Bridge]:
    """The case's bridge, until the end of the block."""
    first_port = free_block(2 * case.calls)
    url = f"{case.wire}://127.0.0.1:{model_port}/v1/realtime"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SIPAGENT_", "XAI_"))}
    env |= {"SSL_CERT_FILE": str(build.certificate()[0])} if case.tls else {}
    env |= {"SIPAGENT_PURE_PYTHON": "1"} if case.pure else {}
    log = folder / "bridge.log"
    async with AsyncExitStack() as stack:
        if case.bridge == "worker":
            switch = await stack.enter_async_context(Switch(caller_ports, on_media))
            config = await _worker_config(folder, case, first_port, url, switch.port)
            command = worker_command(["--config", str(config)], 1)
            if case.stages:
                command = [sys.executable, "-m", "bench.staged", case.stages, *command[command.index("worker") :]]
            started = await stack.enter_async_context(process(command, core, env=env, log=log))
            await _until(switch.connected.is_set, started, log)
            await _until(lambda: '"prepared"' in log.read_text(), started, log)  # what it imports is no call's memory

            async def hang_up() -> None:
                await switch.hang_up_all(HANG_UP_TIMEOUT_S)
                await _until(lambda: log.read_text().count('"call_ended"') >= case.calls, started, log)

            yield Bridge(started, switch.ring, hang_up, log, switch.refused)
            return
        if case.bridge == "floor":
            command = [str(build.program("floor")), "--calls", str(case.calls), "--first-port", str(first_port)]
            command += ["--model-port", str(model_port), *(["--tls"] if case.tls else [])]
            command += ["--sabotage", case.sabotage] if case.sabotage else []
        else:
            command = [sys.executable, str(build.HERE / "naive.py"), url, str(first_port), str(case.calls)]
        started = await stack.enter_async_context(process(command, core, env=env, log=log))
        await _until(lambda: "ready" in log.read_text(), started, log)

        async def ring(call: int) -> None:
            on_media(call, first_port + 2 * call)

        async def nothing() -> None: ...

        yield Bridge(started, ring, nothing, log)


async def _until(condition: Callable[[], bool], started: asyncio.subprocess.Process, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not condition():
                if started.returncode is not None:
                    raise ToolError(f"the bridge ended with status {started.returncode}: {tail(log)}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ToolError(f"the bridge did not get there in {START_TIMEOUT_S:g} s: {tail(log)}") from None


def tail(log: Path) -> str:
    """The last words of a bridge."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])


# --- the worker's surroundings


class _Hum:
    """A voice for prompts that nobody will hear."""

    name = "bench:hum"

    async def speak(self, phrase: Phrase) -> bytes:
        """PCM at 8000 Hz."""
        del phrase
        return b"\x00\x01" * 160


async def _worker_config(folder: Path, case: Case, first_port: int, url: str, ari_port: int) -> Path:
    file = folder / "sipagent.toml"
    # Even ports only, so two a call; none is needed twice. Priority is the rig's to give, to each bridge the same, and
    # the gate would end the search for what a core carries before the core does.
    file.write_text(
        f"""
run_dir = "{folder}"
[asterisk]
http_port = {ari_port}
password = "bench"
[realtime]
url = "{url}"
api_key = "bench"
websocket = "{case.websocket}"
[media]
ports = [{first_port}, {first_port + 2 * case.calls + 1}]
[agents.bench]
instructions = "Be brief."
greeting = ""
no_input_s = 120
[numbers]
"*" = "bench"
[worker]
realtime_priority = 0
[limits]
core_percent = 0
[log]
format = "json"
"""
    )
    settings = load(file)
    spoken = folder / "prompts"
    # What the worker will want is the worker's to say: a list of our own has missed a new prompt before.
    await prompts.render(spoken, needed_prompts(settings), _Hum(), recordings=settings.folder)
    prompts.use_voice(spoken, _Hum.name)
    return file
