"""A session's configuration: one frozen value, and how a `session.update` of xAI's merges into it.

Accepts xAI's flat layout and OpenAI's nested one (`audio.input.turn_detection`, `audio.output.voice`), flat
and nested function tools. An update is taken whole or refused whole (`Refusal`), so the old settings stay.
Unknown keys, voices and models are accepted in silence, as the real service does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sipagent.standin.wire import PCM_24K, PCM_RATES, AudioFormat, Event, Refusal

DEFAULT_THRESHOLD = 0.85
DEFAULT_SILENCE_MS = 500
"""The real default is not documented; clients in the field set 200 to 800."""
DEFAULT_PADDING_MS = 333

_SERVER_SIDE_TOOLS = frozenset({"web_search", "x_search", "file_search", "mcp"})
_OLD_FORMATS = {  # OpenAI's names before its GA layout, still sent by some clients
    "pcm16": PCM_24K,
    "g711_ulaw": AudioFormat("audio/pcmu", 8000),
    "g711_alaw": AudioFormat("audio/pcma", 8000),
}


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """`server_vad`, with the limits xAI documents."""

    threshold: float = DEFAULT_THRESHOLD
    silence_duration_ms: int = DEFAULT_SILENCE_MS
    prefix_padding_ms: int = DEFAULT_PADDING_MS
    idle_timeout_ms: int | None = None
    create_response: bool = True
    """Whether the end of speech is answered unasked; only OpenAI's wire can say no."""
    interrupt_response: bool = True
    """Whether speech cancels the answer under way; only OpenAI's wire can say no."""

    def as_wire(self) -> Event:
        """As `session.updated` echoes it."""
        body: Event = {
            "type": "server_vad",
            "threshold": self.threshold,
            "silence_duration_ms": self.silence_duration_ms,
            "prefix_padding_ms": self.prefix_padding_ms,
        }
        return body if self.idle_timeout_ms is None else body | {"idle_timeout_ms": self.idle_timeout_ms}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session runs on. `model` is fixed at opening."""

    model: str
    instructions: str = ""
    voice: str = "ara"
    turn_detection: TurnDetection | None = None
    input: AudioFormat = PCM_24K
    output: AudioFormat = PCM_24K
    transcription: Mapping[str, object] | None = None
    speed: float = 1.0
    tools: tuple[str, ...] = ()
    """Names of the function tools: all that the stand-in needs of them."""
    resumption: bool = False
    modalities: tuple[str, ...] = ("audio",)
    replace: Mapping[str, object] = field(default_factory=dict)
    audio_set: bool = False
    """Whether the client ever set `audio`: only then it is echoed."""

    def created(self, session_id: str) -> Event:
        """The body of `session.created`: not the shape of `session.updated`, as captured."""
        return {
            "id": session_id,
            "object": "realtime.session",
            "instructions": "",
            "voice": "xai_ara",
            "modalities": ["audio"],
            "turn_detection": {"type": None},
            "tools": [],
            "model": self.model,
        }

    def updated(self) -> Event:
        """The body of `session.updated`: no id, object, voice or tools, as captured."""
        body: Event = {
            "instructions": self.instructions,
            "model": self.model,
            "modalities": list(self.modalities),
            "turn_detection": self.turn_detection.as_wire() if self.turn_detection else {},
            "enable_noise_suppression": False,
            "keep_context": False,
            "enable_phonetic_spelling": False,
            "input_audio_format": "not specified",
            "output_audio_format": "not specified",
            "tool_choice": "auto",
            "temperature": -1,
            "max_response_output_tokens": "inf",
            "input_audio_transcription": self.transcription,
        }
        if self.audio_set:
            body["audio"] = {
                "input": {"format": self.input.as_wire(), "transport": "json"},
                "output": {"format": self.output.as_wire(), "transport": "json", "speed": self.speed},
            }
        if self.resumption:
            body["resumption"] = {"enabled": True}
        if self.replace:
            body["replace"] = self.replace
        return body


def merge(old: Settings, update: object) -> Settings:
    """`old` with the keys of a client's `session` object; raises Refusal and changes nothing if one is bad."""
    session = _object(update, "session")
    new = old
    if session.get("instructions") is not None:
        new = replace(new, instructions=_string(session["instructions"], "session.instructions"))
    if session.get("voice") is not None:
        new = replace(new, voice=_string(session["voice"], "session.voice"))
    if "audio" in session:
        new = _merge_audio(replace(new, audio_set=True), _object(session["audio"], "session.audio"))
    if session.get("input_audio_format") is not None:
        new = replace(new, input=_format(session["input_audio_format"], "session.input_audio_format"))
    if session.get("output_audio_format") is not None:
        new = replace(new, output=_format(session["output_audio_format"], "session.output_audio_format"))
    if "turn_detection" in session:
        new = replace(new, turn_detection=_turn_detection(session["turn_detection"]))
    if session.get("tools") is not None:
        new = replace(new, tools=_tools(session["tools"]))
    if session.get("resumption") is not None:
        enabled = _object(session["resumption"], "session.resumption").get("enabled")
        new = replace(new, resumption=enabled is True)
    if session.get("modalities") is not None:
        new = replace(new, modalities=tuple(_strings(session["modalities"], "session.modalities")))
    if session.get("replace") is not None:
        new = replace(new, replace=dict(_object(session["replace"], "session.replace")))
    return new


