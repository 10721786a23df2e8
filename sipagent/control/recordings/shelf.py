"""The recordings that are kept: a folder for each day, and in it two files a recording, its audio and what it is.

A recording's id begins with its day, so the files are found and listed without an index, and whatever is deleted by
hand is simply gone. Ids are ours (`Recording.begin`) and are checked before a path is made of one: nothing of a caller,
and no dot or slash of anybody, ever stands in a name.

All of it is plain file work for a thread, not for a loop.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import soundfile

from sipagent.audio import FRAME_BYTES, SAMPLE_RATE_HZ, decode
from sipagent.config import Settings
from sipagent.control.recordings.journal import Journal
from sipagent.control.recordings.sealed import Seal, opened, sealed
from sipagent.errors import RecordingUnreadable
from sipagent.tap import Block

ID = r"\d{8}T\d{6}-[0-9a-f]{16}"
OPEN = "open"
"""Folder of the journals of recordings that are not over."""
MEDIA_TYPES = {"wav": "audio/wav", "opus": "audio/ogg"}
_SUFFIXES = {"wav": ".wav", "opus": ".opus"}
_SEALED = ".sealed"
_MAX_HOLE = 6 * 3600 * SAMPLE_RATE_HZ
"""A block that claims to be further on is no block of this recording."""
_READ_BYTES = 1 << 16
_SAMPLE_BYTES = 4  # two channels of 16 bits


class Pause(msgspec.Struct, frozen=True):
    """Silence in the file, because nobody was to be listened to."""

    by: str
    from_s: float
    to_s: float


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording is: the content of the file beside it."""

    recording_id: str
    call_id: str
    started: dt.datetime
    seconds: float
    format: str
    encrypted: bool
    audio_bytes: int
    """As whoever downloads it gets it."""
    bytes: int
    """As it lies there ..."""
    sha256: str
    """... which this is the hash of."""
    lost_ms: int
    """Silence in the file that should be sound."""
    cut: bool
    """Nobody ended it: up to a second is missing at the end."""
    pauses: tuple[Pause, ...]


class Interrupted(Exception):
    """The process is to end; the journal stays for the next one."""


class Shelf:
    """The folder, as the settings have it now."""

    def __init__(self, settings: Settings) -> None:
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """New settings, for what comes from now on."""
        self.folder, self._recording = settings.recordings, settings.recording
        self.key = settings.recording.key_bytes

    def journal_path(self, recording_id: str) -> Path:
        """Where it grows; KeyError for what is no id."""
        return self.folder / OPEN / f"{_checked(recording_id)}.journal"

    # --- into it

    def keep(self, journal: Journal, *, cut: bool, stopping: Callable[[], bool] = lambda: False) -> Kept:
        """Make the file of a whole journal, which is gone then.

        Raises:
            OSError: the disk; the journal stays. Interrupted: `stopping` became true.
        """
        facts = _Facts(journal)
        form = self._recording.format
        day = self._day(facts.recording_id)
        day.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = day / (facts.recording_id + _SUFFIXES[form] + (_SEALED if self.key else ""))
        audio = _Counted(_wav(facts, journal) if form == "wav" else _opus(facts, journal, stopping))
        sha256, size = _write(path, sealed(Seal(self.key), audio) if self.key else audio, stopping)
        kept = Kept(
            recording_id=facts.recording_id,
            call_id=facts.call_id,
            started=dt.datetime.fromtimestamp(facts.begun_at, dt.UTC),
            seconds=round(facts.samples / SAMPLE_RATE_HZ, 3),
            format=form,
            encrypted=bool(self.key),
            audio_bytes=audio.bytes,
            bytes=size,
            sha256=sha256,
            lost_ms=facts.lost * 1000 // SAMPLE_RATE_HZ,
            cut=cut,
            pauses=tuple(facts.pauses),
        )
        _write(_described(path), [msgspec.json.format(msgspec.json.encode(kept))], stopping)
        journal.remove()
        return kept

    # --- out of it

    def listed(self, limit: int) -> list[Kept]:
        """The newest ones, newest first."""
        found: list[Kept] = []
        for day in sorted(self._days(), reverse=True):
            for path in sorted(day.glob("*.json"), reverse=True):
                if len(found) == limit:
                    return found
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    found.append(msgspec.json.decode(path.read_bytes(), type=Kept))
        return found

    def get(self, recording_id: str) -> Kept:
        """What it is; KeyError when it is not there (or not over)."""
        try:
            return msgspec.json.decode(self._about(recording_id).read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            raise KeyError(recording_id) from None

    def path(self, kept: Kept) -> Path:
        """The file with the audio, as it lies there."""
        return self._day(kept.recording_id) / (
            kept.recording_id + _SUFFIXES[kept.format] + (_SEALED if kept.encrypted else "")
        )

    def audio(self, kept: Kept) -> Iterator[bytes]:
        """The audio in pieces, decrypted. RecordingUnreadable: it was encrypted with another key, or is damaged."""
        try:
            with self.path(kept).open("rb") as file:
                if kept.encrypted:
                    yield from opened(file, self.key)
                else:
                    yield from iter(lambda: file.read(_READ_BYTES), b"")
        except OSError as error:
            raise RecordingUnreadable(f"its file cannot be read: {error.strerror}") from None

    def delete(self, recording_id: str) -> None:
        """It is gone; KeyError when it was not there."""
        kept = self.get(recording_id)
        self.path(kept).unlink(missing_ok=True)
        self._about(recording_id).unlink(missing_ok=True)

    def expire(self, today: dt.date) -> int:
        """Delete the days that are older than they may become; how many recordings that were."""
        if not self._recording.keep_days:
            return 0
        gone = 0
        last = today - dt.timedelta(days=self._recording.keep_days)
        for day in self._days():
            if day.name < last.isoformat():
                gone += len(list(day.glob("*.json")))
                shutil.rmtree(day)
        # Journals too, that nobody could make a file of: another key, say.
        for journal in (self.folder / OPEN).glob("*.journal"):
            if journal.name < f"{last:%Y%m%d}":
                journal.unlink()
                gone += 1
        return gone

    # --- names

    def _day(self, recording_id: str) -> Path:
        day = _checked(recording_id)
        return self.folder / f"{day[:4]}-{day[4:6]}-{day[6:8]}"

    def _about(self, recording_id: str) -> Path:
        return self._day(recording_id) / f"{recording_id}.json"

    def _days(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if re.fullmatch(r"\d{4}-\d\d-\d\d", path.name)]
        except FileNotFoundError:
            return []


def _checked(recording_id: str) -> str:
    if not re.fullmatch(ID, recording_id):
        raise KeyError(recording_id)
    return recording_id


def _described(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0] + ".json")


