"""Calls of a dead worker: which channels are taken over, and which are somebody's."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

from sipagent import carried
from sipagent.ari.events import Channel, DialplanCep
from sipagent.carried import Carried
from sipagent.orphans import Orphans
from tests.waiting import until


class Ari:
    """Asterisk, as far as these channels go."""

    app = "sipagent-2"

    def __init__(self) -> None:
        self.there: dict[str, tuple[Channel, dict[str, str]]] = {}
        self.moved: list[str] = []
        self.hung_up: list[str] = []

    def has(self, name: str, app_data: str, **variables: str) -> None:
        dialplan = DialplanCep(app_name="Stasis", app_data=app_data)
        self.there[name] = Channel(id=name, name=f"PJSIP/{name}", dialplan=dialplan), variables

    def listen(self, _channel: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    async def channels(self) -> list[Channel]:
        return [channel for channel, _ in self.there.values()]

    async def request(self, method: str, uri: str, query: dict[str, str]) -> dict[str, Any]:
        _, channel, *rest = uri.split("/")
        if method == "DELETE":
            self.hung_up.append(channel)
            return {}
        (what,) = rest
        if (method, what) == ("GET", "variable"):
            return {"value": self.there[channel][1].get(query["variable"], "")}
        assert (method, what) == ("POST", "move")
        self.moved.append(f"{channel} {query['appArgs']}")
        return {}


def call(app: str, run: str) -> dict[str, str]:
    state = Carried(app=app, run=run, call_id="c", endpoint="e", called="100", caller="1", law="ulaw", started_at=0.0)
    return {carried.VARIABLE: state.text()}


def orphans(ari: Ari) -> Orphans:
    house = SimpleNamespace(settings=SimpleNamespace(asterisk=SimpleNamespace(app="sipagent")))
    worker: Any = SimpleNamespace(ari=ari, house=house, ending=False)
    return Orphans(worker)


async def test_what_the_successor_of_the_dead_has_already_stays_there() -> None:
    """The order came late: a number is no process."""
    ari = Ari()
    ari.has("of-the-dead", "sipagent-1,in", **call("sipagent-1", "dead"))
    ari.has("of-its-successor", "sipagent-1,in", **call("sipagent-1", "successor"))
    ari.has("of-another", "sipagent-1,in", **call("sipagent-3", "other"))
    ari.has("of-the-version-before", "sipagent-3,in", **call("sipagent-1", ""))
    ari.has("nobody-did-anything", "sipagent-1,in,x")
    assert await orphans(ari).adopt(1, "dead") == "3 calls"
    assert ari.moved == ["of-the-dead adopted", "of-the-version-before adopted", "nobody-did-anything in,x"]


async def test_who_has_taken_a_call_is_left_to_the_call() -> None:
    ari = Ari()
    ari.has("leg", "sipagent-1,leg", **{carried.LEG_VARIABLE: "sipagent-1 c"})
    ari.has("ringing", "sipagent-1,leg")
    await orphans(ari).adopt(1, "dead")
    assert ari.moved == ["ringing leg"]


async def test_a_phone_that_rings_for_nobody_is_let_off() -> None:
    ari = Ari()
    ari.has("ringing", "sipagent-2,leg")
    us = orphans(ari)
    us.take(ari.there["ringing"][0])
    await until(lambda: ari.hung_up == ["ringing"], "its end")
