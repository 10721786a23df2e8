"""What goes over the link between a worker and the control process, besides CallEvents. No I/O.

Down go orders, each with an id of its own; up comes one `Answer` to each of them. Events and answers are numbered
within one run of the worker's process, and `Acknowledged` once they are safe: what is lost on the way is sent again,
and what comes twice is told by its number.
"""

from __future__ import annotations

import uuid

import msgspec

from sipagent.meter import Histogram
from sipagent.model import CallEvent


class SessionHeld(msgspec.Struct, frozen=True):
    """A session with the model, under the key of its conversation."""

    key: str
    call_id: str
    """Empty: it stands by for any."""
    endpoint: str


class SessionWanted(msgspec.Struct, frozen=True, tag_field="type", tag="session_wanted"):
    """A conversation needs a session, at the first of these endpoints that has room.

    Answered by SessionGranted, or by SessionPlace and SessionGranted when it is its turn.
    """

    key: str
    call_id: str
    endpoints: tuple[str, ...]
    first: bool = False
    """Before those who wait: its call is going on already."""


class SessionLeft(msgspec.Struct, frozen=True, tag_field="type", tag="session_left"):
    """The session is closed, or nobody waits for it any more."""

    key: str


class SessionGranted(msgspec.Struct, frozen=True, tag_field="type", tag="session_granted"):
    """It may be opened, at this endpoint."""

    key: str
    endpoint: str


class SessionPlace(msgspec.Struct, frozen=True, tag_field="type", tag="session_place"):
    """So many are to be served until it is its turn, itself included.

    `soon`: a session that stands by is being closed for it.
    """

    key: str
    place: int
    soon: bool = False


class SessionRecalled(msgspec.Struct, frozen=True, tag_field="type", tag="session_recalled"):
    """A session that stands by is to be closed: a caller waits for it."""

    key: str


class WorkerHello(msgspec.Struct, frozen=True, tag_field="type", tag="worker_hello"):
    """First message of a worker on the link."""

    worker: int
    pid: int
    run: str = ""
    """This process, in which events are numbered from 1."""
    sessions: tuple[SessionHeld, ...] = ()
    """What it has open, for a control process that has just begun to count."""


class WorkerState(msgspec.Struct, frozen=True, tag_field="type", tag="worker_state"):
    """How the worker does, sent with its events and every half second."""

    asterisk_connected: bool
    asterisk_version: str
    accepting: bool
    calls: int
    events_dropped: int
    pacing: Histogram | None = None
    """How late each tick of the pacer came: what a caller hears as unevenness, and how long the loop was busy."""
    ari: Histogram | None = None
    """How long Asterisk took for each request."""
    counts: dict[str, int] = {}
    """What else was counted since the worker's start; the names are those of `observe.scraped`."""
    cpu_s: float = 0.0
    waited_s: float = 0.0
    """For a core, which its loop wanted and had not."""
    rss_bytes: int = 0
    tasks: int = 0
    """Of its event loop: what a call leaves behind shows here first."""
    standby: int = 0
    """Sessions with the model that no call has yet."""


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


class PauseRecording(_Order, frozen=True, tag="pause_recording"):
    """Write nothing of this call until ResumeRecording."""

    call_id: str


class ResumeRecording(_Order, frozen=True, tag="resume_recording"):
    """The operator's pause is over; somebody else's may not be."""

    call_id: str


class Reload(_Order, frozen=True, tag="reload"):
    """Read the configuration anew; calls that are up keep theirs."""


