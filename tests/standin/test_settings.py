"""settings.merge: the layouts clients send, merging, and refusals that change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sipagent.standin.settings import Settings, TurnDetection, merge
from sipagent.standin.wire import AudioFormat, Refusal

NEW = Settings(model="m")
PCMU = AudioFormat("audio/pcmu", 8000)
VAD = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200, "prefix_padding_ms": 300}


@pytest.mark.parametrize(
    "update",
    [
        {"turn_detection": VAD, "voice": "eve", "audio": {"input": {"format": {"type": "audio/pcmu"}},
                                                          "output": {"format": {"type": "audio/pcmu"}}}},
        {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": VAD},
                                       "output": {"format": {"type": "audio/pcmu", "rate": 8000}, "voice": "eve"}}},
        {"turn_detection": VAD, "voice": "eve", "input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"},
    ],
    ids=["flat", "GA-nested", "older"],
)  # fmt: skip
def test_layouts(update: dict[str, Any]) -> None:
    settings = merge(NEW, update)
    assert settings.input == settings.output == PCMU
    assert settings.turn_detection == TurnDetection(0.5, 200, 300)
    assert settings.voice == "eve"


def test_updates_merge() -> None:
    first = merge(
        NEW, {"instructions": "be kind", "turn_detection": VAD, "audio": {"output": {"format": {"type": "audio/pcma"}}}}
    )
    second = merge(first, {"voice": "rex"})
    assert second.instructions == "be kind"
    assert second.turn_detection == first.turn_detection
    assert second.output.type == "audio/pcma"
    assert second.input == NEW.input
    assert merge(second, {"turn_detection": {"type": None}}).turn_detection is None
    assert merge(second, {"turn_detection": None}).turn_detection is None


def test_tools_flat_and_nested() -> None:
    flat = {"type": "function", "name": "a", "description": "", "parameters": {}}
    nested = {"type": "function", "function": {"name": "b"}}
    assert merge(NEW, {"tools": [flat, nested, {"type": "web_search"}]}).tools == ("a", "b")


def test_unknown_keys_models_and_voices_are_accepted() -> None:
    settings = merge(NEW, {"model": "other", "voice": "nobody", "temperature": 0.8, "output_modalities": ["text"]})
    assert settings.model == "m"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
def test_pcm_rates(rate: int) -> None:
    settings = merge(NEW, {"audio": {"output": {"format": {"type": "audio/pcm", "rate": rate}}}})
    assert settings.output == AudioFormat("audio/pcm", rate)


@pytest.mark.parametrize(
    "bad",
    [
        None, [], "x", {"instructions": 5}, {"voice": []}, {"turn_detection": "server_vad"},
        {"turn_detection": {"type": "semantic_vad"}}, {"turn_detection": {"type": "server_vad", "threshold": 2}},
        {"turn_detection": {"type": "server_vad", "threshold": True}},
        {"turn_detection": {"type": "server_vad", "silence_duration_ms": "500"}},
        {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 10001}},
        {"audio": 3}, {"audio": {"input": []}}, {"audio": {"output": {"format": {"type": "audio/mp3"}}}},
        {"audio": {"output": {"format": {"type": "audio/opus"}}}},
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 12345}}}},
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": [8000]}}}},
        {"audio": {"output": {"transport": "binary"}}}, {"audio": {"output": {"speed": 9}}},
        {"tools": {}}, {"tools": ["x"]}, {"tools": [{"type": "function"}]}, {"tools": [{"type": "gun"}]},
        {"tools": [{"type": []}]}, {"tools": [{"type": {}}]},
        {"modalities": "audio"}, {"resumption": True}, {"replace": []}, {"input_audio_format": "mp3"},
    ],
)  # fmt: skip
def test_bad_updates_are_refused(bad: object) -> None:
    with pytest.raises(Refusal):
        merge(NEW, bad)


def test_echoes_differ_as_captured() -> None:
    settings = merge(
        NEW, {"turn_detection": VAD, "voice": "eve", "audio": {"output": {"format": {"type": "audio/pcmu"}}}}
    )
    created, updated = NEW.created("ab"), settings.updated()
    assert created["turn_detection"] == {"type": None}
    assert created["voice"] == "xai_ara"
    assert not {"id", "object", "voice", "tools"} & updated.keys()
    assert updated["turn_detection"] == VAD
    assert updated["audio"]["output"]["format"] == {"type": "audio/pcmu", "rate": 8000}  # type: ignore[index]
    assert "audio" not in NEW.updated()
    assert NEW.updated()["turn_detection"] == {}
