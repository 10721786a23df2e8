"""Queues and mailboxes of sipagent.toml as Asterisk's sections (app_queue, app_voicemail)."""

from __future__ import annotations

from collections.abc import Mapping

from sipagent.asterisk.trunks import extensions
from sipagent.config import Settings
from sipagent.config.ivr import Mailbox, Queue
from sipagent.patterns import KEYS
from sipagent.routing.legs import dial_string

_BACK = "Gosub(sipagent-back,s,1(${EXTEN}))"


def files(settings: Settings) -> dict[str, str]:
    """Everything that queues and mailboxes need, as text by file name under Asterisk's `etc`."""
    out = {}
    if settings.queues:
        out["queues.d/queues.conf"] = "\n".join(queue(name, one, settings) for name, one in settings.queues.items())
        out["dialplan.d/queues.conf"] = "\n".join(exits(name, one) for name, one in settings.queues.items() if one.keys)
    if settings.mailboxes:
        out["voicemail.d/mailboxes.conf"] = mailboxes(settings.mailboxes)
    return out


def queue(name: str, one: Queue, settings: Settings) -> str:
    """One section of queues.conf."""
    options = {
        "strategy": one.strategy,
        "timeout": f"{one.ring_s:.0f}",
        "retry": "1",
        "wrapuptime": "0",
        "maxlen": str(one.max_callers),
        "musicclass": "default",
        "announce-position": "yes" if one.announce_position else "no",
        "announce-frequency": f"{one.announce_every_s:.0f}" if one.announce_position else "0",
        "announce-holdtime": "no",
        "ringinuse": "no",
        "autofill": "yes",
        # Nobody there who could answer: the caller goes on at once instead of waiting for nothing.
        "joinempty": "unavailable,invalid",
        "leavewhenempty": "unavailable,invalid",
    }
    if one.keys:
        options["context"] = _exits(name)
    lines = [f"[{name}]", *(f"{key} = {value}" for key, value in options.items())]
    for member in one.members:
        number, endpoint = split_member(member)
        # Whether somebody is there is known of the endpoint, not of each of its extensions. It is in use with any one
        # call up; an extension behind a trunk rings all the same (the last field is its own ringinuse), and says itself
        # that it is busy.
        line = f"member => {dial_string(number, endpoint, settings)},0,{member},PJSIP/{endpoint}"
        lines.append(line + (",yes" if number and endpoint in settings.trunks else ""))
    return "\n".join(lines) + "\n"


def exits(name: str, one: Queue) -> str:
    """The keys that take a caller out of a queue; Asterisk passes over the others, so nobody loses their place."""
    out = [exten for key in one.keys for exten in ([key] if set(key) <= set(KEYS) else extensions(key))]
    return "\n".join([f"[{_exits(name)}]", *(f"exten => {exten},1,{_BACK}" for exten in out)]) + "\n"


def _exits(queue: str) -> str:
    return f"sipagent-queue-keys.{queue}"


def mailboxes(boxes: Mapping[str, Mailbox]) -> str:
    """The context of voicemail.conf that holds them all."""
    lines = ["[sipagent]"]
    for name, box in boxes.items():
        options = f"attach={'yes' if box.email else 'no'}|maxsecs={box.max_message_s:.0f}"
        lines.append(f"{name} => {box.pin.get_secret_value()},{name},{box.email},,{options}")
    return "\n".join(lines) + "\n"


def split_member(member: str) -> tuple[str, str]:
    """``401@pbx`` is an extension of a trunk, ``phone`` a phone account."""
    number, _, endpoint = member.rpartition("@")
    return number, endpoint
