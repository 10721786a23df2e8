"""A machine has answered a call out: what it gets, and the end of the call."""

from __future__ import annotations

from collections.abc import Mapping

from sipagent.ari.objects import ChannelHandle
from sipagent.call_over import CallOver
from sipagent.conversation import instructed
from sipagent.model import Disposition
from sipagent.orders import Originate
from sipagent.outbound import Detector
from sipagent.outcome import CallOutcome, Reason
from sipagent.talk import Talk


async def leave_machine(
    talk: Talk, channel: ChannelHandle, order: Originate, disposition: Disposition, variables: Mapping[str, str]
) -> None:
    """The agent is quiet; an answering machine gets the order's message, if it has one, after its tone.

    Raises:
        CallOver: always, when that is done.
    """
    talk.silence()
    talk.hold()
    if order.machine == "message" and disposition is Disposition.MACHINE:
        await Detector(channel).until_tone()
        if not await talk.say_last(instructed(order.message, variables)):
            raise CallOver(
                CallOutcome(Reason.REALTIME_SILENT, "the message for a machine was not spoken, or not to its end")
            )
        raise CallOver(CallOutcome(Reason.COMPLETED, "a message was left on a machine"))
    raise CallOver(CallOutcome(Reason.COMPLETED, f"a {disposition} answered"))
