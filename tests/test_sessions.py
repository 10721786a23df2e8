"""A worker's end: it asks, waits its turn, and has a rule for when nobody answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sipagent import sessions
from sipagent.orders import SessionGranted, SessionLeft, SessionPlace, SessionWanted
from sipagent.sessions import Sessions


class Control:
    """The control process, as far as this worker sees it."""

    def __init__(self, workers: int = 1) -> None:
        self.asked: list[Any] = []
        self.sessions = Sessions(self._hear, workers)
        self.answers: list[Any] = []

    def _hear(self, asked: Any) -> None:
        self.asked.append(asked)
        if isinstance(asked, SessionWanted) and self.answers:
            self.tell(self.answers.pop(0), asked.key)

    def tell(self, answer: Any, key: str) -> None:
        self.sessions.told(SessionPlace(key, answer) if isinstance(answer, int) else SessionGranted(key, answer))


async def test_an_endpoint_without_a_quota_is_nobodys_business() -> None:
    control = Control()
    assert await control.sessions.slot("call", {}).take("main")
    assert control.asked == []


async def test_a_session_is_asked_for_once_and_given_back() -> None:
    control = Control()
    control.answers = ["main"]
    slot = control.sessions.slot("call", {"main": 1})
    assert await slot.take("main")
    assert await slot.take("main")  # a reconnection
    assert [held.call_id for held in control.sessions.linked()] == ["call"]
    slot.release()
    slot.release()
    assert [type(asked) for asked in control.asked] == [SessionWanted, SessionLeft]
    assert control.sessions.linked() == ()


async def test_whose_right_was_refused_has_their_turn_at_once_also_when_nobody_counts_any_more() -> None:
    control = Control()
    control.answers = ["main"]
    slot = control.sessions.slot("call", {"main": 1})
    assert await slot.take("main")
    async with asyncio.timeout(5):  # the control process is away, and answers nobody
        await slot.turn(lambda _place: None)
    assert slot.endpoint == "main"
    assert [type(asked) for asked in control.asked] == [SessionWanted]


async def test_who_does_not_want_to_wait_leaves_the_line() -> None:
    control = Control()
    control.answers = [3]
    assert not await control.sessions.slot("call", {"main": 1}).take("main")
    assert [type(asked) for asked in control.asked] == [SessionWanted, SessionLeft]


async def test_who_waits_hears_their_place_until_it_is_their_turn() -> None:
    control = Control()
    control.answers = [2]
    slot, places = control.sessions.slot("call", {"main": 1, "second": 1}), list[int]()
    waiting = asyncio.ensure_future(slot.turn(places.append))
    await asyncio.sleep(0)
    assert control.asked[0].endpoints == ("main", "second")
    control.tell(1, slot.key)
    await asyncio.sleep(0)
    control.tell("second", slot.key)
    await waiting
    assert (slot.endpoint, places[-1]) == ("second", 1)
    assert await slot.take("second")


async def test_who_hangs_up_in_line_leaves_it() -> None:
    control = Control()
    control.answers = [1]
    waiting = asyncio.ensure_future(control.sessions.slot("call", {"main": 1}).turn(lambda _place: None))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert isinstance(control.asked[-1], SessionLeft)


async def test_who_waits_asks_again_when_somebody_else_counts() -> None:
    control = Control()
    control.answers = [1]
    waiting = asyncio.ensure_future(control.sessions.slot("call", {"main": 1}).turn(lambda _place: None))
    await asyncio.sleep(0)
    control.answers = ["main"]
    control.sessions.linked()
    await waiting


async def test_while_nobody_answers_each_worker_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ANSWER_WITHIN_S", 0.0)
    control = Control(workers=2)
    slots = [control.sessions.slot(f"call {number}", {"main": 4}) for number in range(3)]
    assert [await slot.take("main") for slot in slots] == [True, True, False]
    slots[0].release()
    assert await slots[2].take("main")


async def test_who_is_told_that_one_is_being_closed_for_them_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()
    slot = control.sessions.slot("call", {"main": 1})
    taking = asyncio.ensure_future(slot.take("main"))
    await asyncio.sleep(0)
    control.sessions.told(SessionPlace(slot.key, 1, soon=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not taking.done()
    control.tell("main", slot.key)
    assert await taking
    # And when that comes to nothing, not for ever.
    monkeypatch.setattr(sessions, "RECALLED_WITHIN_S", 0.0)
    late = control.sessions.slot("other", {"main": 1})
    taking = asyncio.ensure_future(late.take("main"))
    await asyncio.sleep(0)
    control.sessions.told(SessionPlace(late.key, 1, soon=True))
    assert not await taking
    assert isinstance(control.asked[-1], SessionLeft)
