"""One run: load generator and bridge side by side, each on its core; the window measured from both ends.

The load generator leads: it says when every call is up, when its window begins and when it ends, and the bridge's
CPU time is read at those moments.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path

from bench import bridges, build
from bench.generator import PATIENCE_S, NotUp, generator
from bench.processes import Cores, Usage, cores_awake, make_fifo, only_one, rss_kb
from bench.results import Case, Run, find_faults

RAMP_PATIENCE_S = 20.0
"""Beyond the ramp itself; then the calls will not come up any more."""


Beside = Callable[[Sequence[int], int, float], AbstractAsyncContextManager[None]]
"""What goes on beside a window: told the RTP ports of the calls, the load's core and the window's length."""


def _nothing(ports: Sequence[int], core: int, window_s: float) -> AbstractAsyncContextManager[None]:
    del ports, core, window_s
    return nullcontext()


async def measure(case: Case, beside: Beside = _nothing) -> Run:
    """Run a case once. NotUp when its calls do not come up, ToolError for anything that is no measurement."""
    cores = Cores.take()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(only_one(build.BUILD / "lock"))
        stack.enter_context(cores_awake(case.awake))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        phases = ("--seconds", str(case.seconds), "--settle", str(case.settle_s))
        load = await stack.enter_async_context(generator(case.calls, cores.load, tls=case.tls, options=phases))
        bridge = await stack.enter_async_context(
            bridges.start(case, cores.bridge, folder, load.model_port, load.caller_ports, load.on_media)
        )
        pid = bridge.process.pid
        scheduling = make_fifo(pid, load.pid) if case.fifo else "other"
        rss_start_kb = rss_kb(pid)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for call in range(case.calls):
            await asyncio.sleep(began + call / case.rate - loop.time())
            await bridge.ring(call)
        try:
            await load.hear("up", RAMP_PATIENCE_S)
        except NotUp as error:
            raise NotUp(f"{error}; {bridge.complaints() or 'the bridge does not complain'}") from None
        async with beside(list(load.bridge_ports.values()), cores.load, case.settle_s + case.seconds):
            await load.hear("start", case.settle_s + PATIENCE_S)
            before, rss_up_kb = Usage.of(pid, cores.bridge), rss_kb(pid)
            await load.hear("end", case.seconds + PATIENCE_S)
            after = Usage.of(pid, cores.bridge)
        figures = await load.figures()
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
            counters=bridge.counters(),
            faults=find_faults(figures),
        )
