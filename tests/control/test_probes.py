"""Probes on their schedule: each trunk, one at a time, and what becomes known of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
from fastapi import FastAPI

from sipagent import orders
from sipagent.config import Settings
from sipagent.control import api_probes, probes
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.operator import Operator
from sipagent.control.probes import FIRST_AFTER_S, Probes
from sipagent.orders import ProbeResult
from tests.waiting import until


def settings(**wanted: Any) -> Settings:
    return Settings(
        agents={"reception": {"instructions": "x"}},
        numbers={"100": "reception"},
        trunks={name: {"preset": "generic-ip", "hosts": ["192.0.2.1"]} for name in ("vonage", "backup")},
        probes=wanted or {"uk": {"trunks": ["vonage", "backup"], "number": "+442079460123", "every_s": 60}},
    )


class Node:
    """Probes whose worker says how it went when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings()
        self.live, self.asked = Live(1), []
        self.hub = Hub(folder / "c.sock", self.live)
        self.hub.attach(1, self._obey)
        self.probes = Probes(Operator(self.hub, self.live, lambda: self.settings), self.live, lambda: self.settings)

    @property
    def over(self) -> int:
        """Probes that have a result."""
        return sum(place.passed + place.failed for place in self.probes.places.values())

    def _obey(self, order: orders.Order) -> None:
        assert isinstance(order, orders.Probe)
        self.asked.append(order)

    def ready(self) -> None:
        self.live.worker_state(1, orders.WorkerState(asterisk_connected=True, asterisk_version="22", accepting=True,
                                                     calls=0, events_dropped=0))  # fmt: skip

    def answer(self, order: orders.Probe, **how: Any) -> ProbeResult:
        facts = {"ok": True, "answer_ms": 300.0, "voice_ms": 900.0, "mos": 4.4} | how
        result = ProbeResult(name=order.name, trunk=order.trunk, call_id=order.call_id, at=1.0, **facts)
        self.hub.take(orders.Answer(order.id, "", msgspec.json.encode(result).decode()))
        return result


@pytest.fixture
def node(tmp_path: Path) -> Node:
    one = Node(tmp_path)
    one.ready()
    return one


async def test_each_trunk_is_probed_when_its_time_has_come_and_never_twice_at_once(node: Node) -> None:
    node.probes.look(1000.0)
    node.probes.look(1000.0 + FIRST_AFTER_S - 0.1)
    assert node.asked == []
    node.probes.look(1000.0 + FIRST_AFTER_S)
    await until(lambda: len(node.asked) == 2, "both trunks")
    assert [(order.name, order.trunk, order.to, order.within_s) for order in node.asked] == [
        ("uk", "vonage", "+442079460123", 15.0), ("uk", "backup", "+442079460123", 15.0),
    ]  # fmt: skip
    node.answer(node.asked[0])
    await until(lambda: node.over == 1, "the result")
    node.probes.look(1080.0)  # the backup's is still under way
    await until(lambda: len(node.asked) == 3, "the next one")
    assert node.asked[2].trunk == "vonage"
    node.probes.look(1081.0)
    assert len(node.asked) == 3
    second, third = node.answer(node.asked[1], ok=False, why="no answer"), node.answer(node.asked[2])
    await until(lambda: node.over == 3, "the others")
    assert {(trunk, place.last) for _, trunk, _, place in node.probes.all()} == {("vonage", third), ("backup", second)}
    counts = {trunk: (place.passed, place.failed) for (_, trunk), place in node.probes.places.items()}
    assert counts == {"vonage": (2, 0), "backup": (0, 1)}
    assert len({order.call_id for order in node.asked}) == 3


async def test_who_asks_while_one_is_under_way_gets_that_one(node: Node) -> None:
    asking = [asyncio.create_task(node.probes.now("uk")) for _ in range(2)]
    await until(lambda: len(node.asked) == 2, "one probe of each trunk")
    results = [node.answer(order) for order in node.asked]
    assert await asyncio.gather(*asking) == [results, results]
    with pytest.raises(KeyError):
        await node.probes.now("other")


async def test_a_node_that_cannot_probe_has_failed(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (one, other) = await node.probes.now("uk")
    assert not one.ok
    assert one.why == other.why == "no worker takes calls"
    assert node.over == 2
    # ... but a node that is starting is given the time to.
    running = asyncio.create_task(node.probes.run())
    await asyncio.sleep(0)
    assert node.asked == []
    running.cancel()
    await asyncio.wait({running})


async def test_a_schedule_begins_once_the_node_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FIRST_AFTER_S", 0.0)
    node = Node(tmp_path)
    running = asyncio.create_task(node.probes.run())
    try:
        node.ready()
        await until(lambda: len(node.asked) == 2, "both trunks")
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert [place.running for *_, place in node.probes.all()] == [None, None]  # nothing is left behind
    assert node.over == 0


async def test_a_reload_adds_and_removes(node: Node) -> None:
    node.probes.look(0.0)
    node.settings = settings(us={"trunks": ["backup"], "number": "+15551234567", "every_s": 5},
                             by_hand={"trunks": ["backup"], "number": "401", "every_s": 0})  # fmt: skip
    node.probes.look(FIRST_AFTER_S)
    node.probes.look(2 * FIRST_AFTER_S)
    await until(lambda: len(node.asked) == 1, "the new one")
    assert node.asked[0].name == "us"
    assert [name for name, *_ in node.probes.all()] == ["us", "by_hand"]
    node.answer(node.asked[0])
    await until(lambda: node.over == 1, "its result")


@pytest_asyncio.fixture
async def api(node: Node) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    app.include_router(api_probes.router(node.probes))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://node") as client:
        yield client


async def test_by_the_api(node: Node, api: httpx2.AsyncClient) -> None:
    assert (await api.post("/v1/probes/other")).status_code == 404
    asking = asyncio.create_task(api.post("/v1/probes/uk"))
    await until(lambda: len(node.asked) == 2, "the probes")
    assert [one["running"] for one in (await api.get("/v1/probes")).json()["probes"]] == [True, True]
    node.answer(node.asked[0])
    node.answer(node.asked[1], ok=False, why="not answered: busy", cause=17, voice_ms=None)
    answer = (await asking).json()
    assert [(one["trunk"], one["ok"], one["why"], one["cause"]) for one in answer["results"]] == [
        ("vonage", True, "", 0), ("backup", False, "not answered: busy", 17),
    ]  # fmt: skip
    listed = (await api.get("/v1/probes")).json()["probes"]
    assert [one["last"] for one in listed] == answer["results"]
    assert (listed[0]["number"], listed[0]["running"]) == ("+442079460123", False)
