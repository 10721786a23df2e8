"""Values that everybody shares: who called whom, and what happened. No I/O, no clock.

A `CallEvent` is one fact about one call, sent up from the worker that runs it: a tagged msgspec struct, so the
same value is the log line, the message on the link and the row in the records. Times named `at` are Unix
seconds. (What goes down the link, and the answers to it, are `orders`.)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from sipagent.outcome import CallOutcome


class Role(StrEnum):
    """Who spoke."""

    CALLER = "caller"
    AGENT = "agent"


class LegQuality(msgspec.Struct, frozen=True):
    """One direction of one leg as its listener got it. Counts are packets; None is "not known"."""

    received: int
    expected: int
    lost: int
    loss_percent: float
    late: int
    reordered: int
    duplicate: int
    jitter_ms: float
    rtt_ms: float | None
    r_factor: float | None
    """E-model (ITU-T G.107), 0 to 93.2; below 50 nobody should have to listen."""
    mos: float | None
    """Mean opinion score by the E-model, 1 to 4.41 for G.711."""


class _Event(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    call_id: str
    at: float


class Direction(StrEnum):
    """Who began the call."""

    IN = "in"
    OUT = "out"


class Disposition(StrEnum):
    """What a call out came to."""

    HUMAN = "human"
    MACHINE = "machine"
    FAX = "fax"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    FAILED = "failed"  # refused, unreachable, or not allowed
    UNKNOWN = "unknown"  # answered, and nobody can say by whom


class CallStarted(_Event, frozen=True, tag="call_started"):
    """A channel entered our Stasis application, or a call out begins."""

    caller: str
    called: str
    endpoint: str
    codec: str
    worker: int
    direction: Direction = Direction.IN


class CallAdopted(_Event, frozen=True, tag="call_adopted"):
    """Another worker, or the same one started anew, has taken the call over: its worker had died.

    It tells what the call is, too, for a control process that was started after the call was.
    """

    worker: int
    step: str
    """Where it goes on."""
    caller: str = ""
    called: str = ""
    endpoint: str = ""
    codec: str = ""
    direction: Direction = Direction.IN
    answered: bool = True
    started_at: float = 0.0
    """Unix time."""


PROBE = "probe:"
"""With its name, the destination of a call that a probe makes: no customer's."""


class CallRouted(_Event, frozen=True, tag="call_routed"):
    """A route took the call; both are empty when none did."""

    route: str
    destination: str
    traceparent: str = ""
    """The trace that the far end began, where [tracing] has it kept."""


class StepEntered(_Event, frozen=True, tag="step_entered"):
    """The caller has come to a step of the flow: `menu:main`, `agent:reception`, `queue:sales`.

    `transferred:NAME` when somebody has taken the call.
    """

    step: str


Purpose = Literal["transfer", "flow", "outbound", "supervisor", "probe"]
"""What a leg out is for."""


class LegDialled(_Event, frozen=True, tag="leg_dialled"):
    """A second leg, or the only one of a call out, begins to ring. `trunk` is empty for a phone of ours."""

    leg: str
    to: str
    trunk: str
    purpose: str
    """A `Purpose`."""


class LegEnded(_Event, frozen=True, tag="leg_ended"):
    """It was not answered, or its talk is over. `cause` is Q.850's, 0 where nobody named one."""

    leg: str
    answered: bool
    result: str
    cause: int
    seconds: float
    """Talked, from its answer on."""


class DialRefused(_Event, frozen=True, tag="dial_refused"):
    """The dial policy let no call out. `asked_by`: the leg's `Purpose`, or agent, api."""

    to: str
    why: str
    asked_by: str


class CallHeld(_Event, frozen=True, tag="call_held"):
    """`by` the caller (a re-INVITE) or the agent; until CallRetrieved."""

    by: str


class CallRetrieved(_Event, frozen=True, tag="call_retrieved"):
    """The hold is over."""

    by: str


class DigitsCollected(_Event, frozen=True, tag="digits_collected"):
    """Keys were taken for `purpose` without anybody hearing them; the digits themselves stand nowhere."""

    purpose: str
    digits: int
    result: str
    """ok, or why not: timeout, invalid, gave_up."""


class MessageTaken(_Event, frozen=True, tag="message_taken"):
    """The caller left a message with the agent."""

    mailbox: str
    text: str
    number: str
    """Where the caller wants to be called back; empty: they did not say."""


