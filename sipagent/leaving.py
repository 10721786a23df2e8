"""Who leaves a call while it goes on: the agent, the agent's control, the room. What they counted stays."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from sipagent.callcontrol import CallControl
from sipagent.conversation import Conversation
from sipagent.room import Room
from sipagent.story import Story


class Leaving:
    """Of one call. Beside whatever comes next in it, since a closing handshake is a round trip.

    No tasks of the call's group, which its end would cancel: the session, its place in the quota, the legs and the
    bridge that they hold are given back by nobody else.
    """

    def __init__(self, call_id: str, story: Story) -> None:
        self._call_id, self._story = call_id, story
        self._tasks: set[asyncio.Task[None]] = set()

    def let_go(self, conversation: Conversation | None, control: CallControl | None, room: Room | None) -> None:
        """They go, those that there are; the room last."""
        leaving = self._leave(conversation, control, room)
        self._tasks.add(asyncio.create_task(leaving, name=f"call-leaving-{self._call_id}"))

    async def _leave(self, conversation: Conversation | None, control: CallControl | None, room: Room | None) -> None:
        async with AsyncExitStack() as last:
            if room is not None:
                last.callback(self._story.take_room, room)
                last.push_async_callback(room.close)
            if conversation is not None:
                last.callback(self._story.take_conversation, conversation)
                last.push_async_callback(conversation.close)
            if control is not None:
                await control.aclose()

    async def all_gone(self) -> None:
        """Return when everybody who ever left has gone; raises what one of them met."""
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks)
            self._tasks -= done
            for gone in done:
                gone.result()
