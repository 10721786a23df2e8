"""What goes over the link between a worker and the control process, besides CallEvents. No I/O.

Down go orders, each with an id of its own; up comes one `Answer` to each of them.
"""

from __future__ import annotations

import uuid

import msgspec

from sipagent.model import CallEvent


class WorkerHello(msgspec.Struct, frozen=True, tag_field="type", tag="worker_hello"):
    """First message of a worker on the link."""

    worker: int
    pid: int


class WorkerState(msgspec.Struct, frozen=True, tag_field="type", tag="worker_state"):
    """How the worker does, sent with its events and every second."""

    asterisk_connected: bool
    asterisk_version: str
    accepting: bool
    calls: int
    events_dropped: int


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


class PauseRecording(_Order, frozen=True, tag="pause_recording"):
    """Write nothing of this call until ResumeRecording."""

    call_id: str


class ResumeRecording(_Order, frozen=True, tag="resume_recording"):
    """The operator's pause is over; somebody else's may not be."""

    call_id: str


class Reload(_Order, frozen=True, tag="reload"):
    """Read the configuration anew; calls that are up keep theirs."""


Upward = CallEvent | WorkerHello | WorkerState | Answer
Order = HangUp | PauseRecording | ResumeRecording | Reload
