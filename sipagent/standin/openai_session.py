"""A session's configuration in OpenAI's shape: its defaults, how updates merge, and what of it the stand-in uses.

The body of `session.created` and `session.updated` is kept whole, so an echo tells everything the client has
set, whether it has an effect here or not. Checking is the schema's (`openai_schema.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from sipagent.standin.settings import Settings, TurnDetection
from sipagent.standin.wire import PCM_24K, AudioFormat, Event

LASTS_S = 3600.0
"""A session ends after 60 minutes."""
INSTRUCTIONS = "You are the stand-in's script: what is asked of you here is noted and not followed."
"""The service has instructions of its own, which `session.created` shows."""

_SERVER_VAD: Event = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,  # what the service sends; its types' documentation says 500
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
_SEMANTIC_VAD: Event = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
_PATIENCE_MS = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
"""Ours: the stand-in cannot tell whether a sentence has ended, so an eagerness is a length of silence."""
_TRANSCRIPTION: Event = {"model": None, "language": None, "prompt": None}
_NOT_ECHOED = frozenset({"parallel_tool_calls"})


def default(session_id: str, model: str, expires_at: int) -> dict[str, Any]:
    """The body of `session.created`, its keys as the service orders them."""
    pcm = {"type": PCM_24K.type, "rate": PCM_24K.rate}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "expires_at": expires_at,
        "audio": {
            "input": {
                "format": pcm,
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": dict(_SERVER_VAD),
            },
            "output": {"format": dict(pcm), "voice": "alloy", "speed": 1.0},
        },
        "include": None,
    }


def merged(old: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with a checked update in it; the model was chosen when the session was opened."""
    new = deepcopy(dict(old))
    for key, value in update.items():
        if key == "audio":
            for side, fields in value.items():
                for name, entry in fields.items():
                    new["audio"][side][name] = _audio(name, entry, old["audio"][side].get(name))
        elif key not in {"type", "model"} | _NOT_ECHOED:
            new[key] = deepcopy(value)
    return new


def _audio(name: str, entry: Any, old: Any) -> Any:
    if name == "format" and entry["type"] == PCM_24K.type:
        return {"type": PCM_24K.type, "rate": PCM_24K.rate}
    if not isinstance(entry, dict):
        return entry
    if name == "turn_detection":
        base = _SERVER_VAD if entry["type"] == "server_vad" else _SEMANTIC_VAD
        kept = old if isinstance(old, dict) and old["type"] == entry["type"] else base
        return {**kept, **entry}
    if name == "transcription":
        return {**(old or _TRANSCRIPTION), **deepcopy(entry)}
    if name == "noise_reduction":
        return {**(old or {}), **entry}
    return deepcopy(entry)


def settings(body: Mapping[str, Any]) -> Settings:
    """What the stand-in makes of it."""
    incoming, outgoing = body["audio"]["input"], body["audio"]["output"]
    return Settings(
        model=body["model"],
        instructions=body["instructions"],
        voice=outgoing["voice"] if isinstance(outgoing["voice"], str) else outgoing["voice"]["id"],
        turn_detection=_turn_detection(incoming["turn_detection"]),
        input=_format(incoming["format"]),
        output=_format(outgoing["format"]),
        transcription=incoming["transcription"],
        speed=outgoing["speed"],
        tools=tool_names(body["tools"], body["tool_choice"]),
    )


def tool_names(tools: list[dict[str, Any]], choice: object) -> tuple[str, ...]:
    """The functions that may be called; `required` and a chosen one are noted, but a script cannot be forced."""
    if choice == "none":
        return ()
    return tuple(tool["name"] for tool in tools if tool["type"] == "function")


def _format(body: Mapping[str, Any]) -> AudioFormat:
    return AudioFormat(body["type"], body.get("rate", 8000))


def _turn_detection(body: Mapping[str, Any] | None) -> TurnDetection | None:
    if body is None:
        return None
    if body["type"] == "semantic_vad":
        return TurnDetection(
            threshold=0.5,
            silence_duration_ms=_PATIENCE_MS[body["eagerness"]],
            prefix_padding_ms=300,
            create_response=body["create_response"],
            interrupt_response=body["interrupt_response"],
        )
    return TurnDetection(**{key: value for key, value in body.items() if key != "type"})
