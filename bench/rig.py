"""One run: load generator and bridge side by side, each on its core; the window measured from both ends.

The load generator leads: it says when every call is up, when its window begins and when it ends, and the bridge's
CPU time is read at those moments.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import msgspec

from bench import bridges, build
from bench.processes import Cores, Usage, make_fifo, only_one, process, rss_kb
from bench.results import Case, Figures, Run, find_faults
from sipagent.errors import ToolError

RAMP_PATIENCE_S = 20.0
"""Beyond the ramp itself; then the calls will not come up any more."""
PHASE_PATIENCE_S = 15.0


class NotUp(ToolError):
    """The calls of a run did not come up: more than the bridge can take."""


class _Load:
    """The load generator's two pipes."""

    def __init__(self, started: asyncio.subprocess.Process) -> None:
        self.pid = started.pid
        # Pipes, since `process` was not given a log.
        self._orders = cast("asyncio.StreamWriter", started.stdin)
        self._said = cast("asyncio.StreamReader", started.stdout)

    def on_media(self, call: int, port: int) -> None:
        """The bridge hears this call there."""
        self._orders.write(f"call {call} {port}\n".encode())

    async def hear(self, event: str, timeout_s: float) -> dict[str, Any]:
        """The next thing it says, which must be this."""
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._said.readline()
        except TimeoutError:
            raise NotUp(f"no {event!r} of the load generator in {timeout_s:g} s") from None
        said: dict[str, Any] = json.loads(line) if line else {}
        if said.get("event") != event:
            raise ToolError(f"the load generator ended before {event!r}: its words are above")
        return said


async def measure(case: Case) -> Run:
    """Run a case once. NotUp when its calls do not come up, ToolError for anything that is no measurement."""
    cores = Cores.take()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(only_one(build.BUILD / "lock"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        command = [str(build.program("load")), "--calls", str(case.calls), "--seconds", str(case.seconds)]
        command += ["--settle", str(case.settle_s)]
        if case.tls:
            certificate, key = build.certificate()
            command += ["--certificate", str(certificate), "--key", str(key)]
        load = _Load(await stack.enter_async_context(process(command, cores.load)))
        where = await load.hear("listening", PHASE_PATIENCE_S)
        bridge = await stack.enter_async_context(
            bridges.start(case, cores.bridge, folder, where["model_port"], where["caller_ports"], load.on_media)
        )
        pid = bridge.process.pid
        scheduling = make_fifo(pid, load.pid) if case.fifo else "other"
        rss_start_kb = rss_kb(pid)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for call in range(case.calls):
            await asyncio.sleep(began + call / case.rate - loop.time())
            await bridge.ring(call)
        await load.hear("up", RAMP_PATIENCE_S)
        await load.hear("start", case.settle_s + PHASE_PATIENCE_S)
        before, rss_up_kb = Usage.of(pid, cores.bridge), rss_kb(pid)
        await load.hear("end", case.seconds + PHASE_PATIENCE_S)
        after = Usage.of(pid, cores.bridge)
        figures = msgspec.convert(await load.hear("figures", PHASE_PATIENCE_S), Figures)
        await bridge.hang_up()
        cpu_s, span_s = after.cpu_s - before.cpu_s, after.at_s - before.at_s
        return Run(
            case=case,
            scheduling=scheduling,
            cpu_ms_per_cs=1000 * cpu_s / span_s / case.calls,
            user_share=after.user_share_since(before),
            core_busy=cpu_s / span_s,
            waited=(after.waited_s - before.waited_s) / span_s,
            stolen=(after.stolen_s - before.stolen_s) / span_s,
            rss_start_kb=rss_start_kb,
            rss_kb=rss_up_kb,
            figures=figures,
            complaints=bridge.complaints(),
            faults=find_faults(figures),
        )
