"""What the faults `garbage`, `unknown-events` and `dead-deltas` put between the good events.

Pure: frames as text, bytes or events. Each is something a sound client counts and skips.
"""

from __future__ import annotations

from sipagent.standin.wire import Event, NewId

GARBAGE: tuple[str | bytes, ...] = (
    '{"type":"response.output_audio.delta","delta":"',
    "not json at all",
    "",
    "[]",
    "42",
    "null",
    '{"no_type":true}',
    '{"type":17,"event_id":[]}',
    '{"type":"response.output_audio.delta","response_id":3,"item_id":{},"delta":17}',
    '{"type":"response.output_audio.delta","response_id":"x","item_id":"y","delta":"@@not base64@@"}',
    '{"type":"input_audio_buffer.speech_started","audio_start_ms":"soon","item_id":null}',
    '{"type":"session.updated","session":"yes"}',
    '{"type":"response.done","response":[]}',
    '{"type":"error","error":"bad"}',
    bytes(range(256)),
    b"",
)
"""Frames that are broken in one way each; bytes go out as binary frames."""


def unknown_events(new_id: NewId) -> tuple[Event, ...]:
    """Well-formed events of no schema."""
    return (
        {"type": "conversation.weather.changed", "event_id": new_id(), "temperature": 21.5},
        {"type": "response.thought.delta", "event_id": new_id(), "delta": "hm", "nested": {"a": [1, None]}},
    )


def dead_delta(new_id: NewId, response_id: str | None, sound: bytes) -> Event:
    """Audio for a response that is over, or (None) that never was."""
    return {
        "type": "response.output_audio.delta",
        "event_id": new_id(),
        "previous_item_id": None,
        "response_id": response_id or new_id(),
        "item_id": new_id(),
        "content_index": 0,
        "output_index": 0,
        "delta": sound,
        "audio_duration_ms": 20,
    }
