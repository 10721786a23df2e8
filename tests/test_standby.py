"""Sessions that stand by, at a real stand-in: there before they are needed, somebody's in one step, never left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from sipagent import standby as module
from sipagent.audio import Law
from sipagent.config import RealtimeSettings
from sipagent.control.quota import Quota
from sipagent.orders import SessionGranted, SessionLeft, SessionPlace, SessionRecalled, SessionWanted
from sipagent.sessions import Sessions
from sipagent.standby import Standby
from sipagent.standin import Mode, StandinConfig, StandinServer, parse_faults, serve
from sipagent.xai import session as xai
from sipagent.xai.dialect import SessionConfig
from tests.waiting import until


class Control:
    """The control process: grants what there is room for."""

    def __init__(self, room: int) -> None:
        self.room, self.asked, self.granted = room, list[Any](), set[str]()
        self.sessions = Sessions(self._hear)

    def _hear(self, asked: Any) -> None:
        self.asked.append(asked)
        if isinstance(asked, SessionWanted):
            if len(self.granted | {asked.key}) <= self.room:
                self.granted.add(asked.key)
                self.sessions.told(SessionGranted(asked.key, "main"))
            else:
                self.sessions.told(SessionPlace(asked.key, 1))
        elif isinstance(asked, SessionLeft):
            self.granted.discard(asked.key)


@pytest.fixture
async def server() -> AsyncIterator[StandinServer]:
    server = await serve(StandinConfig(mode=Mode.DETERMINISTIC))
    yield server
    await server.aclose()


@pytest.fixture
def realtime(server: StandinServer) -> RealtimeSettings:
    return RealtimeSettings(url=server.url, api_key=SecretStr("k"), standby=2, session_quota=3)


@pytest.fixture
async def control() -> Control:
    return Control(3)


@pytest.fixture
async def standby(control: Control, realtime: RealtimeSettings) -> AsyncIterator[Standby]:
    standby = Standby(control.sessions)
    standby.follow(realtime, None)
    yield standby
    await standby.aclose()
    assert standby.ready == 0
    assert control.sessions.linked() == ()


async def test_they_are_open_before_anybody_calls_and_listen_to_nobody(
    standby: Standby, server: StandinServer, control: Control
) -> None:
    await until(lambda: standby.ready == 2, "two stand by")
    assert [session.settings.turn_detection for session in server.live] == [None, None]
    assert [held.call_id for held in control.sessions.linked()] == ["", ""]


async def test_one_is_a_callers_at_once_and_another_takes_its_place(
    standby: Standby, server: StandinServer, realtime: RealtimeSettings
) -> None:
    await until(lambda: standby.ready == 2, "two stand by")
    (endpoint,) = realtime.endpoints
    spare = standby.take(endpoint)
    assert spare is not None
    heard: list[xai.SessionEvent] = []
    spare.slot.pass_to("call")
    spare.client.configure(SessionConfig(Law.ALAW, realtime.model, "eve", "Be brief."), heard.append)
    await until(lambda: any(isinstance(event, xai.Ready) for event in heard), "ready")
    (mine,) = [session for session in server.live if session.settings.turn_detection]
    assert (mine.settings.instructions, mine.settings.input.law) == ("Be brief.", Law.ALAW)
    await until(lambda: standby.ready == 2, "two stand by")
    assert (len(server.live), standby.counts["taken"]) == (3, 1)
    await spare.client.aclose()
    spare.slot.release()


async def test_who_finds_none_is_counted_but_not_at_an_endpoint_that_has_none(
    standby: Standby, realtime: RealtimeSettings
) -> None:
    (endpoint,) = realtime.endpoints
    assert standby.take(endpoint) is None
    other = realtime.model_copy(update={"api_key": SecretStr("another")}).endpoints[0]
    assert standby.take(other) is None
    assert standby.counts == {"missed": 1}


async def test_one_is_closed_for_a_caller_who_waits_elsewhere(
    standby: Standby, server: StandinServer, control: Control
) -> None:
    await until(lambda: standby.ready == 2, "two stand by")
    key = control.sessions.linked()[0].key
    control.room = 0  # others wait
    control.sessions.told(SessionRecalled(key))
    await until(lambda: SessionLeft(key) in control.asked, "given back")
    await until(lambda: len(server.live) == 1, "closed")
    assert standby.ready == 1


async def test_one_that_is_called_back_while_it_opens_is_given_back(
    control: Control, server: StandinServer, realtime: RealtimeSettings
) -> None:
    """It is told once, and would stand idle while somebody waits in line for it."""
    server.faults = parse_faults(["slow-handshake=0.2"])
    standby = Standby(control.sessions)
    standby.follow(realtime.model_copy(update={"standby": 1}), None)
    await until(lambda: bool(control.sessions.linked()), "a place in the quota")
    key = control.sessions.linked()[0].key
    control.room = 0
    control.sessions.told(SessionRecalled(key))
    await until(lambda: SessionLeft(key) in control.asked, "given back")
    await until(lambda: not server.live, "closed")
    assert standby.ready == 0
    await standby.aclose()


async def test_of_two_workers_and_one_session_each_serves_its_caller(server: StandinServer) -> None:
    """The node's own count: what one worker has open in case somebody calls is not in another's way."""
    quota = Quota({"main": 1})
    workers: dict[str, Sessions] = {}

    def bring() -> None:
        told, quota.told = quota.told, []
        for run, what in told:
            workers[run].told(what)

    def hears(run: str) -> Any:
        def ask(asked: Any) -> None:
            if isinstance(asked, SessionWanted):
                quota.want(run, asked)
            else:
                quota.left(asked.key)
            asyncio.get_running_loop().call_soon(bring)  # as over the link

        return ask

    for run in "12":
        workers[run] = Sessions(hears(run))
    standby = Standby(workers["1"])
    standby.follow(RealtimeSettings(url=server.url, api_key=SecretStr("k"), standby=1, session_quota=1), None)
    await until(lambda: standby.ready == 1, "one stands by")
    slot = workers["2"].slot("call", {"main": 1})
    assert await slot.take("main")
    assert (standby.ready, server.live, quota.open("main")) == (0, [], 1)
    await standby.aclose()


async def test_one_that_is_lost_is_no_callers_and_is_replaced(
    standby: Standby, server: StandinServer, realtime: RealtimeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    await until(lambda: standby.ready == 2, "two stand by")
    before = set(server.live)
    server.misbehave(parse_faults(["drop@0"]))
    await until(lambda: standby.ready == 2 and not before & set(server.live), "two others")
    spare = standby.take(realtime.endpoints[0])
    assert spare is not None
    assert not spare.client.lost.done()
    await spare.client.aclose()
    spare.slot.release()


async def test_one_that_has_stood_too_long_is_replaced(
    standby: Standby, server: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.01)
    await until(lambda: len(server.sessions) >= 6, "replaced")
    await until(lambda: len(server.live) <= 2, "closed")


async def test_a_reload_lets_the_old_ones_go_and_the_same_configuration_changes_nothing(
    standby: Standby, server: StandinServer, realtime: RealtimeSettings
) -> None:
    await until(lambda: standby.ready == 2, "two stand by")
    standby.follow(realtime.model_copy(), None)
    assert standby.ready == 2
    standby.follow(realtime.model_copy(update={"standby": 1, "model": "other"}), None)
    await until(lambda: len(server.live) == 1 and standby.ready == 1, "the new one")
    standby.stop()
    await until(lambda: not server.live, "none is left")


async def test_a_refusal_is_no_reason_to_ask_again_at_once(
    control: Control, server: StandinServer, realtime: RealtimeSettings
) -> None:
    server.faults = parse_faults(["refuse-update"])
    standby = Standby(control.sessions)
    standby.follow(realtime, None)
    await until(lambda: len(server.sessions) == 2 and not server.live, "refused")
    await standby.aclose()
    assert len(server.sessions) == 2
    assert control.granted == set()


async def test_where_the_quota_is_used_up_none_is_opened(control: Control, realtime: RealtimeSettings) -> None:
    control.room = 0
    standby = Standby(control.sessions)
    standby.follow(realtime, None)
    await until(lambda: sum(isinstance(asked, SessionLeft) for asked in control.asked) == 2, "both asked")
    assert standby.ready == 0
    await asyncio.wait_for(standby.aclose(), 5)
