"""What a session remembers of itself for tests to look at: bounded in bytes, or off.

The record is written by the session and read in the same process; nothing of it leaves the machine.
"""

from __future__ import annotations

from collections import Counter, deque

from sipagent.standin.wire import Event

_MAX_EVENTS = 5000


class Record:
    """Caller audio with arrival times, client events, server events. Times are the session's `now`."""

    def __init__(self, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` of audio each way; 0 keeps nothing but counts."""
        self._limit = limit_bytes
        self._held = {"audio": 0, "sent": 0}
        self.audio: deque[tuple[float, bytes]] = deque()
        """(time, decoded bytes) of every `input_audio_buffer.append`, oldest dropped at the limit."""
        self.received: deque[tuple[float, Event]] = deque(maxlen=_MAX_EVENTS)
        """(time, event) of every other client event that could be read."""
        self.sent: deque[tuple[float, Event | str | bytes]] = deque()
        """(time, event) of all that was sent; `delta` of audio is raw bytes; garbage as it went out."""
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
            self.audio.append((now, data))
            self._held["audio"] += len(data)
            while self._held["audio"] > self._limit:
                self._held["audio"] -= len(self.audio.popleft()[1])

    def on_event(self, now: float, event: Event) -> None:
        """The client sent something else."""
        self.received_types[str(event.get("type"))[:64] if len(self.received_types) < 200 else "..."] += 1
        if self._limit:
            self.received.append((now, event))

    def on_sent(self, now: float, event: Event | str | bytes) -> None:
        """Something went out."""
        self.sent_types[str(event.get("type")) if isinstance(event, dict) else "garbage"] += 1
        if self._limit:
            self.sent.append((now, event))
            self._held["sent"] += _weight(event)
            while len(self.sent) > _MAX_EVENTS or self._held["sent"] > self._limit:
                self._held["sent"] -= _weight(self.sent.popleft()[1])


def _weight(event: Event | str | bytes) -> int:
    delta = event.get("delta") if isinstance(event, dict) else event
    return 300 + (len(delta) if isinstance(delta, bytes | str) else 0)
