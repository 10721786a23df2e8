"""The stand-in's ears: an utterance in, the script's phrase it is, or ''.

Owns a few recogniser processes (`hearing.py`) and the queue to them; the grammar is the list of the script's
phrases. What the grammar cannot place is '' and gets the script's fallback: the ears do not guess.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sipagent import audio
from sipagent.errors import ConfigError, ToolError
from sipagent.standin.hearing import OTHER, PHONES
from sipagent.standin.wire import AudioFormat

START_TIMEOUT_S = 30.0
"""Loading takes 0.3 s; a machine that swaps takes longer."""
DECODE_TIMEOUT_S = 10.0
"""30 s of speech, the longest utterance there is, take about 3 s."""
WAIT_TIMEOUT_S = 5.0
"""For a free process. A caller who waits longer for an answer has said something else by then."""
OTHER_SPEECH_WEIGHT = "0.00001"
_RATE_HZ = 16000  # the acoustic model's
_SHORTEST_BYTES = _RATE_HZ // 10 * 2  # 100 ms: no word is shorter, and the decoder fails on nothing at all
_SILENCE_BELOW_DB, _SILENCE_DBOV = 40.0, -60.0  # below the loudest frame; absolutely


def grammar(phrases: Sequence[str]) -> str:
    """The script's phrases as JSGF, and beside them a loop of single phones for all other speech.

    A grammar of phrases alone forces whatever it hears into one of them. The loop's weight is the price of
    each phone; at 1e-5, four flite voices at 8 kHz had 218 of 228 phrases right and 5 of 48 other sentences
    taken for a phrase; at 1e-6 it was 222 and 12.
    """
    phones = " | ".join(OTHER + phone.lower() for phone in PHONES)
    return (
        "#JSGF V1.0;\ngrammar script;\n"
        f"<phrase> = {' | '.join(phrases)};\n"
        f"<phone> = {phones};\n"
        f"<other> = /1/ <phone> | /{OTHER_SPEECH_WEIGHT}/ <phone> <other>;\n"
        "public <turn> = <phrase> | <other>;\n"
    )


def trimmed(pcm: bytes) -> bytes:
    """16 kHz speech with at most 60 ms of silence at each end.

    The silence that padding and end-pointing leave there is read as soft consonants, and speaks for the loop
    of phones: untrimmed, a quarter of the phrases is lost.
    """
    frame = _RATE_HZ * audio.PTIME_MS // 1000 * 2
    levels = [audio.level_dbov(pcm[start : start + frame]) for start in range(0, len(pcm), frame)]
    floor = max(max(levels, default=0.0) - _SILENCE_BELOW_DB, _SILENCE_DBOV)
    heard = [index for index, level in enumerate(levels) if level > floor]
    if not heard:
        return b""
    return pcm[max(0, heard[0] - 3) * frame : (heard[-1] + 4) * frame]


class Ears:
    """A pool of recognisers."""

    def __init__(self, phrases: Sequence[str], *, processes: int = 1) -> None:
        self._phrases = frozenset(phrases)
        words = sorted({word for phrase in phrases for word in phrase.split()})
        self._setup = json.dumps({"grammar": grammar(phrases), "words": words}).encode()
        self._size = processes
        self._free: asyncio.Queue[_Process] = asyncio.Queue(maxsize=processes)
        self._all: list[_Process] = []

    async def start(self) -> None:
        """Start the processes; ConfigError for words they cannot know, ToolError if they do not start."""
        for _ in range(self._size - len(self._all)):
            process = _Process(self._setup)
            self._all.append(process)
            self._free.put_nowait(process)
        started = False
        try:
            await asyncio.gather(*(process.start() for process in self._all))
            started = True
        finally:
            if not started:
                await self.aclose()

    async def hear(self, sound: bytes, audio_format: AudioFormat) -> str:
        """The phrase that was said, or ''; ToolError if no recogniser answers in time."""
        pcm = trimmed(audio.resample(audio_format.to_pcm(sound), audio_format.rate, _RATE_HZ))
        if len(pcm) < _SHORTEST_BYTES:
            return ""
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                process = await self._free.get()
        except TimeoutError as error:
            raise ToolError(f"all {self._size} recognisers are busy; raise the stand-in's 'ears'") from error
        try:
            text = await process.decode(pcm)
        finally:
            self._free.put_nowait(process)
        # Other speech comes as phones, or as a phrase that breaks off.
        return text if text in self._phrases else ""

    async def aclose(self) -> None:
        """End the processes; twice is fine."""
        await asyncio.gather(*(process.stop() for process in self._all))


class _Process:
    """One recogniser; started again by itself when it has died."""

    def __init__(self, setup: bytes) -> None:
        self._setup = setup
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self._process is not None:
            return
        program = Path(__file__).with_name("hearing.py")
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(program),  # -P: our file names must not shadow anybody's modules
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is the parent's to handle; stdin's end tells this one
            )  # fmt: skip
        except OSError as error:
            raise ToolError(f"the recogniser cannot be run: {error}") from error
        reply = await self._ask(self._setup, START_TIMEOUT_S)
        unknown = reply.get("unknown")
        if unknown:
            await self.stop()
            raise ConfigError(
                f"stand-in script: the recogniser's dictionary has no {', '.join(map(repr, unknown))}; "
                "choose other words for the phrases"
            )

    async def decode(self, pcm: bytes) -> str:
        await self.start()
        return str((await self._ask(pcm, DECODE_TIMEOUT_S)).get("text", ""))

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()  # it holds nothing that could be lost
        # Reading to the end closes the pipes' transports; wait alone would leave them to the collector.
        await process.communicate()

    async def _ask(self, frame: bytes, timeout_s: float) -> dict[str, list[str] | str]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ToolError("the recogniser is not running")
        answered = False
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(len(frame).to_bytes(4, "big") + frame)
                await process.stdin.drain()
                line = await process.stdout.readline()
            reply: dict[str, list[str] | str] = json.loads(line)
            answered = True
        except TimeoutError as error:
            raise ToolError(f"the recogniser did not answer within {timeout_s:g} s; it is started anew") from error
        except (OSError, ValueError) as error:
            raise ToolError("the recogniser ended (is pocketsphinx installed?); it is started anew") from error
        finally:
            if not answered:  # cancelled in the middle, too: its late answer must not meet the next question
                await self.stop()
        return reply
