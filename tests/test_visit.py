"""Who leaves a visit is let finish: what they hold, nobody else gives back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from unittest.mock import AsyncMock, MagicMock

from sipagent.audio import Law
from sipagent.call_over import CallOver
from sipagent.errors import AriRefused
from sipagent.flow import machine
from sipagent.outcome import CallOutcome, Reason
from sipagent.transfer import Joined
from sipagent.visit import Visit
from sipagent.visitor import Visitor

HANG_UP = CallOver(CallOutcome(Reason.CALLER_HANGUP))


class Leaving:
    """A conversation whose closing handshake is a round trip."""

    def __init__(self, closing: asyncio.Event) -> None:
        self.talk = MagicMock()
        self._closing, self.answered = closing, asyncio.Event()
        self.closed = False

    async def close(self) -> None:
        self._closing.set()
        await self.answered.wait()
        self.closed = True


class Stay:
    """A caller who is with somebody; the call ends as soon as what happens in it is over."""

    def __init__(self) -> None:
        self.hangs_up = asyncio.Event()
        self.ends: list[CallOutcome] = []
        self.conversation, self.room, self.story = Leaving(self.hangs_up), MagicMock(), MagicMock()
        self.room.join, self.room.close, self.caller = AsyncMock(), AsyncMock(), MagicMock()

    def _visit(self, group: asyncio.TaskGroup, undo: AsyncExitStack) -> Visit:
        visitor = Visitor("call", self.caller, "", "", Law.ULAW, {})
        house = MagicMock()
        house.settings.queues = {"sales": MagicMock(timeout_s=1.0)}
        visit = Visit(visitor, house, self.story, MagicMock(), group, undo)
        visit._room, visit._conversation = self.room, self.conversation  # type: ignore[assignment]
        undo.push_async_callback(visit.leave_room)
        return visit

    async def until_over(self, *happenings: object) -> None:
        """These happen, and before the model's server has answered the closing, the caller hangs up."""
        async with AsyncExitStack() as undo:
            try:
                async with asyncio.TaskGroup() as group:
                    visit = self._visit(group, undo)
                    group.create_task(self._hang_up())
                    for happening in happenings:
                        if isinstance(happening, Joined):
                            await visit._after(happening)
                        else:
                            await visit._do(happening)  # type: ignore[arg-type]
            except* CallOver as over:
                self.ends = [end.outcome for end in over.exceptions if isinstance(end, CallOver)]
            self.conversation.answered.set()

    async def _hang_up(self) -> None:
        await self.hangs_up.wait()
        raise HANG_UP

    def nothing_is_held(self) -> bool:
        """The session is over and counted, and the room is gone."""
        self.story.take_conversation.assert_called_once_with(self.conversation)
        self.room.close.assert_awaited_once()
        return self.conversation.closed


def colleague() -> Joined:
    undo = MagicMock()
    undo.aclose = AsyncMock()
    return Joined("sales", MagicMock(), undo)


async def test_a_listener_whose_menu_ends_the_call_is_closed() -> None:
    stay = Stay()
    await stay.until_over(machine.StopListening())
    assert stay.nothing_is_held()


async def test_an_agent_whose_caller_hangs_up_while_they_are_joined_is_closed() -> None:
    stay = Stay()

    async def join(_channel: object) -> None:
        stay.hangs_up.set()
        await asyncio.Event().wait()

    stay.room.join.side_effect = join
    await stay.until_over(colleague())
    assert stay.nothing_is_held()


async def test_an_agent_whose_colleague_hung_up_at_once_is_closed() -> None:
    stay = Stay()
    stay.room.join.side_effect = AriRefused("POST", "bridges/b/addChannel", 422, "Channel not in Stasis")
    await stay.until_over(colleague())
    assert stay.nothing_is_held()
    assert CallOutcome(Reason.COMPLETED, "sales hung up at once") in stay.ends


async def test_an_agent_whose_caller_hangs_up_on_the_way_elsewhere_is_closed() -> None:
    stay = Stay()
    await stay.until_over(machine.ToQueue("sales"))
    assert stay.nothing_is_held()
