"""What a caller says until they are answered, as the stand-in has heard it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sipagent.standin.answer import Answer


@dataclass(slots=True)
class Turn:
    """A user turn made of speech: one item, one or more stretches of sound."""

    item_id: str
    stopped_at: float = 0.0
    last_audio: bytes = b""
    parts: list[str | None] = field(default_factory=list)
    """What was heard of each stretch; None while it is being recognised."""
    answer: Answer | None = None
    """The response opened for it, if any: once that has begun to speak, the turn is over."""

    @property
    def transcript(self) -> str | None:
        """All that was heard, or None while some of it is open."""
        if any(part is None for part in self.parts):
            return None
        return " ".join(part for part in self.parts if part)