class CallbackRequested(_Event, frozen=True, tag="callback_requested"):
    """The caller wants to be called back; the control process queues it under `callback_id`."""

    callback_id: str
    number: str
    agent: str
    trunk: str
    not_before: float
    """Unix seconds."""
    reason: str
    not_after: float = 0.0
    """Given up then; 0: a day later."""
    attempts: int = 3


class Supervised(_Event, frozen=True, tag="supervised"):
    """Somebody of the operator's is in the call: `what` is monitor, message, barge or takeover."""

    what: str
    who: str
    result: str


class Classified(_Event, frozen=True, tag="classified"):
    """Who answered a call out, `said_by` detector (Asterisk's AMD), agent, or signalling."""

    disposition: Disposition
    said_by: str
    detail: str = ""


class RecordingStarted(_Event, frozen=True, tag="recording_started"):
    """The announcement has been heard; from here on both sides are written."""

    recording_id: str


class RecordingPaused(_Event, frozen=True, tag="recording_paused"):
    """Nothing is written until RecordingResumed; `by` the first of collect_digits, agent, operator."""

    recording_id: str
    by: str


class RecordingResumed(_Event, frozen=True, tag="recording_resumed"):
    """It goes on; `by` the last to let go."""

    recording_id: str
    by: str


class RecordingEnded(_Event, frozen=True, tag="recording_ended"):
    """The file is whole, said by the control process that wrote it. `sha256` of the file as it lies there."""

    recording_id: str
    path: str
    """Empty: there is none, since the disk took nothing."""
    format: str
    seconds: float
    bytes: int
    sha256: str
    lost_ms: int = 0
    """Of audio that never came here: a link or a disk that was away for too long."""
    cut: bool = False
    """Nobody ended it, since its worker died: up to a second is missing at the end."""


class TransferStarted(_Event, frozen=True, tag="transfer_started"):
    """The agent hands the caller over: `how` is dial, refer, warm, conference, or flow for what is no phone."""

    target: str
    how: str
    summary: str = ""
    """Who calls and why, in the agent's words."""


class TransferEnded(_Event, frozen=True, tag="transfer_ended"):
    """`result`: answered, handed over, or why not."""

    target: str
    result: str


class ToolCalled(_Event, frozen=True, tag="tool_called"):
    """The agent uses a tool. `arguments` leave the worker only where the operator has transcripts shown."""

    name: str
    arguments: str = ""
    tool_call_id: str = ""
    """The model's own name of this use, the same in ToolReturned."""


class ToolReturned(_Event, frozen=True, tag="tool_returned"):
    """How it went; also of a call that was refused, which took no time. `bytes` of the answer it got.

    `result`, what the model was told, only where the operator has transcripts shown.
    """

    name: str
    ok: bool
    duration_ms: float
    bytes: int
    result: str = ""
    tool_call_id: str = ""


class CallAnswered(_Event, frozen=True, tag="call_answered"):
    """We answered; `setup_ms` from StasisStart."""

    setup_ms: float


class SessionOpened(_Event, frozen=True, tag="session_opened"):
    """The voice session is ready; `model` is the one that really answers."""

    model: str
    requested_model: str
    conversation_id: str
    connect_ms: float
    acknowledged: bool
    endpoint: str = ""
    """Of [realtime]: main, or a name of its fallbacks."""


class MediaTrouble(_Event, frozen=True, tag="media_trouble"):
    """Nothing of the caller's voice came: `action` is repaired (a new media channel) or given_up."""

    action: str


class SessionLost(_Event, frozen=True, tag="session_lost"):
    """The voice session broke in the middle of a talk: what it was, and why."""

    endpoint: str
    detail: str


class SessionRecovered(_Event, frozen=True, tag="session_recovered"):
    """And there is another: `how` is resumed (the server knew the conversation) or primed (it was told)."""

    how: str
    endpoint: str
    gap_ms: float
    """From the loss to the session that goes on."""


class WaitingForSession(_Event, frozen=True, tag="waiting_for_session"):
    """Every session is taken: the caller hears music, and is told their `place` in line, which has changed."""

    place: int


class WaitedForSession(_Event, frozen=True, tag="waited_for_session"):
    """The wait is over: `result` is granted, gave_up (it took too long, or too many wait), or left."""

    seconds: float
    result: str