class Originate(_Order, frozen=True, tag="originate"):
    """Call somebody, and put an agent on the line. Answered at once: what becomes of the call is told by its events."""

    call_id: str
    to: str
    """+E.164, or an extension of the trunk."""
    trunks: tuple[str, ...]
    """Tried in this order."""
    agent: str
    shown: str = ""
    """Our number as they see it, where the trunk does not insist on one."""
    ring_s: float = 30.0
    variables: dict[str, str] = {}
    """Of the call, as {name} in instructions and tools."""
    detect: bool = True
    machine: str = "hang_up"
    message: str = ""
    listed: bool = False
    """`to` stands in the configuration (a probe's number); others must be in dial_policy.allow."""
    expires_at: float = 0.0
    """Unix seconds, of this machine's clock: who reads it later does not begin, since whoever asked has given up."""


class Drain(_Order, frozen=True, tag="drain"):
    """Take no new calls (`on`), or take them again; calls that are up go on."""

    on: bool = True


class Conclude(_Order, frozen=True, tag="conclude"):
    """The node goes down: callers who are with us go on to [control] drain_to, or are told goodbye.

    Answered when none is with us any more, or after `within_s`; `detail` is how many still are.
    """

    within_s: float


ABANDONED = 3
"""Exit status of a worker that has left its calls to others, since it was told to."""


class Abandon(_Order, frozen=True, tag="abandon"):
    """End at once and leave the calls that are up to whoever adopts them; answered before."""


class Adopt(_Order, frozen=True, tag="adopt"):
    """A worker has died: take over the calls that it had."""

    worker: int
    run: str = ""
    """The process that has died. Its successor has its number, and what is that one's already stays there."""


class Probe(_Order, frozen=True, tag="probe"):
    """Call through a trunk to a number that comes back to us, and listen. Answered when it is over.

    The answer's `detail` is a `ProbeResult` as JSON; its `error` is why nothing was even tried.
    """

    call_id: str
    name: str
    """Of [probes]."""
    trunk: str
    to: str
    within_s: float
    """INVITE to the first words."""
    listen_s: float
    voice: bool = True
    """Somebody has to speak; False: an answer is enough."""


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a probe went. Milliseconds count from the INVITE; None is "not known"."""

    name: str
    trunk: str
    call_id: str
    at: float
    """When it began, Unix seconds."""
    ok: bool
    why: str = ""
    """What was wrong; empty when it passed."""
    cause: int = 0
    """Q.850 of a call that was not answered; 0 where nobody named one."""
    answer_ms: float | None = None
    voice_ms: float | None = None
    """The first sound of what turned out to be speech."""
    mos: float | None = None
    loss_percent: float | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None


class Tell(_Order, frozen=True, tag="tell"):
    """Whisper to the agent of a live call: it acts on it, the caller does not hear it."""

    call_id: str
    text: str
    answer: bool = False
    """The agent speaks at once, without waiting for the caller."""


class Supervise(_Order, frozen=True, tag="supervise"):
    """Ring a supervisor, or take the one who is listening already, and let them into a live call.

    Answered when they are in, or why not.
    """

    call_id: str
    supervisor: str
    """Of [supervisors]."""
    how: str
    """monitor: they hear both, nobody hears them. barge: all three hear each other. takeover: the agent leaves."""


class Dismiss(_Order, frozen=True, tag="dismiss"):
    """Whoever supervises this call is released; the call goes on."""

    call_id: str


class Acknowledged(msgspec.Struct, frozen=True, tag_field="type", tag="acknowledged"):
    """Not an order but thanks: everything up to this number is safe, the worker may forget it."""

    number: int


OfCall = HangUp | Tell | Dismiss | PauseRecording | ResumeRecording
"""About a live call, and done at once."""
SessionAsked = SessionWanted | SessionLeft
SessionTold = SessionGranted | SessionPlace | SessionRecalled
Upward = CallEvent | WorkerHello | WorkerState | Numbered | Answer | SessionAsked
Order = (
    HangUp
    | Reload
    | Originate
    | Probe
    | Adopt
    | Drain
    | Conclude
    | Abandon
    | Tell
    | Supervise
    | Dismiss
    | PauseRecording
    | ResumeRecording
)
Downward = Order | SessionTold | Acknowledged
