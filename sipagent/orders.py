"""What goes over the link between a worker and the control process, besides CallEvents. No I/O.

Down go orders, each with an id of its own; up comes one `Answer` to each of them. Events and answers are numbered
within one run of the worker's process, and `Acknowledged` once they are safe: what is lost on the way is sent again,
and what comes twice is told by its number.
"""

from __future__ import annotations

import uuid

import msgspec

from sipagent.model import CallEvent


class WorkerHello(msgspec.Struct, frozen=True, tag_field="type", tag="worker_hello"):
    """First message of a worker on the link."""

    worker: int
    pid: int
    run: str = ""
    """This process, in which events are numbered from 1."""


class WorkerState(msgspec.Struct, frozen=True, tag_field="type", tag="worker_state"):
    """How the worker does, sent with its events and every second."""

    asterisk_connected: bool
    asterisk_version: str
    accepting: bool
    calls: int
    events_dropped: int


class Numbered(msgspec.Struct, frozen=True, tag_field="type", tag="numbered"):
    """In front of a message's events and answers: the number of the first of them in this run of the worker."""

    first: int


class Answer(msgspec.Struct, frozen=True, tag_field="type", tag="answer"):
    """An order was carried out, or why it was not."""

    order: str
    error: str = ""
    detail: str = ""
    """What came of it, in a word."""


def new_id() -> str:
    """For an order that nobody gave an id."""
    return uuid.uuid4().hex


class _Order(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    id: str = msgspec.field(default_factory=new_id)


class HangUp(_Order, frozen=True, tag="hang_up"):
    """End one call."""

    call_id: str


class Reload(_Order, frozen=True, tag="reload"):
    """Read the configuration anew; calls that are up keep theirs."""


class Acknowledged(msgspec.Struct, frozen=True, tag_field="type", tag="acknowledged"):
    """Not an order but thanks: everything up to this number is safe, the worker may forget it."""

    number: int


Upward = CallEvent | WorkerHello | WorkerState | Numbered | Answer
Order = HangUp | Reload
Downward = Order | Acknowledged
