"""What a session remembers of itself for tests to look at: bounded in bytes, or off.

The record is written by the session and read in the same process; nothing of it leaves the machine.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TypeVar

from sipagent.standin.wire import Event

_ENTRY_BYTES = 100
"""Of an entry, beside what it holds: a client may send nothing, very often."""


_T = TypeVar("_T")


class Record:
    """Caller audio with arrival times, client events, server events. Times are the session's `now`."""

    def __init__(self, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` of audio, of events received and of what was sent; 0 keeps nothing but counts."""
        self._limit = limit_bytes
        self._weights: dict[str, deque[int]] = {"audio": deque(), "received": deque(), "sent": deque()}
        self._held = dict.fromkeys(self._weights, 0)
        self.audio: deque[tuple[float, bytes]] = deque()
        """(time, decoded bytes) of every `input_audio_buffer.append`, oldest dropped at the limit."""
        self.received: deque[tuple[float, Event]] = deque()
        """(time, event) of every other client event that could be read, likewise."""
        self.sent: deque[tuple[float, Event | str | bytes]] = deque()
        """(time, event) of all that was sent, likewise; `delta` of audio is raw bytes; garbage as it went out."""
        self.received_types: Counter[str] = Counter()
        self.sent_types: Counter[str] = Counter()

    @property
    def caller_audio(self) -> bytes:
        """All the caller's bytes that are still held, joined."""
        return b"".join(data for _, data in self.audio)

    def sent_audio(self, response_id: str | None = None) -> bytes:
        """The audio sent and still held, of one response or of all."""
        return b"".join(
            delta
            for _, event in self.sent
            if isinstance(event, dict)
            and isinstance(delta := event.get("delta"), bytes)
            and response_id in (None, event.get("response_id"))
        )

    def sent_events(self, type_: str) -> list[Event]:
        """All events of a type that were sent and are still held."""
        return [event for _, event in self.sent if isinstance(event, dict) and event.get("type") == type_]

    def received_events(self, type_: str) -> list[Event]:
        """All client events of a type that are still held."""
        return [event for _, event in self.received if event.get("type") == type_]

    def on_audio(self, now: float, data: bytes) -> None:
        """The caller spoke."""
        self.received_types["input_audio_buffer.append"] += 1
        if self._limit:
            self._keep("audio", self.audio, (now, data), len(data))

    def on_event(self, now: float, event: Event) -> None:
        """The client sent something else."""
        self.received_types[str(event.get("type"))[:64] if len(self.received_types) < 200 else "..."] += 1
        if self._limit:
            self._keep("received", self.received, (now, event), _weight(event))

    def on_sent(self, now: float, event: Event | str | bytes) -> None:
        """Something went out."""
        self.sent_types[str(event.get("type")) if isinstance(event, dict) else "garbage"] += 1
        if self._limit:
            self._keep("sent", self.sent, (now, event), _weight(event))

    def _keep(self, name: str, kept: deque[_T], entry: _T, weight: int) -> None:
        """An event is weighed once, when it comes: its items may be written on later."""
        weights = self._weights[name]
        kept.append(entry)
        weights.append(_ENTRY_BYTES + weight)
        self._held[name] += weights[-1]
        while self._held[name] > self._limit:
            kept.popleft()
            self._held[name] -= weights.popleft()


def _weight(event: object) -> int:
    """Roughly its bytes in memory. With no recursion: a client nests as deeply as it likes."""
    weight, left = 0, [event]
    while left:
        match left.pop():
            case str() | bytes() as text:
                weight += 50 + len(text)
            case dict() as body:
                weight += 100 + sum(50 + len(key) for key in body)
                left += body.values()
            case list() as body:
                weight += 100
                left += body
            case _:
                weight += 30
    return weight
