"""The few shapes that everything on the wire shares: formats, ids, errors, the encoding of events.

Shapes follow the captures, not the schema, where the two disagree. No state, no clock; ids come in as values.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from sipagent import audio

PCM_RATES = frozenset({8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000})
DEFAULT_PCM_RATE = 24000

_LAWS = {law.media_type: law for law in audio.Law}

Event = dict[str, object]
NewId = Callable[[], str]

_ENCODER = msgspec.json.Encoder()


class Refusal(Exception):
    """A client event that is answered with an `error` event; the session goes on."""

    def __init__(self, message: str, *, code: str | None = "invalid_request_error", param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.code, self.param = message, code, param


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """One direction's audio: xAI's media type and the rate in Hz."""

    type: str = "audio/pcm"
    rate: int = DEFAULT_PCM_RATE

    @property
    def law(self) -> audio.Law | None:
        """The G.711 law; None for PCM."""
        return _LAWS.get(self.type)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self.law is None else 1

    @property
    def bytes_per_s(self) -> int:
        """Bytes of one second."""
        return self.rate * self.sample_bytes

    def to_pcm(self, data: bytes) -> bytes:
        """The bytes as PCM16 at this format's own rate; half a sample at the end is left out."""
        if self.law is not None:
            return audio.decode(data, self.law)
        return data[: len(data) & ~1]

    def from_pcm(self, pcm: bytes, rate: int) -> bytes:
        """PCM16 at `rate` Hz into this format."""
        pcm = audio.resample(pcm, rate, self.rate)
        return pcm if self.law is None else audio.encode(pcm, self.law)

    def to(self, other: AudioFormat, data: bytes) -> bytes:
        """Bytes of this format in another; the same bytes if it is the same."""
        return data if other == self else other.from_pcm(self.to_pcm(data), self.rate)

    def as_wire(self) -> Event:
        """As it stands in `session.updated`."""
        return {"type": self.type, "rate": self.rate}


PCM_24K = AudioFormat()


def new_id() -> str:
    """A plain UUID, without OpenAI's prefixes."""
    return str(uuid.uuid4())


def encode(event: Mapping[str, object]) -> str:
    """One event as one text frame."""
    return _ENCODER.encode(event).decode()


def error_body(message: str, code: str, param: str | None = None, kind: str | None = None) -> Event:
    """The inner object of an `error` event; `code` mostly repeats the type."""
    return {
        "type": kind or ("invalid_event" if code == "invalid_event" else "invalid_request_error"),
        "code": code,
        "message": message,
        "param": param,
        "event_id": None,
    }
