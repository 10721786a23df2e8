"""speech.Flite: the program as a subprocess, whatever the text and however the program fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipagent import audio, speech
from sipagent.errors import ToolError
from sipagent.speech import Flite


@pytest.fixture
def counting(tmp_path: Path) -> tuple[tuple[str, ...], Path]:
    """A stand-in for flite that notes its arguments and writes 100 ms of sound."""
    log, wav = tmp_path / "log", tmp_path / "sound.wav"
    wav.write_bytes(audio.write_wav(b"\x01\x02" * 800, 8000))
    program = tmp_path / "flite"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {log}\nwhile [ "$1" != -o ]; do shift; done\ncp {wav} "$2"\n')
    program.chmod(0o755)
    return (str(program),), log


async def test_speaks(flite: tuple[str, ...]) -> None:
    pcm, rate_hz = await Flite(flite).synthesize("hello there")
    assert rate_hz in (8000, 16000)
    assert 0.5 < len(pcm) / 2 / rate_hz < 3
    assert audio.level_dbov(pcm) > -40


@pytest.mark.parametrize(
    "text", ["-o /nowhere", "--help", "-", "$(reboot); `x` \"'", "tab\there\x00nul", "gr\u00fc\u00df \ud800"]
)
async def test_odd_texts_are_only_text(flite: tuple[str, ...], text: str) -> None:
    pcm, rate_hz = await Flite(flite).synthesize(text)
    assert rate_hz > 0
    assert isinstance(pcm, bytes)


async def test_text_is_one_argument(counting: tuple[tuple[str, ...], Path]) -> None:
    command, log = counting
    await Flite(command, "rms").synthesize("-lv; two\nlines")
    arguments = log.read_text().split("|")
    assert arguments[:4] == ["-voice", "rms", "-t", "-lv; two lines"]


async def test_same_text_is_synthesized_once(counting: tuple[tuple[str, ...], Path]) -> None:
    command, log = counting
    voice = Flite(command)
    first = await voice.synthesize("hello")
    assert await voice.synthesize("  hello ") == first
    assert log.read_text().count("-voice") == 1
    await voice.synthesize("hello", "rms")
    assert log.read_text().count("-voice") == 2


async def test_cache_is_bounded(counting: tuple[tuple[str, ...], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    command, log = counting
    monkeypatch.setattr(speech, "CACHE_BYTES", 2 * 1600)
    voice = Flite(command)
    for text in ("one", "two", "three", "one"):
        await voice.synthesize(text)
    assert log.read_text().count("-voice") == 4


async def test_missing_program_says_how_to_get_it() -> None:
    with pytest.raises(ToolError, match=r"apt-get install flite"):
        await Flite(("/nonexistent/flite",)).synthesize("hello")


async def test_empty_command() -> None:
    with pytest.raises(ToolError, match="cannot be run"):
        await Flite(()).synthesize("hello")


async def test_failing_program_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\necho no such voice >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ToolError, match="ended with 3: no such voice"):
        await Flite((str(program),)).synthesize("hello")


@pytest.mark.parametrize("script", ["exit 0", 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"'])
async def test_program_that_writes_no_sound(tmp_path: Path, script: str) -> None:
    program = tmp_path / "flite"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(ToolError, match="wrote no sound"):
        await Flite((str(program),)).synthesize("hello")


async def test_hanging_program_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(speech, "SYNTHESIS_TIMEOUT_S", 0.1)
    with pytest.raises(ToolError, match="did not end within"):
        await Flite((str(program),)).synthesize("hello")


@pytest.mark.parametrize("voice", ["../../etc/passwd", "http://example.org/v", "", "a b"])
async def test_voice_is_a_name_not_a_path(voice: str) -> None:
    with pytest.raises(ToolError, match="no name of a voice"):
        await Flite(voice=voice or " ").synthesize("hello")
