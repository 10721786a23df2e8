"""Where Asterisk has the caller while we do not: its queues, its mailboxes, somebody else's phone.

The caller goes on in the dialplan (extensions-elsewhere.conf) and comes back to the worker that sent them, with
one word for how it was. Until then we hear only of their end, since we keep watching the channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sipagent.ari.objects import ChannelHandle
from sipagent.config import Settings
from sipagent.flow.machine import Elsewhere, ToAgent, ToDial, ToQueue, ToVoicemail
from sipagent.routing.legs import dial_string, shown_number

BACK = "SIPAGENT_BACK"
"""Channel variable: the application to come back to."""


@dataclass(frozen=True, slots=True)
class Place:
    """An extension of the dialplan, and the channel variables it looks at."""

    context: str
    extension: str = "s"
    variables: Mapping[str, str] = field(default_factory=dict)


def place_of(elsewhere: Elsewhere, settings: Settings, group: str = "") -> Place:
    """Where in the dialplan that is; `group` of the channel that is dialled there, if one is."""
    match elsewhere:
        case ToQueue():
            wait_s = settings.queues[elsewhere.queue].timeout_s
            return Place("sipagent-queue", "s", {"SIPAGENT_QUEUE": elsewhere.queue, "SIPAGENT_WAIT": f"{wait_s:.0f}"})
        case ToVoicemail():
            context = "sipagent-messages" if elsewhere.listen else "sipagent-voicemail"
            return Place(context, "s", {"SIPAGENT_MAILBOX": elsewhere.mailbox})
        case ToDial():
            trunk = settings.trunks.get(elsewhere.trunk)
            return Place(
                "sipagent-dial",
                "s",
                {
                    "SIPAGENT_DIAL": dial_string(elsewhere.number, elsewhere.trunk, settings),
                    "SIPAGENT_WAIT": f"{elsewhere.timeout_s:.0f}",
                    "SIPAGENT_SHOWN": shown_number(elsewhere.trunk, settings),
                    "_SIPAGENT_GROUP": group,  # inherited by the channel that is dialled
                    "SIPAGENT_TRUNK": elsewhere.trunk if trunk else "",
                    "SIPAGENT_CHANNELS": str(trunk.channels) if trunk else "",
                },
            )
        case ToAgent():
            raise ValueError("an agent is with us")


def refer_to(target: ToDial, settings: Settings) -> Place | None:
    """Where Asterisk asks the caller's side to call somebody else (REFER); None without an address to give."""
    trunk = settings.trunks.get(target.trunk)
    if trunk is None or not trunk.hosts:
        return None
    return Place("sipagent-refer", "s", {"SIPAGENT_REFER": f"sip:{trunk.out(target.number)}@{trunk.hosts[0]}"})


async def prepare(channel: ChannelHandle, place: Place) -> None:
    """Give the caller the way back in hand; `continue_in` then sends them there."""
    # Before they leave, so that an end which follows at once is told.
    await channel.watch_elsewhere()
    for name, value in {BACK: channel.ari.app, **place.variables}.items():
        await channel.set_variable(name, value)
