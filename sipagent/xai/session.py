"""The rules of one realtime voice session (core: messages in, events and messages out; time is an argument).

The seam is four calls. `receive` takes a message and returns what it means for the call; `take_outbox`
gives the messages to send, in order; `next_timer` and `handle_timer` hold the one wait of the protocol.
`append_audio` is the short way for the caller's frames.

What it knows that the wire does not say: either opening order; an acknowledgement that may never come;
frames kept until the session is ready, then sent at once; audio of a response that was spoken over is
dead and must not be heard; transcripts are replaced, not appended; a response may never be closed, and what it
called is then not carried out; the format that comes may not be the one asked for. It holds at most `BACKLOG_MS`
of the caller's audio and none of the agent's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec

from sipagent.audio import PTIME_MS
from sipagent.xai import events as wire
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.pcm import PcmToLaw

BACKLOG_MS = 10_000
"""Caller audio kept while the session opens, so that first words are not lost; older audio is dropped."""
MAX_COUNTS = 64
MAX_TEXT_CHARS = 100_000
"""Of one answer, all its items together; the longest is an hour of talk. A server that sends more is cut."""
MAX_CALLS = 64
"""Function calls of one response; and as many ids are remembered against repetition."""
DEAD_KEPT = 32
"""Responses remembered as spoken over; deltas trail their interruption by one or two responses at most."""
ACK_TIMEOUT_S = 2.5
"""`session.updated` was seen to be missing (section 3.11): go on without it after this long."""
STANDBY_ACK_TIMEOUT_S = 1.0
"""A session that stood by has acknowledged once: one that does not again is dead, and another is opened sooner."""


# --- what a session tells its call (beside the wire's own SpeechStarted, SpeechStopped, InputTranscript ...)


class Ready(wire.Value, frozen=True):
    """Configured (or the wait for the acknowledgement is over): the caller is heard from here on."""

    model: str
    conversation_id: str
    acknowledged: bool


class StandsBy(wire.Value, frozen=True):
    """Open, and waiting to be configured for somebody."""


class AgentAudio(wire.Value, frozen=True):
    """Audio to play, G.711 in the session's law."""

    item_id: str
    audio: bytes


class AgentAudioDone(wire.Value, frozen=True):
    """No more audio for this item."""

    item_id: str


class AgentTranscript(wire.Value, frozen=True):
    """The agent's text so far (`final` false) or whole."""

    item_id: str
    text: str
    final: bool


class FunctionCallCut(wire.Value, frozen=True):
    """Called in a response that was cut short: it must not be carried out. The `ResponseDone` behind it says how."""

    call: wire.FunctionCall


class Trouble(wire.Value, frozen=True):
    """Something odd that the session survives; `what` is from a small fixed set, a label of metrics."""

    what: str
    detail: str


class Fatal(wire.Value, frozen=True):
    """The session is of no use, or the server ends it: `what` is from a small fixed set."""

    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


SessionEvent = (
    Ready
    | StandsBy
    | AgentAudio
    | AgentAudioDone
    | AgentTranscript
    | Trouble
    | Fatal
    | wire.SpeechStarted
    | wire.SpeechStopped
    | wire.InputTranscript
    | wire.ResponseCreated
    | wire.ResponseDone
    | wire.FunctionCall
    | FunctionCallCut
)


class _State(Enum):
    OPENING = auto()  # socket open, nothing heard yet
    PARKING = auto()  # to stand by: session.update sent, acknowledgement awaited
    STANDBY = auto()  # until `configure`
    CONFIGURING = auto()  # session.update sent, acknowledgement awaited
    READY = auto()


_HARMLESS = (
    "no active response",
    "does not match current response",
    "already has an active response",
    "item not found",
    "truncat",
    "already shorter than",
)
"""Errors that a race brings about (section 7): counted, never shown."""
_BUSY = "already has an active response"
_FATAL_KINDS = frozenset({"timeout", "max_duration", "session_expired", "insufficient_quota"})
"""Types and codes of errors after which nobody answers; the last two are OpenAI's."""


@dataclass(slots=True)
class _Answer:
    """What we know of the response whose audio we let through."""

    response_id: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    chars: int = 0


