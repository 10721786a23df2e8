"""What is asked of a session, and how each service wants to be asked (core: values in, values and bytes out).

xAI's wire is OpenAI's, with a flat session object and an item of its own. `XAI` and `OPENAI` write what differs. What
the two say is near enough for one reader (`events`), and the rules of a session are the same (`session`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from sipagent.audio import Law
from sipagent.xai import events as wire


class Dialect(Protocol):
    """One service's way to be asked."""

    @property
    def resumes(self) -> bool:
        """It takes a conversation up again by its id."""

    def session(self, config: SessionConfig) -> dict[str, Any]:
        """The `session` object of `session.update`."""

    def standby(self) -> dict[str, Any]:
        """The same of a session that nobody uses yet: it listens to nobody, and costs nothing."""

    def say(self, text: str) -> bytes:
        """The message that has a text spoken word for word, as a response of its own."""


class _Xai:
    """xai-realtime reference, section 3: flat layout, transport named, no rate for G.711."""

    resumes = True

    def session(self, config: SessionConfig) -> dict[str, Any]:
        """The voice and the turn detection at the top."""
        transcription: dict[str, Any] = {"model": config.transcription or "grok-transcribe"}
        if config.language:
            transcription["language_hint"] = config.language
        audio_format = {"type": config.law.media_type}
        return {
            "instructions": config.instructions,
            "voice": config.voice,
            "reasoning": {"effort": config.reasoning},
            "turn_detection": _server_vad(config),
            "audio": {
                "input": {"format": audio_format, "transport": "json", "transcription": transcription},
                "output": {"format": audio_format, "transport": "json"},
            },
            "tools": [dict(tool) for tool in config.tools],
            "resumption": {"enabled": True},
        }

    def standby(self) -> dict[str, Any]:
        """Manual mode: with `server_vad` a session is billed by the clock (section 1.5)."""
        return {"turn_detection": {"type": None}}

    def say(self, text: str) -> bytes:
        """xAI's own item: no model turn, and no `response.create` may follow it."""
        return wire.force_message(text)


XAI: Dialect = _Xai()


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What we ask of the server; `law` is the caller's, so nothing is transcoded."""

    law: Law
    model: str
    voice: str
    instructions: str
    reasoning: str = "none"
    language: str = ""
    transcription: str = ""
    """The model that writes down what the caller says; empty: the dialect's usual one."""
    vad_threshold: float = 0.7
    vad_silence_ms: int = 500
    vad_prefix_ms: int = 333
    tools: tuple[Mapping[str, Any], ...] = ()
    dialect: Dialect = XAI


class _OpenAi:
    """OpenAI's Realtime API as generally available since August 2025.

    Source: the types of openai-python, `openai/types/realtime`, which the tests hold us to. It refuses a session with a
    key that it does not know, whole.
    """

    resumes = False

    def session(self, config: SessionConfig) -> dict[str, Any]:
        """All of `audio` under `audio`. Tools that xAI runs itself are not there, nor are their secrets told."""
        transcription: dict[str, Any] = {"model": config.transcription or "gpt-transcribe"}
        if config.language:
            transcription["language"] = config.language.partition("-")[0]  # ISO 639-1, without the region
        audio_format = {"type": config.law.media_type}
        session: dict[str, Any] = {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": config.instructions,
            "audio": {
                "input": {
                    "format": audio_format,
                    "transcription": transcription,
                    "turn_detection": _server_vad(config) | {"interrupt_response": True},
                },
                "output": {"format": audio_format, "voice": config.voice},
            },
            "tools": [dict(tool) for tool in config.tools if tool.get("type") == "function"],
        }
        if config.reasoning != "none":  # models without it refuse the key
            session["reasoning"] = {"effort": config.reasoning}
        return session

    def standby(self) -> dict[str, Any]:
        """Billed by what is said; but its own default is to listen."""
        return {"type": "realtime", "audio": {"input": {"turn_detection": None}}}

    def say(self, text: str) -> bytes:
        """A response with instructions of its own: the nearest there is, a model may still change a word."""
        spoken = msgspec.json.encode(text).decode()
        return wire.response_create(
            instructions="Say the text in the last line, which is a JSON string, word for word in its own language. "
            f"Add nothing and leave nothing out.\n{spoken}",
            tool_choice="none",
        )


def _server_vad(config: SessionConfig) -> dict[str, Any]:
    return {
        "type": "server_vad",
        "threshold": config.vad_threshold,
        "silence_duration_ms": config.vad_silence_ms,
        "prefix_padding_ms": config.vad_prefix_ms,
        "create_response": True,
    }


OPENAI: Dialect = _OpenAi()
DIALECTS: dict[str, Dialect] = {"xai": XAI, "openai": OPENAI}
"""By the names that the configuration has for them."""
