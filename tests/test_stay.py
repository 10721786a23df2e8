"""One stay with an agent: the real visit, talk, media and pacer, the stand-in as the model, and no Asterisk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from sipagent import model, transfer
from sipagent import talk as talk_module
from sipagent import visit as visit_module
from sipagent.ari.client import ChannelEvents
from sipagent.audio import Law
from sipagent.caller import Caller
from sipagent.carried import Carried
from sipagent.config import Settings
from sipagent.config.destinations import Destination
from sipagent.conversation import Conversation
from sipagent.errors import AriRefused, RealtimeError
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import Prompts
from sipagent.house import Policy
from sipagent.leg import ANSWERED, Rung
from sipagent.orders import SessionAsked, SessionGranted, SessionWanted
from sipagent.recording import Recording
from sipagent.room import PROMPT, Room
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.transport import PacerTimer
from sipagent.sessions import Sessions
from sipagent.standin import Mode, StandinConfig
from sipagent.standin.faults import Faults, parse_faults
from sipagent.standin.pattern import pattern
from sipagent.standin.server import StandinServer
from sipagent.story import Story
from sipagent.transfer import Joined
from sipagent.visit import Visit
from sipagent.visitor import Visitor
from sipagent.worker import needed_prompts
from sipagent.xai.events import FunctionCall
from tests.waiting import until

CLOSED = pattern(Law.ULAW, 99, 0, 3200)
"""The fallback's announcement, unlike anything else that is said."""
VALUES: dict[str, Any] = {
    "agents": {
        "reception": {"instructions": "Be brief.", "greeting": "Hello.", "may_hold": True, "no_input_s": 2.0},
        "night": {"instructions": "Be brief.", "greeting": "Night."},
    },
    "announcements": {"closed": {"prompt": "We are closed."}},
    "menus": {"main": {"prompt": "Press one.", "keys": {"1": "agent:reception"}, "timeout_s": 60}},
}


class Wire:
    """What leaves for the caller."""

    foreign = 0

    def __init__(self) -> None:
        self.sent = bytearray()

    def connect(self, _remote: object) -> None:
        pass

    def send(self, datagram: bytes) -> None:
        self.sent += datagram[12:]


class HungUp(Exception):
    """As a call ends: whatever else runs for it is cancelled."""