class RealtimeSession:
    """One session from socket open to close."""

    def __init__(self, config: SessionConfig, *, standby: bool = False) -> None:
        """`standby`: of `config` only model and dialect are known yet; `configure` brings the rest."""
        self.config = config
        self._standby = standby
        self.ready = False
        """The server is configured: audio goes straight through. No property: it is looked at fifty times a second."""
        self.model = ""
        self.conversation_id = ""
        self.counts: Counter[str] = Counter()
        self._state = _State.OPENING
        self._ack_deadline: float | None = None
        self.outbox: list[bytes] = []
        """For `take_outbox`."""
        self._backlog: deque[bytes] = deque(maxlen=BACKLOG_MS // PTIME_MS)
        self._answer = _Answer()
        self._dead: deque[str] = deque(maxlen=DEAD_KEPT)
        self._calls_seen: deque[str] = deque(maxlen=MAX_CALLS)
        self._calls: list[wire.FunctionCall] = []
        self._calling: str | None = None
        """Whose they are: the response that was created last, until it is done; "" if it has no id."""
        self._spoken_over = False
        """It was: an end that does not say `completed` is none."""
        self._cut: deque[str] = deque(maxlen=MAX_CALLS)
        """Calls of responses that were cut short: whether the server still knows them is not known."""
        self._converter: PcmToLaw | None = None
        self._format_judged = False
        self._asked: bytes | None = None
        """What a response was last asked with, if it is to come even when another one is active just then."""
        self._again: bytes | None = None
        """It was refused for that, and is sent again when the other is over."""

    @property
    def stands_by(self) -> bool:
        """It can be configured, and will be ready one round trip later."""
        return self._state is _State.STANDBY

    # --- to the server

    def configure(self, config: SessionConfig, now: float) -> None:
        """A session that stands by is for somebody now."""
        if not self.stands_by:
            raise RuntimeError("only a session that stands by can be configured")
        self.config = config
        self._update(_State.CONFIGURING, config.dialect.session(config), now)

    def append_audio(self, payload: bytes) -> bytes | None:
        """One caller frame: the message to send now, or None while it is kept for the opening."""
        if self.ready:
            return wire.append(payload)
        if len(self._backlog) == self._backlog.maxlen:
            self.counts["backlog_dropped"] += 1
        self._backlog.append(payload)
        return None

    def say(self, text: str) -> None:
        """Let the server speak a text word for word."""
        self._ask(self.config.dialect.say(text))

    def whisper(self, text: str) -> None:
        """Tell the model something that the caller does not hear."""
        self.outbox.append(wire.system_message(text))

    def silence(self) -> None:
        """Whatever is being answered must not be heard, and no more of it is wanted."""
        self._bury_answer()
        self._forget_calls()
        self._again = None
        self.outbox.append(wire.response_cancel())

    def interrupt(self, item_id: str, played_ms: int) -> None:
        """The caller spoke over this item and heard so much of it; the rest must not be heard.

        The server is told for its memory's sake; whether it listens is not known (section 5.3).
        """
        self._bury_answer()
        self.outbox.append(wire.truncate(item_id, played_ms))

    def respond(self, *, must: bool = False) -> None:
        """Ask for an answer that the server does not think of itself.

        If it is answering just then, that will do; `must`: it will not, and another one is to follow.
        """
        self._ask(wire.response_create(), must=must)

    def _ask(self, message: bytes, *, must: bool = True) -> None:
        """For a response. One that must come is refused if a cancelled one, or the server's own, is still active."""
        self._asked = message if must else None
        self.outbox.append(message)

    def answer_function_calls(self, outputs: Mapping[str, str], *, respond: bool = True) -> None:
        """Results by `call_id`, then the one `response.create` that lets the model go on (section 4).

        `respond` False where the server makes a response by itself, of what the caller says just now.
        """
        self.outbox += [wire.function_call_output(call_id, output) for call_id, output in outputs.items()]
        if respond:
            self.respond(must=True)

    def take_outbox(self) -> list[bytes]:
        """Messages to send now, in order; the caller must send them all."""
        out, self.outbox = self.outbox, []
        return out

    # --- time

    def next_timer(self) -> float | None:
        """When `handle_timer` must be called (monotonic seconds), if at all."""
        return self._ack_deadline

    def handle_timer(self, now: float) -> list[SessionEvent]:
        """The acknowledgement did not come in time: go on without it."""
        if self._ack_deadline is None or now < self._ack_deadline:
            return []
        self.counts["ack_missing"] += 1
        if self._standby:
            self._ack_deadline = None
            return [Fatal("ack_missing", "a session that was to stand by does not answer")]
        return [
            Trouble("ack_missing", f"no session.updated in {ACK_TIMEOUT_S:g} s; going on"),
            *self._become_ready(acknowledged=False),
        ]

    # --- from the server

    def receive(self, message: str | bytes, now: float) -> list[SessionEvent]:
        """One message; what it means for the call. Look at `take_outbox` afterwards."""
        event = wire.parse(message)
        match event:
            case wire.AudioDelta():
                return self._on_audio(event)
            case wire.AudioDone():
                return self._on_audio_done(event)
            case wire.SpeechStarted():
                # Whatever the current response still sends was spoken over; what was to come after it is stale.
                self._bury_answer()
                self._again = None
                return [event]
            case wire.SpeechStopped() | wire.InputTranscript():
                return [event]
            case wire.ResponseCreated():
                return self._on_response_created(event)
            case wire.ResponseDone():
                return self._on_response_done(event)
            case wire.OutputTranscript():
                return self._on_output_transcript(event)
            case wire.FunctionCall():
                self._on_function_call(event)
                return []
            case wire.SessionCreated() | wire.ConversationCreated() | wire.SessionUpdated():
                return self._on_opening(event, now)
            case wire.ServerError():
                return self._on_error(event)
            case wire.Garbage():
                self.counts["garbage"] += 1
                return [Trouble("garbage", event.what)] if self.counts["garbage"] == 1 else []
            case wire.Ignored():
                # The names come from outside: a server that invents them must not fill our memory.
                name = f"ignored:{event.type[:64]}"
                self.counts[name if len(self.counts) < MAX_COUNTS else "ignored:others"] += 1
                return []

    def _on_opening(
        self, event: wire.SessionCreated | wire.ConversationCreated | wire.SessionUpdated, now: float
    ) -> list[SessionEvent]:
        match event:
            case wire.SessionCreated():
                self.model = event.model
            case wire.ConversationCreated():
                self.conversation_id = event.conversation_id if self.config.dialect.resumes else ""
            case wire.SessionUpdated() if self._state is _State.PARKING:
                self._state, self._ack_deadline = _State.STANDBY, None
                return [StandsBy()]
            case wire.SessionUpdated() if self._state is _State.CONFIGURING:
                self.counts["ack"] += 1
                return self._check_echo(event) + self._become_ready(acknowledged=True)
        if self._state is _State.OPENING:
            # Either of the two may come first; an update sent before both was seen to be lost (section 3.11).
            dialect = self.config.dialect
            if self._standby:
                self._update(_State.PARKING, dialect.standby(), now)
            else:
                self._update(_State.CONFIGURING, dialect.session(self.config), now)
        return []

    def _update(self, state: _State, session: dict[str, Any], now: float) -> None:
        within_s = STANDBY_ACK_TIMEOUT_S if self.stands_by else ACK_TIMEOUT_S
        self._state, self._ack_deadline = state, now + within_s
        self.outbox.append(wire.session_update(session))

    def _check_echo(self, event: wire.SessionUpdated) -> list[SessionEvent]:
        wanted = self.config.law.media_type
        out: list[SessionEvent] = []
        for way, got in (("input", event.input_format), ("output", event.output_format)):
            if got and got != wanted:
                out.append(Trouble("format_substituted", f"asked for {way} {wanted}, the server echoes {got}"))
        if event.turn_detection and event.turn_detection != "server_vad":
            out.append(Trouble("vad_substituted", f"asked for server_vad, the server echoes {event.turn_detection}"))
        return out

    def _become_ready(self, *, acknowledged: bool) -> list[SessionEvent]:
        self._state, self.ready = _State.READY, True
        self._ack_deadline = None
        self.outbox += [wire.append(payload) for payload in self._backlog]
        self._backlog.clear()
        out: list[SessionEvent] = []
        wanted = self.config.model  # or a dated one of that name
        if wanted and not self.model.startswith(wanted) and not wanted.endswith("-latest"):
            out.append(Trouble("model_substituted", f"asked for {wanted}, {self.model or '?'} answers"))
        return [*out, Ready(self.model, self.conversation_id, acknowledged)]

    def _bury_answer(self) -> None:
        self._spoken_over = True
        if self._answer.response_id:
            self._dead.append(self._answer.response_id)
            self._answer = _Answer()

    def _on_response_created(self, event: wire.ResponseCreated) -> list[SessionEvent]:
        # A newer response supersedes the older, closed or not (section 2.6).
        self._bury_answer()
        self._forget_calls()
        self._answer = _Answer(event.response_id)
        self._calling, self._spoken_over = event.response_id, False
        return [event]

    def _on_response_done(self, event: wire.ResponseDone) -> list[SessionEvent]:
        if event.response_id == self._answer.response_id:
            self._answer = _Answer()
        if self._again is not None:
            again, self._again = self._again, None
            self._ask(again)
        out: list[SessionEvent] = []
        if self._is_calling(event.response_id):
            if self._spoken_over and not event.status:
                event = msgspec.structs.replace(event, status="cancelled")  # the bare end of one (section 5.2)
            out += self._take_calls(event.status)
        out.append(event)
        if event.code in _FATAL_KINDS:
            out.append(Fatal(event.code, event.message))
        elif event.code:
            out.append(Trouble("response_failed", f"{event.code}: {event.message}"))
        return out

    def _on_audio(self, event: wire.AudioDelta) -> list[SessionEvent]:
        if event.response_id != self._answer.response_id or not event.response_id:
            # Of a response that was spoken over or closed, or one that was never opened.
            self.counts["dead_deltas" if event.response_id in self._dead else "unannounced_deltas"] += 1
            return []
        out: list[SessionEvent] = []
        if not self._format_judged and event.audio_duration_ms > 0:
            self._format_judged = True
            out += self._judge_format(len(event.audio) / event.audio_duration_ms)
        payload = self._converter.convert(event.audio) if self._converter else event.audio
        if payload:
            out.append(AgentAudio(event.item_id, payload))
        return out

    def _judge_format(self, bytes_a_ms: float) -> list[SessionEvent]:
        """G.711 is 8 bytes a millisecond; PCM at 24 kHz is 48 and was seen where G.711 was asked for (3.4)."""
        if bytes_a_ms < 12:
            return []
        rate_hz = min((8000, 16000, 24000, 48000), key=lambda hz: abs(hz * 2 / 1000 - bytes_a_ms))
        if abs(rate_hz * 2 / 1000 - bytes_a_ms) > 0.1 * bytes_a_ms:
            return [Fatal("unknown_format", f"audio comes with {bytes_a_ms:.1f} bytes a millisecond")]
        self._converter = PcmToLaw(rate_hz, self.config.law)
        return [Trouble("pcm_instead_of_g711", f"the server sends PCM at {rate_hz} Hz; converting")]

    def _on_audio_done(self, event: wire.AudioDone) -> list[SessionEvent]:
        if event.response_id != self._answer.response_id:
            return []
        out: list[SessionEvent] = []
        if self._converter and (tail := self._converter.finish()):
            out.append(AgentAudio(event.item_id, tail))
        return [*out, AgentAudioDone(event.item_id)]

    def _on_output_transcript(self, event: wire.OutputTranscript) -> list[SessionEvent]:
        answer = self._answer
        answer.chars += len(event.text) + len(event.item_id)
        if answer.chars > MAX_TEXT_CHARS:
            self.counts["text_dropped"] += 1
            return []
        if event.final:
            text = event.text or answer.texts.get(event.item_id, "")
            answer.texts.pop(event.item_id, None)
        else:
            text = answer.texts.get(event.item_id, "") + event.text
            answer.texts[event.item_id] = text
        return [AgentTranscript(event.item_id, text, event.final)]

    def _on_function_call(self, event: wire.FunctionCall) -> None:
        """Collected to the end of the response; an output sent earlier can be refused (section 4)."""
        if not event.call_id or event.call_id in self._calls_seen:
            return
        self._calls_seen.append(event.call_id)
        if not self._is_calling(event.response_id):
            self.counts["function_calls_stale"] += 1
        elif len(self._calls) < MAX_CALLS and len(event.arguments) <= MAX_TEXT_CHARS:
            self._calls.append(event)
        else:
            self.counts["function_calls_dropped"] += 1

    def _is_calling(self, response_id: str) -> bool:
        """Whether this is the response whose calls are wanted. An event that names none is of that one."""
        return self._calling is not None and (response_id == self._calling or not response_id or not self._calling)

    def _take_calls(self, status: str) -> list[wire.FunctionCall] | list[FunctionCallCut]:
        """At the end of their response: to be carried out, or not."""
        if status in {"", "completed"}:
            calls, self._calls, self._calling = self._calls, [], None
            return calls
        cut = [FunctionCallCut(call) for call in self._calls]
        self._cut += [call.call_id for call in self._calls]
        self._forget_calls()
        return cut

    def _forget_calls(self) -> None:
        """Their response will not be completed, or nobody wants it to be."""
        if self._calls:
            self.counts["function_calls_stale"] += len(self._calls)
        self._calls, self._calling = [], None

    def _on_error(self, event: wire.ServerError) -> list[SessionEvent]:
        detail = f"{event.kind} {event.code}: {event.message}".strip()
        for what in (event.code, event.kind):
            if what in _FATAL_KINDS:
                return [Fatal(what, detail)]
        words = event.message.lower()
        if any(harmless in words for harmless in _HARMLESS) or any(call_id in event.message for call_id in self._cut):
            self.counts["harmless_errors"] += 1
            if _BUSY in words:
                self._again, self._asked = self._asked, None
            return []
        self.counts["server_errors"] += 1
        if self._state in {_State.OPENING, _State.PARKING, _State.CONFIGURING}:
            # A key that is none (OpenAI tells after the upgrade), or our settings: all that was sent. Without them it
            # hears nobody, or in another format.
            return [Fatal("refused", detail)]
        out: list[SessionEvent] = [Trouble("server_error", detail)]
        return out
