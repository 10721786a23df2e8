"""Speech from text by flite, a small synthesizer that needs no network and no model on disk.

Flite runs as a program, one run an utterance (5 s of speech take about 0.1 s). The text is one argument of a
list, never a shell's business. The sound is as flite makes it: its leading and trailing silence (some 0.1 to
0.2 s each) is not cut. Knows nothing of calls, laws or sessions.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sipagent import audio
from sipagent.errors import ToolError

SYNTHESIS_TIMEOUT_S = 20.0
"""A minute of speech takes about a second; a run that takes this long hangs."""
MAX_TEXT = 4000
"""Characters; some five minutes of speech."""
CACHE_BYTES = 16 * 1024 * 1024
"""PCM kept: about eight minutes at flite's 16 kHz."""

_VOICE_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")  # flite would take a path or an address as a voice, and load it
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_MEND = "Install flite (Debian: apt-get install flite), or set the command that runs it"


class Flite:
    """The synthesizer: text in, PCM out, the latest results kept."""

    def __init__(self, command: Sequence[str] = ("flite",), voice: str = "slt") -> None:
        """`command` runs flite, its first words perhaps a loader; `voice` is the default voice."""
        self._command = tuple(command)
        self._voice = voice
        self._cache: OrderedDict[tuple[str, str], tuple[bytes, int]] = OrderedDict()
        self._held = 0

    async def synthesize(self, text: str, voice: str | None = None) -> tuple[bytes, int]:
        """Say `text`: PCM16 mono little-endian and its rate in Hz; ToolError says what to mend."""
        voice = voice or self._voice
        if not _VOICE_NAME.fullmatch(voice):
            raise ToolError(f"flite: {voice!r} is no name of a voice; 'flite -lv' lists them")
        text = " ".join(_UNSPEAKABLE.sub(" ", text).split())[:MAX_TEXT]
        key = voice, text
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
            return found
        speech = await self._run(text, voice)
        self._keep(key, speech)
        return speech

    def _keep(self, key: tuple[str, str], speech: tuple[bytes, int]) -> None:
        if key not in self._cache:  # two callers may have asked at once
            self._cache[key] = speech
            self._held += len(speech[0])
        while self._held > CACHE_BYTES:
            self._held -= len(self._cache.popitem(last=False)[1][0])

    async def _run(self, text: str, voice: str) -> tuple[bytes, int]:
        # A file and not a pipe: flite opens its output by name, and a pipe of uvloop is a socket, which
        # cannot be opened by name.
        with tempfile.TemporaryDirectory(prefix="sipagent-speech-") as folder:
            wav = Path(folder) / "speech.wav"
            errors = await self._execute("-voice", voice, "-t", text, "-o", str(wav))
            try:
                return audio.read_wav(wav.read_bytes())
            except (OSError, ValueError) as error:
                raise ToolError(f"flite wrote no sound: {errors or error}. {_MEND}") from error

    async def _execute(self, *arguments: str) -> str:
        """Run the program to its end; its complaints."""
        name = self._command[0] if self._command else "flite"
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except (OSError, TypeError) as error:
            raise ToolError(f"flite cannot be run as {name!r}: {error}. {_MEND}") from error
        try:
            async with asyncio.timeout(SYNTHESIS_TIMEOUT_S):
                _, raw = await process.communicate()
        except TimeoutError as error:
            raise ToolError(f"flite did not end within {SYNTHESIS_TIMEOUT_S:g} s; it was killed") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        complaint = raw.decode(errors="replace").strip()[-300:]
        if process.returncode != 0:
            raise ToolError(f"flite ended with {process.returncode}: {complaint or 'no message'}. {_MEND}")
        return complaint
