"""The bench's worker, with what it is started with and the switch it is given, takes a call and lets it go."""

from __future__ import annotations

import os
from pathlib import Path

from bench.bridges import start
from bench.results import Case
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.server import StandinServer
from tests.waiting import until


async def test_the_worker_takes_a_call_of_the_switch_and_misses_nothing(tmp_path: Path) -> None:
    heard_at: dict[int, int] = {}
    core = min(os.sched_getaffinity(0))
    async with (
        StandinServer(StandinConfig(mode=Mode.DETERMINISTIC)) as model,
        start(
            Case("worker", 1, tls=False), core, tmp_path, model.port, [20000], heard_at.__setitem__
        ) as bridge,
    ):  # fmt: skip
        await bridge.ring(0)
        await until(lambda: bool(heard_at) and bool(model.live), "the call's media and its session")
        await bridge.hang_up()
        assert bridge.complaints() == {}
