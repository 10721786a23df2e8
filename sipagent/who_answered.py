"""A call out has been answered: by whom is found out beside the talk, and a machine gets what it is to get.

Who says hello never waits for a verdict. Asterisk's detector gives one; the agent may say it too, when it hears a
greeting that the detector took for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sipagent import model
from sipagent.audio import PTIME_MS
from sipagent.call_over import CallOver
from sipagent.caller import Caller
from sipagent.config import Agent
from sipagent.conversation import Conversation, instructed
from sipagent.model import Disposition
from sipagent.orders import Originate
from sipagent.outbound import Detector
from sipagent.outcome import CallOutcome, Reason
from sipagent.story import Story
from sipagent.talk import Talk

WE_CALLED = """
You have called them; they did not call you. When they have said hello, begin with: {greeting}
"""
WHY = """You call because: {reason}
"""


class WhoAnswered:
    """Of one call out, as long as nobody has said."""

    def __init__(
        self,
        order: Originate,
        who: Caller,
        story: Story,
        group: asyncio.TaskGroup,
        variables: Mapping[str, str],
    ) -> None:
        """Tasks run in the call's `group`; `variables` go into the message."""
        self._order, self._who, self._story, self._group = order, who, story, group
        self._variables = variables
        self.conversation: Conversation | None = None
        """Of whoever has them now."""

    def instructions(self, agent: Agent, variables: Mapping[str, str]) -> str:
        """What the agent is to know beside its own instructions, with placeholders."""
        return WE_CALLED.format(greeting=agent.greeting) + (WHY if "reason" in variables else "")

    def listen(self) -> None:
        """Find out from their first sound on, where the order asks for it."""
        if self._order.detect:
            self._group.create_task(self._detect())

    async def _detect(self) -> None:
        disposition, why = await Detector(self._who.channel).who()
        await self._classified(disposition, "detector", why)

    def agent_says_machine(self) -> None:
        """The agent has heard it."""
        self._group.create_task(self._classified(Disposition.MACHINE, "agent", ""))

    async def _classified(self, disposition: Disposition, said_by: str, detail: str) -> None:
        """Somebody knows. A machine gets what it is to get, and the call is over."""
        if self._story.disposition in {Disposition.MACHINE, Disposition.FAX}:
            return
        self._story.tell(model.Classified, disposition=disposition, said_by=said_by, detail=detail)
        conversation, is_machine = self.conversation, disposition in {Disposition.MACHINE, Disposition.FAX}
        if is_machine and conversation is not None and self._order.machine != "agent":
            await self._leave_machine(conversation.talk, disposition)

    async def _leave_machine(self, talk: Talk, disposition: Disposition) -> None:
        """The agent is quiet; an answering machine gets the order's message, if it has one, after its tone.

        Raises:
            CallOver: always, when that is done.
        """
        while talk.sealed:  # noqa: ASYNC110 - for two seconds of a call: that it is recorded is heard to its end
            await asyncio.sleep(PTIME_MS / 1000)
        talk.silence()
        talk.hold()
        if self._order.machine == "message" and disposition is Disposition.MACHINE:
            await Detector(self._who.channel).until_tone()
            if not await talk.say_last(instructed(self._order.message, self._variables)):
                raise CallOver(
                    CallOutcome(Reason.REALTIME_SILENT, "the message for a machine was not spoken, or not to its end")
                )
            raise CallOver(CallOutcome(Reason.COMPLETED, "a message was left on a machine"))
        raise CallOver(CallOutcome(Reason.COMPLETED, f"a {disposition} answered"))