class _Facts:
    """What a journal says of itself, read once before its audio is."""

    def __init__(self, journal: Journal) -> None:
        self.recording_id = self.call_id = ""
        self.begun_at = 0.0
        self.samples = self.lost = 0
        self.pauses: list[Pause] = []
        for hole, block in _in_order(journal):
            self.recording_id, self.call_id, self.begun_at = block.recording_id, block.call_id, block.begun_at
            self.lost += hole + block.lost
            if block.paused:
                begun, ended = block.at / SAMPLE_RATE_HZ, (block.at + block.paused) / SAMPLE_RATE_HZ
                if self.pauses and (self.pauses[-1].by, self.pauses[-1].to_s) == (block.paused_by, begun):
                    begun = self.pauses.pop().from_s
                self.pauses.append(Pause(block.paused_by, begun, ended))
            self.samples += hole + block.samples


def _in_order(journal: Journal) -> Iterator[tuple[int, Block]]:
    """Each block, and how many samples are missing before it. What came twice is left out."""
    position = 0
    for block in journal.blocks():
        hole = block.at - position
        if 0 <= hole <= _MAX_HOLE:
            yield hole, block
            position = block.at + block.samples


def _pcm(journal: Journal) -> Iterator[bytes]:
    """16-bit stereo: the caller left, the agent right; silence for what is missing or was not to be heard."""
    for hole, block in _in_order(journal):
        yield from _nothing(hole + block.paused)
        if block.caller:
            both = np.empty((len(block.caller), 2), dtype="<i2")
            both[:, 0] = np.frombuffer(decode(block.caller, block.law), dtype="<i2")
            both[:, 1] = np.frombuffer(decode(block.agent, block.law), dtype="<i2")
            yield both.tobytes()


def _nothing(samples: int) -> Iterator[bytes]:
    second = bytes(SAMPLE_RATE_HZ * _SAMPLE_BYTES)
    for _ in range(samples // SAMPLE_RATE_HZ):
        yield second
    yield bytes(samples % SAMPLE_RATE_HZ * _SAMPLE_BYTES)


def _wav(facts: _Facts, journal: Journal) -> Iterator[bytes]:
    """A WAV file in pieces, its head first: how long it becomes is known."""
    size, rate = facts.samples * _SAMPLE_BYTES, SAMPLE_RATE_HZ
    form = (b"fmt ", 16, 1, 2, rate, rate * _SAMPLE_BYTES, _SAMPLE_BYTES, 16)  # PCM, two channels of 16 bits
    yield struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", *form, b"data", size)
    yield from _pcm(journal)


def _opus(facts: _Facts, journal: Journal, stopping: Callable[[], bool]) -> Iterator[bytes]:
    """An Ogg file of Opus, made in memory: 20 MB an hour at most."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", SAMPLE_RATE_HZ, 2, format="OGG", subtype="OPUS") as file:
        # Of nothing at all libsndfile makes a file that it does not read itself: 20 ms of silence then.
        for pcm in _pcm(journal) if facts.samples else _nothing(FRAME_BYTES):
            _unless(stopping)
            file.write(np.frombuffer(pcm, dtype="<i2").reshape(-1, 2))
    yield out.getvalue()


def _unless(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise Interrupted


class _Counted:
    """Passes pieces on and knows how many bytes they had."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.bytes = 0
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.bytes += len(piece)
            yield piece


def _write(path: Path, pieces: Iterable[bytes], stopping: Callable[[], bool]) -> tuple[str, int]:
    """A file that is there whole, on the disk and under its name, or not at all; its SHA-256 and size."""
    half = path.with_name(path.name + ".part")
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            for piece in pieces:
                _unless(stopping)
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except BaseException:  # cancelled as well as failed: half a file must never be taken for a recording
        half.unlink(missing_ok=True)
        raise
    return digest.hexdigest(), size
