"""What a session asks of its shell, in order: frames to send, speech to hear or to make, an end. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from sipagent.standin.wire import AudioFormat, Event


@dataclass(frozen=True, slots=True)
class Send:
    """One frame: an event, or (faults) raw text or bytes."""

    event: Event | str | bytes


@dataclass(frozen=True, slots=True)
class Hear:
    """Recognise this; answer with `heard(ticket, text, now)`."""

    ticket: tuple[str, int]
    audio: bytes
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Speak:
    """Say this in this format; answer with `spoken(ticket, audio, now)`."""

    ticket: str
    text: str
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Reset the TCP connection."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop reading and writing; keep the connection."""


Output = Send | Hear | Speak | Close | Drop | Freeze
