"""What the stand-in is told before it starts: one frozen value, checked when it is made.

Holds no behaviour. The command line and the tests build it; `server.serve` reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sipagent.errors import ConfigError
from sipagent.standin.faults import Faults

MODEL_NAME = "sipagent-standin-1"
"""What `session.created.session.model` says, whatever was asked for: the stand-in does not claim to be Grok."""


class Dialect(StrEnum):
    """Whose wire is spoken."""

    XAI = "xai"
    OPENAI = "openai"
    """The Realtime API as it is since general availability (GA): nested `audio`, strict about what it reads."""


class Mode(StrEnum):
    """How a turn is answered."""

    SCRIPT = "script"
    """Heard by pocketsphinx, answered from the script, spoken by flite."""
    DETERMINISTIC = "deterministic"
    """Answered after a set time with a set length of `pattern` audio; no ears, no voice."""
    ECHO = "echo"
    """Answered with the audio just heard."""


@dataclass(frozen=True, slots=True)
class Burst:
    """The shape in which an answer's audio is sent."""

    chunks: tuple[int, ...] = (571, 683, 489, 761, 557, 631)
    """Sizes of the deltas, used in turn, in samples at 8 kHz (scaled to other rates). The default is
    61 to 95 ms and never a multiple of 20 ms: 0 of 77 chunks measured on the real wire were."""
    speed: float = 10.0
    """Seconds of audio sent per second; `math.inf` sends all at once. The real service sends 40 s in a few."""

    def __post_init__(self) -> None:
        if not self.chunks or not all(0 < size <= 80_000 for size in self.chunks):
            raise ConfigError(f"stand-in: burst chunks {self.chunks} must be 1 to 80000 samples each")
        if not self.speed > 0:
            raise ConfigError(f"stand-in: burst speed {self.speed} must be above 0")

    @classmethod
    def even(cls, chunk_ms: int, speed: float = math.inf) -> Burst:
        """All deltas of one length."""
        return cls(chunks=(chunk_ms * 8,), speed=speed)


@dataclass(frozen=True, slots=True)
class StandinConfig:
    """Everything that can be set. The defaults make the scripted agent on loopback, on any free port."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes any free port; read it from `StandinServer.port`."""
    dialect: Dialect = Dialect.XAI
    mode: Mode = Mode.SCRIPT
    script: Path | None = None
    """None: the reception script that ships with the package."""
    think_ms: int = 500
    """End of the caller's speech (as `speech_stopped` tells it) to the first audio delta."""
    force_ms: int = 150
    """`force_message` to the first audio delta: no model turn, so sooner than an answer."""
    burst: Burst = field(default_factory=Burst)
    answer_ms: int = 2000
    """Deterministic mode: length of every answer."""
    seed: int = 1
    """Deterministic mode: answer number k (from 0) of a session is `pattern(law, seed + k, 0, length)`."""
    gate_dbov: float | None = None
    """Level above which a frame may be speech; None derives it from the session's `threshold`."""
    api_keys: frozenset[str] | None = None
    """Keys that are let in; None lets any non-empty key in. None at all is always refused with 401."""
    max_sessions: int = 0
    """Sessions open at once; who comes beyond it is answered with 429, as xAI does (ten a team by default). 0: any
    number."""
    flite: tuple[str, ...] = ("flite",)
    """The command of the speech synthesizer."""
    voice: str = "slt"
    """flite's voice for every xAI voice name: the names are accepted, not imitated."""
    ears: int = 1
    """Recogniser processes; each holds 60 MB or so and hears one utterance at a time."""
    ping_s: float = 10.0
    """Between two JSON `ping` events. The real interval is not known."""
    record_bytes: int = 4_000_000
    """Kept per session for tests to look at, of the caller's audio, of what was received beside it and of what was sent
    each so much; 0 keeps nothing, and no session once it is over (load, demonstrations)."""
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        for choice, kind in (("mode", Mode), ("dialect", Dialect)):
            try:  # a plain 'echo' from a command line is as good as the member
                object.__setattr__(self, choice, kind(getattr(self, choice)))
            except ValueError as error:
                known = ", ".join(kind)
                raise ConfigError(
                    f"stand-in: {choice} {getattr(self, choice)!r} is unknown; known are {known}"
                ) from error
        for name, low, high in (
            ("port", 0, 65535), ("think_ms", 0, 60_000), ("force_ms", 0, 60_000), ("answer_ms", 1, 600_000),
            ("ears", 1, 16), ("ping_s", 0.05, 3600), ("record_bytes", 0, 2**31),
            ("max_sessions", 0, 1_000_000),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"stand-in: {name} = {value} must lie between {low} and {high}")
