"""The line to the voice model, without a model."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from sipagent import line as line_module
from sipagent.control.quota import Quota
from sipagent.errors import RealtimeError, RealtimeFull, RealtimeRefused
from sipagent.line import TOO_MANY, Line
from sipagent.orders import SessionAsked, SessionGranted, SessionLeft, SessionWanted
from sipagent.sessions import Sessions
from sipagent.xai.health import FAILURES, Health


async def test_who_is_not_let_wait_for_the_closing_gives_its_session_back_all_the_same() -> None:
    asked: list[Any] = []

    def control(what: Any) -> None:
        asked.append(what)
        if isinstance(what, SessionWanted):
            sessions.told(SessionGranted(what.key, "main"))

    sessions, policy, closing = Sessions(control), MagicMock(), asyncio.Event()
    policy.sessions, policy.settings.realtime.quotas = sessions, {"main": 1}
    line = Line(MagicMock(), policy, MagicMock(), MagicMock(), "call")
    assert await line._slot.take("main")

    async def aclose() -> None:
        closing.set()
        await asyncio.Event().wait()

    line._client = MagicMock(aclose=aclose)
    line._client.uplink.dropped_frames, line._client.session.counts = 0, {"backlog_dropped": 0}
    leaving = asyncio.create_task(line.aclose())
    await closing.wait()
    leaving.cancel()
    await asyncio.wait({leaving})
    assert isinstance(asked[-1], SessionLeft)
    assert sessions.linked() == ()
    for task in line._closing:
        task.cancel()


FULL, AWAY, GIVES = RealtimeRefused(TOO_MANY, "too many sessions"), RealtimeError("away"), None


class Node:
    """One worker and its control process, with the real count, and endpoints that answer as they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], names: tuple[str, ...]) -> None:
        self.quota, self.sessions = Quota(limits), Sessions(self._asked)
        self.policy: Any = MagicMock(sessions=self.sessions, health=Health())
        self.policy.standby.take.return_value = None
        realtime = self.policy.settings.realtime
        realtime.quotas, realtime.connect_timeout_s = limits, 5.0
        realtime.endpoints = tuple(SimpleNamespace(name=name) for name in names)
        self.answers: dict[str, list[RealtimeError | None]] = {}
        """Of each endpoint, one after the other; then it gives sessions."""
        self.dialled: list[str] = []
        self.hangs = asyncio.Event()
        node = self

        async def answer(line: Line, endpoint: Any, *_how: object) -> None:
            node.dialled.append(endpoint.name)
            answer = node.answers[endpoint.name].pop(0) if node.answers.get(endpoint.name) else GIVES
            if answer is not None:
                raise answer
            line._endpoint = endpoint.name

        monkeypatch.setattr(Line, "_try", answer)
        monkeypatch.setattr(line_module, "ASK_AGAIN_S", 0.0)

    def _asked(self, asked: SessionAsked) -> None:
        if isinstance(asked, SessionWanted):
            self.quota.want("1", asked)
        else:
            self.quota.left(asked.key)
        told, self.quota.told = self.quota.told, []
        for _, what in told:
            self.sessions.told(what)

    def line(self, call_id: str, known: tuple[str, str] | None = None) -> Line:
        return Line(MagicMock(), self.policy, MagicMock(), MagicMock(), call_id, known)

    def holders(self) -> dict[str, str]:
        """Which call has a session where."""
        return {held.call_id: held.endpoint for held in self.sessions.linked()}


async def newcomer(node: Node) -> asyncio.Task[None]:
    """Somebody stands in line for whatever is free."""
    waiting = asyncio.create_task(node.line("new").turn(lambda _place: None))
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_who_goes_on_with_a_talk_keeps_their_place_while_the_provider_still_counts_the_lost_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(monkeypatch, {"main": 1}, ("main",))
    talk = node.line("talk", ("main", "conversation"))
    assert await talk._slot.take("main")
    waiting = await newcomer(node)
    node.answers["main"] = [FULL, FULL]
    await talk.reopen("")
    assert node.dialled == ["main"] * 3
    assert node.holders() == {"talk": "main"}
    await talk.aclose()
    await waiting
    assert node.holders() == {"new": "main"}