class TurnedAway(_Event, frozen=True, tag="turned_away"):
    """There was no room for this call: which `limit` it was (overload, draining, rate, node, caller, route).

    `to` is where it goes instead; empty: the caller is told that all lines are busy.
    """

    limit: str
    to: str = ""


class SessionClosed(_Event, frozen=True, tag="session_closed"):
    """The voice session is over: for so long the provider bills."""

    model: str
    seconds: float
    agent_audio_s: float
    """Of the agent's speech that came."""


class StepRetried(_Event, frozen=True, tag="step_retried"):
    """The caller was asked again: `why` is no_input or invalid."""

    step: str
    why: str


class AgentSpoke(_Event, frozen=True, tag="agent_spoke"):
    """The first voiced frame of an answer left for the caller.

    `latency_ms` counts from the last voiced frame of the caller that came in (None when the agent opened the
    talk) and is the sum of its four shares: `detection_ms`, the model's wait until it believed that the caller
    had finished; `model_ms`, its thinking and the silence at the head of its audio; `network_ms`, one round
    trip to its server; `own_ms`, first audio in to first frame out, which is us. A share is None when the
    model did not say enough to tell it from the others; then it is within `model_ms`.
    """

    item_id: str
    latency_ms: float | None
    detection_ms: float | None = None
    model_ms: float | None = None
    network_ms: float | None = None
    own_ms: float | None = None


class BargeIn(_Event, frozen=True, tag="barge_in"):
    """The caller spoke over the agent: what had been played of the item, what was thrown away.

    `confirmed_by` tells who was first to be sure: the `model` (its speech_started) or our own detector
    (`speech`). `stop_ms` counts from the onset of the caller's speech to the last voiced frame of the agent;
    None when our detector had not heard any.
    """

    item_id: str
    played_ms: int
    dropped_ms: int
    confirmed_by: str = "model"
    stop_ms: float | None = None


class FalseBargeIn(_Event, frozen=True, tag="false_barge_in"):
    """A noise of the caller's side paused the agent for `paused_ms`; it was no speech, and the agent went on."""

    paused_ms: int


class Transcript(_Event, frozen=True, tag="transcript"):
    """What one side has said, whole. A later event with the same item replaces an earlier one.

    What is still being said is nobody's event: a part of a number is not known as one, and would not be masked.
    """

    role: Role
    item_id: str
    text: str
    cut: bool = False
    """The caller spoke over it: `text` is what they had heard by then, by the share of its audio."""


class NoInputStep(_Event, frozen=True, tag="no_input"):
    """The caller was silent for the agent's patience: the step of the ladder that follows (from 1)."""

    step: int


class RealtimeTrouble(_Event, frozen=True, tag="realtime_trouble"):
    """The model's side said or did something odd that the call survived."""

    what: str
    detail: str


class CallEnded(_Event, frozen=True, tag="call_ended"):
    """The last event of every call; the canonical log line is made of it.

    `quality` by direction: `caller_to_model` the whole way, as we got it; `caller_to_switch` and
    `switch_to_caller` the caller's own leg, as Asterisk and the caller's RTCP had it at the last look.
    """

    outcome: CallOutcome
    duration_s: float
    answered: bool
    turns: int
    counters: dict[str, int]
    quality: dict[str, LegQuality] = {}
    disposition: Disposition | None = None
    """Of a call out."""


CallEvent = (
    CallStarted
    | CallAdopted
    | CallRouted
    | StepEntered
    | LegDialled
    | LegEnded
    | DialRefused
    | CallHeld
    | CallRetrieved
    | DigitsCollected
    | MessageTaken
    | CallbackRequested
    | Supervised
    | Classified
    | RecordingStarted
    | RecordingPaused
    | RecordingResumed
    | RecordingEnded
    | TransferStarted
    | TransferEnded
    | ToolCalled
    | ToolReturned
    | CallAnswered
    | SessionOpened
    | SessionClosed
    | WaitingForSession
    | WaitedForSession
    | TurnedAway
    | MediaTrouble
    | SessionLost
    | SessionRecovered
    | StepRetried
    | AgentSpoke
    | BargeIn
    | FalseBargeIn
    | Transcript
    | NoInputStep
    | RealtimeTrouble
    | CallEnded
)
