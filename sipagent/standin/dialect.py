"""What differs between the wires the stand-in speaks: the seam. `xai.py` and `openai.py` are its two sides.

The session keeps the conversation: turns, responses, times. A `Wire` is one session's way to say it: it names
ids, words events and errors, reads what a client may write, and states the rules by which its service keeps a
conversation (`Rules`, plain values). It decides nothing and knows no time but what it is told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TYPE_CHECKING, ClassVar, Literal

from sipagent.standin.settings import Settings
from sipagent.standin.wire import Event, NewId, Refusal

if TYPE_CHECKING:
    from sipagent.standin.answer import Answer, FunctionCall

Kind = Literal["event", "sess", "conv", "item", "resp", "call"]
"""What an id is of; OpenAI's prefixes."""
Reason = Literal["turn_detected", "client_cancelled"]
"""Why a response was cancelled; OpenAI's words."""


class Wrong(StrEnum):
    """What a client can do wrong in a conversation; each wire has its words for it (`Words`)."""

    NO_AUDIO = auto()
    UNKNOWN_EVENT = auto()
    BINARY = auto()
    UPDATE_REFUSED = auto()
    EMPTY_BUFFER = auto()
    COMMIT_UNDER_VAD = auto()
    NO_ITEM = auto()
    NO_TEXT_TO_FORCE = auto()
    UNKNOWN_CALL = auto()
    UNKNOWN_TO_DELETE = auto()
    UNKNOWN_TO_RETRIEVE = auto()
    UNKNOWN_TO_TRUNCATE = auto()
    NO_RESPONSE_OBJECT = auto()
    RESPONSE_ACTIVE = auto()
    NO_RESPONSE_ACTIVE = auto()
    OTHER_RESPONSE_ACTIVE = auto()


Words = Mapping[Wrong, tuple[str, str | None, str | None]]
"""Message (a format of the data given), code and param."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a service keeps a conversation, where the two differ. The defaults are xAI's."""

    joins_pauses: bool = True
    """Speech that goes on before the answer has begun belongs to the same item, and the answer is dropped in
    silence. Else each stretch is a turn and its item, and an answer under way is cancelled."""
    answers_unheard: bool = False
    """A spoken turn is answered at its commit, transcript or not: the model hears sound. Else when it is heard."""
    commits_under_vad: bool = False
    """`input_audio_buffer.commit` is honoured while turn detection is on."""
    commits_silence: bool = False
    """The silence before `timeout_triggered` becomes a user item."""
    truncates: bool = False
    """`conversation.item.truncate` has an effect and is acknowledged."""
    deletes_assistant: bool = False
    """Assistant items can be deleted; to xAI they are "not found" (measured)."""
    forces_messages: bool = True
    """Items of type `force_message` are known."""
    empty_messages: bool = True
    """An answer of calls alone leaves an empty message in the conversation, for a resumption to replay."""
    calls_stay: bool = False
    """A call is in the conversation once it is whole, and stays there if its response is cancelled then (not known of
    xAI). Else it comes with the end of its response."""
    pings: bool = True
    """A JSON `ping` comes now and then."""
    unspoken: str = "incomplete"
    """A response's status when the voice failed."""
    lasts_s: float | None = None
    """A session's longest life; None is not enforced."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client's `response.create` asks for. A response made by VAD has none."""

    metadata: Mapping[str, object] | None = None
    said: str | None = None
    """Say this, word for word."""
    tools: tuple[str, ...] | None = None
    """Names of the tools that may be called; None: the session's."""
    context: tuple[Event, ...] | None = None
    """Answer these items, not the conversation."""
    detached: bool = False
    """The response stays outside the conversation (`conversation: none`)."""