async def test_a_provider_that_does_not_forget_puts_them_in_line_and_it_is_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "FORGOTTEN_WITHIN_S", -1.0)
    node = Node(monkeypatch, {"main": 1}, ("main",))
    talk = node.line("talk", ("main", "conversation"))
    assert await talk._slot.take("main")
    waiting = await newcomer(node)
    node.answers["main"] = [FULL]
    with pytest.raises(RealtimeFull):
        await talk.reopen("")
    await talk.turn(MagicMock(side_effect=AssertionError("they have a place")))
    await talk.reopen("")
    assert node.holders() == {"talk": "main"}
    waiting.cancel()
    await talk.aclose()


async def test_another_endpoint_that_has_no_room_or_is_away_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, {"main": 1, "second": 1}, ("main", "second", "third"))
    talk, other = node.line("talk", ("main", "conversation")), node.line("other")
    assert await talk._slot.take("main")
    assert await other._slot.take("second")
    waiting = await newcomer(node)
    node.answers = {"main": [FULL], "third": [AWAY]}
    await talk.reopen("")
    assert node.dialled == ["main", "third", "main"]
    assert node.holders() == {"talk": "main", "other": "second"}
    waiting.cancel()


async def test_who_finds_a_session_elsewhere_gives_the_refused_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, {"main": 1, "second": 1}, ("main", "second"))
    talk = node.line("talk", ("main", "conversation"))
    assert await talk._slot.take("main")
    node.answers["main"] = [FULL]
    await talk.reopen("")
    assert node.holders() == {"talk": "second"}
    assert await node.line("new")._slot.take("main")


async def test_also_where_nobody_counts_a_talk_asks_again_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, {}, ("main",))
    talk = node.line("talk", ("main", "conversation"))
    node.answers["main"] = [FULL] * (FAILURES + 1)
    health = node.policy.health
    monkeypatch.setattr(health, "good", MagicMock())  # so that what was counted stays
    await talk.reopen("")
    assert node.dialled == ["main"] * (FAILURES + 2)
    assert health.away(asyncio.get_running_loop().time()) == []  # for others: one caller's patience is no news of it
    node.answers["main"] = [AWAY]
    with pytest.raises(RealtimeError, match="away"):
        await talk.reopen("")
    monkeypatch.setattr(line_module, "FORGOTTEN_WITHIN_S", -1.0)
    node.answers["main"] = [FULL]
    with pytest.raises(RealtimeRefused):
        await talk.reopen("")


async def test_whose_turn_it_was_and_who_is_refused_by_all_keeps_the_first_of_their_rights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(monkeypatch, {"main": 1, "second": 1}, ("main", "second"))
    talk = node.line("talk")
    node.answers = {"main": [FULL, FULL], "second": [FULL, FULL]}
    with pytest.raises(RealtimeFull):
        await talk.open()
    assert node.holders() == {}  # not everybody asks again: the keys of a menu work without a model
    await talk.turn(MagicMock())
    with pytest.raises(RealtimeFull):
        await talk.open()
    assert node.holders() == {"talk": "main"}
    talk.give_up()
    assert node.holders() == {}


@pytest.mark.parametrize("where", ["asks", "dials"])
async def test_who_hangs_up_meanwhile_leaves_no_place_behind(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    node = Node(monkeypatch, {"main": 1, "second": 1}, ("main", "second"))
    if where == "asks":
        node.sessions.ask = MagicMock()  # nobody answers
    else:

        async def hangs(_line: Line, *_how: object) -> None:
            await node.hangs.wait()

        monkeypatch.setattr(Line, "_try", hangs)
    talk = node.line("talk")
    opening = asyncio.create_task(talk.open())
    while not node.sessions._slots:  # noqa: ASYNC110  (steps of the loop, and no time)
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait({opening})
    assert len(node.holders()) == (0 if where == "asks" else 1)  # the provider may have one half open
    await talk.aclose()
    assert node.sessions._slots == {}
    assert node.quota.open("main") == 0