def _merge_audio(new: Settings, body: Mapping[str, object]) -> Settings:
    incoming = _object(body.get("input", {}), "session.audio.input")
    outgoing = _object(body.get("output", {}), "session.audio.output")
    for name, side in (("input", incoming), ("output", outgoing)):
        if side.get("transport") not in (None, "json"):
            raise Refusal(
                f"audio.{name}.transport {side['transport']!r} is not supported by this stand-in; use 'json'",
                param=f"session.audio.{name}.transport",
            )
        if side.get("format") is not None:
            chosen = _format(side["format"], f"session.audio.{name}.format")
            new = replace(new, input=chosen) if name == "input" else replace(new, output=chosen)
    if "turn_detection" in incoming:
        new = replace(new, turn_detection=_turn_detection(incoming["turn_detection"]))
    if incoming.get("transcription") is not None:
        transcription = dict(_object(incoming["transcription"], "session.audio.input.transcription"))
        new = replace(new, transcription=transcription)
    if outgoing.get("voice") is not None:
        new = replace(new, voice=_string(outgoing["voice"], "session.audio.output.voice"))
    if outgoing.get("speed") is not None:
        new = replace(new, speed=_number(outgoing["speed"], "session.audio.output.speed", 0.7, 1.5))
    return new


def _format(value: object, where: str) -> AudioFormat:
    if isinstance(value, str) and value in _OLD_FORMATS:
        return _OLD_FORMATS[value]
    body = {"type": value} if isinstance(value, str) else _object(value, where)
    kind, rate = body.get("type"), body.get("rate")
    if kind in ("audio/pcmu", "audio/pcma"):
        return AudioFormat(str(kind), 8000)  # a rate beside G.711 is ignored: AVA sends one
    if rate is None:
        rate = PCM_24K.rate
    if kind != "audio/pcm" or not isinstance(rate, int) or rate not in PCM_RATES:
        rates = ", ".join(map(str, sorted(PCM_RATES)))
        raise Refusal(
            f"{where}: {kind!r} at {rate!r} is not supported: audio/pcmu, audio/pcma or audio/pcm at {rates}",
            code="invalid_audio_format",
            param=where,
        )
    return AudioFormat("audio/pcm", rate)


def _turn_detection(value: object) -> TurnDetection | None:
    if value is None:
        return None
    body = _object(value, "session.turn_detection")
    kind = body.get("type")
    if kind is None:
        return None
    if kind != "server_vad":
        raise Refusal(f"invalid turn_detection type {kind!r}: 'server_vad' or null", param="turn_detection")
    new = TurnDetection()
    where = "invalid turn_detection: "
    if body.get("threshold") is not None:
        new = replace(new, threshold=_number(body["threshold"], where + "threshold", 0.1, 0.9))
    for key in ("silence_duration_ms", "prefix_padding_ms"):
        if body.get(key) is not None:
            padding: dict[str, Any] = {key: int(_number(body[key], where + key, 0, 10_000))}
            new = replace(new, **padding)
    if body.get("idle_timeout_ms") is not None:
        idle = int(_number(body["idle_timeout_ms"], where + "idle_timeout_ms", 1, 3_600_000))
        new = replace(new, idle_timeout_ms=idle)
    return new


def _tools(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Refusal("invalid tools: a list is needed", param="session.tools")
    names = []
    for tool in value:
        body = _object(tool, "invalid tools: each entry")
        kind = body.get("type")
        if isinstance(kind, str) and kind in _SERVER_SIDE_TOOLS:
            continue
        if kind != "function":
            raise Refusal(f"invalid tools: type {kind!r} is not known", param="session.tools")
        inner = body.get("function")
        named = _object(inner, "invalid tools: function") if inner is not None else body
        names.append(_string(named.get("name"), "invalid tools: name of a function"))
    return tuple(names)


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Refusal(f"{where} must be an object, not {type(value).__name__}", param=where)
    return value


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Refusal(f"{where} must be a string, not {type(value).__name__}", param=where)
    return value


def _strings(value: object, where: str) -> list[str]:
    if not isinstance(value, list):
        raise Refusal(f"{where} must be a list of strings", param=where)
    return [_string(entry, where) for entry in value]


def _number(value: object, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(f"{where} must be a number from {low} to {high}, not {value!r}", param=where)
    return value