class Wire(ABC):
    """One session in one dialect."""

    rules: ClassVar[Rules]
    words: ClassVar[Words]
    client_events: ClassVar[frozenset[str]]
    """Types of client events it knows, `input_audio_buffer.append` apart."""

    def __init__(self, new_id: NewId, send: Callable[[Event], None], *, model: str, epoch: float, now: float) -> None:
        """`send` puts a whole event in the line; `epoch` is Unix time at now = 0."""
        self._new_id, self._send, self._epoch = new_id, send, epoch
        self._model = model

    # ---- names, words, envelopes

    def id(self, kind: Kind) -> str:
        """A new id."""
        return self._new_id()

    def refusal(self, wrong: Wrong, **data: object) -> Refusal:
        """What to raise for it, in this wire's words."""
        message, code, param = self.words[wrong]
        return Refusal(message.format(**data), code=code, param=param)

    @abstractmethod
    def emit(self, type_: str, /, **fields: object) -> None:
        """Send an event: its type, then its own fields; the id and whatever else is usual are added."""

    @abstractmethod
    def error(self, refusal: Refusal, text: str = "") -> None:
        """`error` for what the client sent: `text` is the frame, if it was one."""

    @abstractmethod
    def unreadable(self, error: Exception, text: str) -> None:
        """`error` for a frame that is not an event at all."""

    # ---- the session

    @abstractmethod
    def open(self, session_id: str, conversation_id: str, *, reversed_order: bool) -> None:
        """The opening events."""

    @abstractmethod
    def settings(self) -> Settings:
        """What a session runs on before its first update."""

    @abstractmethod
    def check(self, event: Event) -> None:
        """Refusal for an event that is not as the service wants it; what passes here is safe to read."""

    @abstractmethod
    def update(self, old: Settings, update: object) -> Settings:
        """`old` with a client's `session` merged in, or Refusal and nothing changed."""

    @abstractmethod
    def updated(self, settings: Settings) -> Event:
        """The session as `session.updated` echoes it now."""

    @abstractmethod
    def expired(self) -> str:
        """`error` for a session that has lived its time; gives the reason for the close."""

    @abstractmethod
    def failed(self, message: str, item_id: str | None) -> None:
        """Ears (`item_id` could not be heard) or voice (None) failed."""

    # ---- items

    @abstractmethod
    def item(self, body: Mapping[str, object]) -> Event:
        """A client's item in the shape it is stored and echoed in."""

    @abstractmethod
    def heard_item(self, item_id: str) -> Event:
        """The user item of a stretch of sound, not yet transcribed."""

    @abstractmethod
    def item_added(self, item: Event, previous_item_id: str | None) -> None:
        """A whole item has come into the conversation."""

    @abstractmethod
    def timed_out(self, item_id: str, start_ms: int, end_ms: int, previous_item_id: str | None) -> None:
        """`input_audio_buffer.timeout_triggered`."""

    @abstractmethod
    def transcribed(self, item_id: str, transcript: str, settings: Settings, *, seconds: float, repeat: bool) -> None:
        """The transcript of an item's sound; `repeat` is the fault."""

    @abstractmethod
    def truncate(self, event: Event, item: Event | None, sound_ms: int | None) -> None:
        """`conversation.item.truncate` for real; `sound_ms` of the item were sent, if it has any sound."""

    # ---- responses

    @abstractmethod
    def request(self, body: Mapping[str, object]) -> Request:
        """The `response` of a `response.create`."""

    @abstractmethod
    def message(self, answer: Answer, status: str) -> Event:
        """The answer's message item, with the transcript so far."""

    @abstractmethod
    def call(self, call: FunctionCall, *, done: bool) -> Event:
        """A function call's item."""

    @abstractmethod
    def created(self, answer: Answer) -> None:
        """`response.created`."""

    @abstractmethod
    def begun(self, answer: Answer) -> None:
        """The message item and its part, before the first sound."""

    @abstractmethod
    def sound(self, answer: Answer, chunk: bytes, *, first: bool, now: float) -> None:
        """`response.output_audio.delta`."""

    @abstractmethod
    def said(self, answer: Answer, words: str, start_s: float) -> None:
        """`response.output_audio_transcript.delta`."""

    @abstractmethod
    def called(self, answer: Answer) -> None:
        """The message is closed and the calls follow, all that comes before a completed `response.done`."""

    @abstractmethod
    def done(self, answer: Answer, status: str, reason: Reason) -> None:
        """All that closes a response, up to `response.done`; `reason` is why, if it is cancelled."""

    @abstractmethod
    def stray_sound(self, response_id: str | None, sound: bytes) -> None:
        """A fault: a delta of a response that is over, or (None) never was."""