class Stay:
    """A caller who came to `step`."""

    def __init__(self, server: StandinServer, step: str, changes: dict[str, Any], carried: Carried | None) -> None:
        loop = asyncio.get_running_loop()
        values = VALUES | {"realtime": {"url": server.url, "api_key": "k", "session_quota": 5, **changes}}
        self.server, self.settings = server, Settings(**values)
        audio = {(phrase, law): pattern(law, 50, 0, 1600) for phrase in needed_prompts(self.settings) for law in Law}
        audio[Phrase("We are closed.", "en"), Law.ULAW] = CLOSED
        self.wheel = Wheel(time.monotonic())
        self.events: list[model.CallEvent] = []
        self.wire = Wire()
        self._sessions = Sessions(lambda asked: loop.call_soon(self._grant, asked))
        house = MagicMock(settings=self.settings, wheel=self.wheel)
        house.policy = replace(Policy.of(self.settings, Prompts.of(audio)), sessions=self._sessions)
        channel = MagicMock(id="c", ring=AsyncMock(), answer=AsyncMock(), progress=AsyncMock())
        self.caller = Caller(channel, ChannelEvents("c"))
        story = Story("call", loop.time(), self.events.append, show=True)
        story.answered_s = 1.0 if carried else None
        visitor = Visitor("call", self.caller, "1", "e", Law.ULAW, {}, carried=carried)
        self._made = visitor, house, story
        self.visit: Visit
        self.step = Destination(step)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[Stay]:
        """Until the block ends."""
        timer = PacerTimer(self.wheel, asyncio.get_running_loop())
        visitor, house, story = self._made
        try:
            async with AsyncExitStack() as undo, asyncio.TaskGroup() as group:
                self.visit = Visit(visitor, house, story, Recording.of_nobody(), group, undo)
                undo.push_async_callback(self.visit.leave_room)
                group.create_task(self.visit.serve(self.step))
                yield self
                raise HungUp
        except* HungUp:
            pass
        finally:
            timer.close()

    def _grant(self, asked: SessionAsked) -> None:
        if isinstance(asked, SessionWanted):
            self._sessions.told(SessionGranted(asked.key, "main"))

    @property
    def room(self) -> Room:
        assert self.visit.room is not None
        return self.visit.room

    @property
    def conversation(self) -> Conversation:
        assert self.visit._conversation is not None
        return self.visit._conversation

    def of(self, kind: type[model.CallEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def answers(self) -> list[str]:
        """What an agent said, and no prompt, as it was measured."""
        return [event.item_id for event in self.of(model.AgentSpoke) if not event.item_id.startswith(PROMPT)]

    async def greeted(self) -> None:
        await until(lambda: bool(self.of(model.AgentSpoke)), "the greeting")
        await self.conversation.talk.until_quiet()

    async def put_on_hold(self, seconds: int = 60) -> None:
        """By the agent, as by any tool that has the room play something."""
        desk = self.conversation._desk
        assert desk is not None
        desk.called(FunctionCall("r", "f", "hold", f'{{"seconds": {seconds}}}'))
        desk.response_done("r", "completed")
        await until(lambda: bool(self.room.media.loop), "the music")


@pytest.fixture
def no_asterisk(monkeypatch: pytest.MonkeyPatch) -> list[Stay]:
    """Rooms are open at once; `stays` are asked which wire is theirs."""
    stays: list[Stay] = []

    async def open_(room: Room, _call_id: str) -> None:
        if room._bridge is None:
            room._bridge = MagicMock(add=AsyncMock())
            room.media.start(stays[-1].wire, ("", 0))  # type: ignore[arg-type]

    monkeypatch.setattr(Room, "open", open_)
    monkeypatch.setattr(Visit, "_mind_hearing", AsyncMock())
    return stays


Comes = Callable[..., Any]


@pytest.fixture
def comes(no_asterisk: list[Stay]) -> Comes:
    """`async with comes("agent:reception") as stay`: somebody is there."""

    @asynccontextmanager
    async def somebody(step: str, carried: Carried | None = None, **realtime: Any) -> AsyncIterator[Stay]:
        async with StandinServer(StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=400)) as server:
            stay = Stay(server, step, realtime, carried)
            no_asterisk.append(stay)
            async with stay.going_on():
                yield stay

    return somebody


async def lose(stay: Stay) -> None:
    """The session, for good."""

    async def none(_history: str) -> str:
        raise RealtimeError("away")

    stay.conversation.line.reopen = none  # type: ignore[method-assign]
    stay.server.misbehave(parse_faults(["drop@0"]))


async def test_a_tool_that_ends_late_takes_nothing_from_the_announcement_that_follows(
    comes: Comes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It puts an end to its music, and to nobody else's words."""
    monkeypatch.setitem(VALUES["agents"]["reception"], "fallback", "announcement:closed")
    async with comes("agent:reception") as stay:
        await stay.greeted()
        await stay.put_on_hold()
        await lose(stay)
        await until(lambda: stay.visit.at[0] == "announcement:closed", "the fallback")
        await until(lambda: CLOSED in bytes(stay.wire.sent), "all of it to be heard")


async def test_a_tool_that_ends_late_takes_nothing_from_the_agent_that_follows(
    comes: Comes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VALUES["agents"]["reception"], "fallback", "agent:night")
    async with comes("agent:reception") as stay:
        await stay.greeted()
        before = stay.conversation
        await stay.put_on_hold()
        await lose(stay)
        await until(lambda: len(stay.of(model.CallRetrieved)) == 1, "the end of the tool")
        await until(lambda: stay.of(model.Transcript)[-1].text == "Night.", "the other agent's greeting")
        assert stay.conversation is not before
        assert stay.room.media.to_model == stay.conversation.talk.kept.take
        assert stay.room.media.on_talk == stay.conversation.talk._on_talk


async def test_music_of_two_ends_with_both(comes: Comes) -> None:
    """A tool holds the caller, and meanwhile they stand in line for another session."""
    async with comes("agent:reception", waiting={}) as stay:
        await stay.greeted()
        await stay.put_on_hold(seconds=4)
        stay.server.faults = parse_faults(["refuse=429"])
        stay.server.misbehave(parse_faults(["drop@0"]))
        await until(lambda: not stay.room.media.loop, "the tool's music to give way to the word")
        await until(lambda: bool(stay.room.media.loop), "the line's music")
        stay.server.faults = Faults()
        await until(lambda: bool(stay.of(model.SessionRecovered)), "another session")
        await until(lambda: bool(stay.of(model.CallRetrieved)), "the end of the tool")
        media = stay.room.media
        assert (media.sealed, media.loop) == (0, b"")
        assert media.on_quiet == stay.conversation.talk._on_quiet
        await until(lambda: len(stay.answers()) == 2, "the agent, measured as ever")


async def test_no_patience_runs_while_the_caller_holds_us_whatever_happens_to_the_session(comes: Comes) -> None:
    async with comes("agent:reception") as stay:
        await stay.greeted()
        stay.caller.on_hold(True)
        stay.server.misbehave(parse_faults(["drop@0"]))
        await until(lambda: bool(stay.of(model.SessionRecovered)), "another session")
        talk = stay.conversation.talk
        assert talk._no_input is not None
        assert talk._no_input.deadline is None
        stay.caller.on_hold(False)
        assert talk._no_input.deadline is not None


async def test_who_takes_the_place_of_one_who_held_us_is_heard(comes: Comes) -> None:
    """A phone holds, and asks by REFER that we go on with somebody else."""
    async with comes("agent:reception") as stay:
        await stay.greeted()
        stay.caller.on_hold(True)
        assert stay.room.media.to_model is None
        stay.caller.become(MagicMock(id="new"), ChannelEvents("new"))
        assert stay.room.media.to_model == stay.conversation.talk.kept.take
        assert not stay.room.media.held


async def test_who_holds_us_before_there_is_an_agent_is_not_heard_until_they_are_back(comes: Comes) -> None:
    async with comes("menu:main") as stay:
        await until(lambda: stay.visit._flow.deadline is not None, "the menu to be heard")
        stay.caller.on_hold(True)
        stay.caller.on_key("1")
        await until(lambda: bool(stay.of(model.SessionOpened)), "the agent")
        assert stay.room.media.to_model is None
        stay.caller.on_hold(False)
        assert stay.room.media.to_model == stay.conversation.talk.kept.take


@pytest.mark.parametrize("conversation", ["", "of-the-menus-listener"])
async def test_who_was_adopted_in_a_menu_is_greeted_by_the_agent_they_come_to(comes: Comes, conversation: str) -> None:
    """They have had no talk with this one, whoever listened before."""
    carried = Carried(
        app="a-1", call_id="call", endpoint="e", called="100", caller="1", law="ulaw", started_at=time.time(),
        answered=True, step="menu:main", realtime_endpoint="main" if conversation else "", conversation_id=conversation,
    )  # fmt: skip
    async with comes("menu:main", carried) as stay:
        await until(lambda: stay.visit._flow.deadline is not None, "the menu to be heard")
        stay.caller.on_key("1")
        await until(lambda: bool(stay.of(model.Transcript)), "what the agent says")
        assert [event.text for event in stay.of(model.Transcript)] == ["Hello."]
        assert [event.conversation_id == conversation for event in stay.of(model.SessionOpened)] == [False]


async def test_who_held_us_when_their_worker_died_is_not_heard_until_they_are_back(comes: Comes) -> None:
    carried = Carried(
        app="a-1", call_id="call", endpoint="e", called="100", caller="1", law="ulaw", started_at=time.time(),
        answered=True, step="agent:reception", held=True,
    )  # fmt: skip
    async with comes("agent:reception", carried) as stay:
        await until(lambda: bool(stay.of(model.SessionOpened)), "the agent")
        assert (stay.room.media.held, stay.room.media.to_model) == (True, None)
        stay.caller.on_hold(False)
        assert (stay.room.media.held, stay.room.media.to_model) == (False, stay.conversation.talk.kept.take)


async def test_the_time_of_a_hold_is_not_taken_from_a_menus_patience(comes: Comes) -> None:
    async with comes("menu:main") as stay:
        await until(lambda: stay.visit._flow.deadline is not None, "the menu to be heard")
        flow, now = stay.visit._flow, asyncio.get_running_loop().time()
        assert flow.deadline is not None
        left_s = flow.deadline - now
        stay.caller.on_hold(True)
        flow.deadline -= 2 * left_s  # as if they had held us for longer than they had left
        stay.visit._held_s -= 2 * left_s
        stay.visit._woken.set()  # by whatever happens meanwhile
        await asyncio.sleep(0)
        stay.caller.on_hold(False)
        assert flow.deadline is not None
        assert flow.deadline > asyncio.get_running_loop().time()
        assert stay.of(model.StepRetried) == []


async def test_what_a_tool_found_while_there_was_no_session_is_told_to_the_next(comes: Comes) -> None:
    async with comes("agent:reception") as stay:
        await stay.greeted()
        await stay.put_on_hold(seconds=1)
        line, ended = stay.conversation.line, asyncio.Event()
        first_of = line._first_of

        async def late(*args: Any, **options: Any) -> None:
            await ended.wait()
            await first_of(*args, **options)

        line._first_of = late  # type: ignore[method-assign]
        stay.server.misbehave(parse_faults(["drop@0"]))
        await until(lambda: bool(stay.of(model.ToolReturned)), "the tool")
        ended.set()
        await until(lambda: bool(stay.of(model.SessionRecovered)), "another session")
        told = stay.server.sessions[-1].record.received_types
        await until(lambda: "conversation.item.create" in told and "response.create" in told, "the result")


async def test_what_waited_for_the_end_of_an_answer_that_the_session_took_with_it_is_told_to_the_next(
    comes: Comes,
) -> None:
    async with comes("agent:reception") as stay:
        await stay.greeted()
        talk = stay.conversation.talk
        talk.lost()
        talk.send_results({"f": "found"}, respond=True)
        assert talk._late == {"f": "found"}


async def test_an_answer_behind_an_announcement_is_noticed(comes: Comes) -> None:
    """Else the agent would be asked whether it is there while it speaks."""
    async with comes("agent:reception") as stay:
        await stay.greeted()
        media, spoken = stay.room.media, len(stay.of(model.AgentSpoke))
        media.sealed += 1
        media.play("announcement", pattern(Law.ULAW, 7, 0, 1600))
        media.play("answer", pattern(Law.ULAW, 8, 0, 6400))
        media.play_end("answer")
        await until(lambda: media.queue.item_id == "announcement", "the announcement")
        await until(lambda: media.queue.item_id == "answer", "its end")
        media.sealed -= 1
        await until(lambda: len(stay.of(model.AgentSpoke)) > spoken, "the answer to be noticed")


async def test_a_hold_of_which_nothing_more_is_heard_is_doubted(comes: Comes, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have come back while no worker was there."""
    monkeypatch.setattr(visit_module, "HOLD_DOUBTED_S", 0.01)
    carried = Carried(
        app="a-1", call_id="call", endpoint="e", called="100", caller="1", law="ulaw", started_at=time.time(),
        answered=True, step="agent:reception", held=True,
    )  # fmt: skip
    async with comes("agent:reception", carried) as stay:
        await until(lambda: bool(stay.of(model.CallRetrieved)), "the doubt")
        await until(lambda: bool(stay.of(model.SessionOpened)), "the agent")
        assert stay.room.media.to_model == stay.conversation.talk.kept.take


@pytest.mark.parametrize("how", ["dial", "warm", "conference"])
async def test_a_colleague_who_hangs_up_at_once_leaves_the_caller_with_an_agent_that_hears(
    comes: Comes, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    gone = AriRefused("POST", "channels/x/variable", 404, "Channel not found")
    trunk = {"preset": "generic-ip", "hosts": ["192.0.2.1"], "networks": ["192.0.2.1"], "numbers": ["100"]}
    monkeypatch.setitem(VALUES, "trunks", {"office": trunk})
    monkeypatch.setitem(VALUES, "transfers", {"boss": {"to": "dial:201@office", "description": "Boss", "how": how}})
    monkeypatch.setitem(VALUES["agents"]["reception"], "transfers", ["boss"])
    leg, released = MagicMock(ring=AsyncMock(return_value=Rung(ANSWERED))), list[bool]()
    leg.channel.set_variable = AsyncMock(side_effect=None if how == "conference" else gone)

    @asynccontextmanager
    async def leg_out(*_: object) -> AsyncIterator[Any]:
        try:
            yield leg
        finally:
            released.append(True)

    monkeypatch.setattr(transfer, "leg_out", leg_out)
    async with comes("agent:reception") as stay:
        await stay.greeted()
        stay.caller.channel.set_variable = AsyncMock()  # type: ignore[method-assign]
        stay.room.admit = AsyncMock(side_effect=gone)  # type: ignore[method-assign]
        desk = stay.conversation._desk
        assert desk is not None
        desk.called(FunctionCall("r", "f", "transfer_call", '{"target": "boss"}'))
        desk.response_done("r", "completed")
        await until(lambda: bool(stay.of(model.ToolReturned)), "what became of it")
        (ended,) = stay.of(model.TransferEnded)
        assert "404" in ended.result
        assert stay.room.media.to_model == stay.conversation.talk.kept.take
        assert released == [True]


async def test_who_takes_a_caller_over_that_hangs_up_at_that_moment_is_let_go(comes: Comes) -> None:
    undo, released = AsyncExitStack(), list[bool]()
    undo.callback(released.append, True)
    async with comes("agent:reception") as stay:
        await stay.greeted()
        assert stay.visit.taken_over(Joined("anna", MagicMock(), undo))
        assert not stay.visit.taken_over(Joined("bob", MagicMock(), AsyncExitStack()))
    assert released == [True]


@pytest.mark.parametrize("silence_ms", [0, 200])
async def test_a_goodbye_that_begins_with_silence_is_heard_to_its_end(comes: Comes, silence_ms: int) -> None:
    """All of it has come before its first sound has left."""
    goodbye = pattern(Law.ULAW, 77, 0, 3200)
    async with comes("agent:reception") as stay:
        await stay.greeted()
        stay.room.media.play("goodbye", b"\xff" * silence_ms * 8 + goodbye)
        stay.room.media.play_end("goodbye")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await stay.conversation.talk.until_quiet()
        assert goodbye in bytes(stay.wire.sent)


@pytest.mark.parametrize(("fault", "heard"), [("", True), ("stuck", False)])
async def test_a_last_word_longer_than_the_wait_for_its_beginning_is_heard_and_one_that_never_comes_is_not(
    comes: Comes, monkeypatch: pytest.MonkeyPatch, fault: str, heard: bool
) -> None:
    async with comes("agent:reception") as stay:
        await stay.greeted()
        monkeypatch.setattr(talk_module, "SPOKEN_TIMEOUT_S", 0.3)
        if fault:
            stay.server.misbehave(parse_faults([fault]))
        assert await stay.conversation.talk.say_last("Your bicycle is ready.") is heard
