"""A worker process: when it ends, and who has its calls then."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from sipagent import orders, worker
from sipagent.config import Settings
from sipagent.flow.prompts import Prompts
from sipagent.link import WorkerLink


class Left(Exception):
    """The process is gone, with this status."""


async def test_a_worker_that_has_lost_its_link_for_good_leaves_its_calls_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of a control process that is away: of an error of ours, after which nobody would hear of its calls."""

    async def fails(*_: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")

    async def serves(_worker: worker.Worker) -> None:
        await asyncio.Event().wait()

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(WorkerLink, "run", fails)
    monkeypatch.setattr(worker.Worker, "run", serves)
    monkeypatch.setattr(worker.tuning, "settle", lambda *_: [])
    monkeypatch.setattr(worker.tuning, "spare_the_disk", lambda: None)
    monkeypatch.setattr(worker.tuning, "freeze", lambda: None)
    monkeypatch.setattr(worker, "needed_prompts", lambda _settings: [])
    monkeypatch.setattr(worker.os, "_exit", leave)
    settings = Settings(run_dir=tmp_path, agents={"a": {"instructions": "x"}}, numbers={"100": "a"})
    with pytest.raises(Left) as left:
        await asyncio.wait_for(worker.run(settings, 1, Prompts(tmp_path, tmp_path), lambda: settings), 10)
    assert left.value.args != (0,)  # its number is started again with care


async def test_an_order_to_call_that_comes_too_late_begins_nothing(tmp_path: Path) -> None:
    """Whoever gave it has taken it for lost: it may have been given again, and nobody is to be called twice."""
    answers: list[orders.Upward] = []
    settings = Settings(run_dir=tmp_path, agents={"a": {"instructions": "x"}}, numbers={"100": "a"})
    one = worker.Worker(settings, 1, Prompts(tmp_path, tmp_path), answers.append)
    one.ari.connected = True
    order = orders.Originate(call_id="out-1", to="401", trunks=("pbx",), agent="a", expires_at=time.time() - 1)
    one.obey(order)
    [answer] = answers
    assert isinstance(answer, orders.Answer)
    assert "too late" in answer.error
    assert one.calls == 0
    one._timer.close()
