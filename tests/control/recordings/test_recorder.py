"""From blocks to files: what is heard in them, what is left when somebody dies, what a bad disk costs."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import json
import os
import random
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from sipagent import model
from sipagent.audio import Law, decode
from sipagent.audio import encode as g711
from sipagent.config import Settings, load
from sipagent.control.recordings import recorder as recorder_module
from sipagent.control.recordings import shelf as shelf_module
from sipagent.control.recordings.journal import Journal
from sipagent.control.recordings.recorder import Recorder
from sipagent.control.recordings.shelf import Kept, Shelf
from sipagent.errors import ConfigError, RecordingUnreadable
from sipagent.tap import Block, encode
from tests.waiting import until

ID = "20261126T183018-00112233445566ff"
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = "ff" * 32
BEGUN = dt.datetime(2026, 11, 26, 18, 30, 18, tzinfo=dt.UTC)
SIZE = 6400
NEVER = 3600.0


def settings(tmp_path: Path, **recording: Any) -> Settings:
    return Settings(run_dir=tmp_path, agents={"a": {"instructions": "."}}, recording=recording)


def block(n: int, law: Law = Law.ULAW, recording_id: str = ID, **changes: Any) -> Block:
    noise = random.Random(n)
    sides = {"caller": noise.randbytes(SIZE), "agent": noise.randbytes(SIZE)} | changes
    return Block(recording_id, "call", law, BEGUN.timestamp(), n * SIZE, **sides)


def last(at: int, recording_id: str = ID) -> Block:
    return Block(recording_id, "call", Law.ULAW, BEGUN.timestamp(), at * SIZE, last=True)


def sound(blocks: Iterable[Block]) -> np.ndarray[Any, Any]:
    sides = [[np.frombuffer(decode(side, b.law), "<i2") for side in (b.caller, b.agent)] for b in blocks]
    return np.stack([np.concatenate(channel) for channel in zip(*sides, strict=True)], axis=1)


def heard(data: bytes, tmp_path: Path) -> np.ndarray[Any, Any]:
    file = tmp_path / "out"
    file.write_bytes(data)
    samples, rate_hz = soundfile.read(file, dtype="int16")
    assert rate_hz == 8000
    return samples  # type: ignore[no-any-return]


class Node:
    """A recorder and what it has told."""

    def __init__(self, settings: Settings, abandoned_s: float) -> None:
        self.events: list[model.RecordingEnded] = []
        self.recorder = Recorder(settings, self._tell, abandoned_s=abandoned_s)
        self.shelf = self.recorder.shelf

    def _tell(self, event: model.CallEvent) -> None:
        assert isinstance(event, model.RecordingEnded)
        self.events.append(event)

    def take(self, *blocks: Block) -> None:
        for one in blocks:
            self.recorder.take(encode(one))

    async def ended(self, count: int = 1) -> model.RecordingEnded:
        await until(lambda: len(self.events) >= count, f"{count} recording(s) to be kept")
        return self.events[-1]

    def audio(self, recording_id: str = ID) -> bytes:
        return b"".join(self.shelf.audio(self.shelf.get(recording_id)))

    def journal(self) -> Path:
        return self.shelf.journal_path(ID)

    async def written(self, blocks: int) -> None:
        def has() -> bool:
            return self.journal().exists() and self.journal().stat().st_size >= blocks * 2 * SIZE

        await until(has, f"{blocks} blocks in the journal")


@asynccontextmanager
async def node(settings: Settings, abandoned_s: float = NEVER) -> AsyncIterator[Node]:
    """A control process' worth of it; left as at a proper stop."""
    made = Node(settings, abandoned_s)
    running = asyncio.create_task(made.recorder.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled(), running.exception()
        await made.recorder.aclose()
        await made.recorder.aclose()


@pytest.mark.parametrize("law", list(Law))
@pytest.mark.parametrize("key", ["", KEY])
async def test_every_sample_of_both_sides_is_in_the_file(tmp_path: Path, law: Law, key: str) -> None:
    blocks = [block(n, law) for n in range(20)]
    async with node(settings(tmp_path, key=key)) as it:
        it.take(*blocks, last(20))
        event = await it.ended()
        data = it.audio()
    assert (heard(data, tmp_path) == sound(blocks)).all()
    path = tmp_path / "recordings" / "2026-11-26" / (ID + (".wav.sealed" if key else ".wav"))
    raw = path.read_bytes()
    assert event == model.RecordingEnded(
        call_id="call",
        at=event.at,
        recording_id=ID,
        path=str(path),
        format="wav",
        seconds=16.0,
        bytes=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
    )
    assert path.stat().st_mode & 0o77 == 0
    assert (raw == data) is (not key)
    kept = json.loads(path.with_name(ID + ".json").read_text())
    assert (kept["call_id"], kept["started"], kept["audio_bytes"]) == ("call", "2026-11-26T18:30:18Z", len(data))
    assert not it.journal().exists()
    assert not list(tmp_path.rglob("*.part"))


async def test_opus_is_as_long_and_nearly_the_same(tmp_path: Path) -> None:
    tone = (8000 * np.sin(np.arange(SIZE) * 2 * np.pi * 400 / 8000)).astype("<i2").tobytes()
    sides = {"caller": g711(tone, Law.ULAW), "agent": g711(bytes(2 * SIZE), Law.ULAW)}
    blocks = [block(n, **sides) for n in range(20)]
    async with node(settings(tmp_path, format="opus", key=KEY)) as it:
        it.take(*blocks, block(20, caller=sides["caller"][:123], agent=sides["agent"][:123]))
        it.take(Block(ID, "call", Law.ULAW, BEGUN.timestamp(), 20 * SIZE + 123, last=True))
        event = await it.ended()
        data = it.audio()
    samples = heard(data, tmp_path)
    assert samples.shape == (20 * SIZE + 123, 2)
    assert event.seconds == round((20 * SIZE + 123) / 8000, 3)
    assert data.startswith(b"OggS")
    left, right = np.abs(samples[1000:].astype(float)).mean(axis=0)
    assert left > 4000
    assert right < 200


async def test_a_pause_is_silence_and_stands_in_the_description(tmp_path: Path) -> None:
    paused = {"caller": b"", "agent": b"", "paused": SIZE}
    async with node(settings(tmp_path)) as it:
        it.take(block(0), block(1, **paused, paused_by="agent"), block(2, **paused, paused_by="agent"))
        it.take(block(3, **paused, paused_by="agent+operator"), block(4), last(5))
        event = await it.ended()
        pauses = it.shelf.get(ID).pauses
        samples = heard(it.audio(), tmp_path)
    assert [(p.by, p.from_s, p.to_s) for p in pauses] == [("agent", 0.8, 2.4), ("agent+operator", 2.4, 3.2)]
    assert (samples[:SIZE] == sound([block(0)])).all()
    assert not samples[SIZE : 4 * SIZE].any()
    assert (samples[4 * SIZE :] == sound([block(4)])).all()
    assert (event.seconds, event.lost_ms) == (4.0, 0)


async def test_what_never_came_is_silence_of_that_length_and_counted_and_what_came_twice_is_not(tmp_path: Path) -> None:
    async with node(settings(tmp_path)) as it:
        it.take(block(0), block(0), block(3, lost=80), block(1), block(3), last(5))
        event = await it.ended()
        samples = heard(it.audio(), tmp_path)
    assert event.lost_ms == 2 * 800 + 10 + 800
    assert samples.shape == (5 * SIZE, 2)
    assert not samples[SIZE : 3 * SIZE].any()
    assert (samples[3 * SIZE : 4 * SIZE] == sound([block(3)])).all()


@pytest.mark.parametrize("key", ["", KEY])
async def test_a_dead_worker_costs_what_it_had_not_sent(tmp_path: Path, key: str) -> None:
    blocks = [block(n) for n in range(3)]
    async with node(settings(tmp_path, key=key), abandoned_s=0.1) as it:
        it.take(*blocks)
        event = await it.ended()
        assert (heard(it.audio(), tmp_path) == sound(blocks)).all()
        assert it.shelf.get(ID).cut
        assert event.cut
        it.take(block(3))  # was only asleep, it seems
        await until(lambda: it.recorder.counts["blocks_late"] == 1, "the late block to be counted")
    assert event.seconds == 2.4


async def test_a_disk_that_stands_still_for_longer_than_a_worker_may_ends_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited is written when it is back; the worker has said all it had to say."""
    clock = SimpleNamespace(time=time.time, monotonic=lambda: clock.now_s, now_s=100.0)
    monkeypatch.setattr(recorder_module, "time", clock)
    append = Journal.append

    def slow(self: Journal, message: bytes) -> None:
        append(self, message)
        clock.now_s += 2 * recorder_module.ABANDONED_S

    monkeypatch.setattr(Journal, "append", slow)
    async with node(settings(tmp_path), abandoned_s=recorder_module.ABANDONED_S) as it:
        for n in range(3):
            it.take(block(n))
            await it.written(n + 1)
        it.take(last(3))
        event = await it.ended()
    assert (event.seconds, event.cut, event.lost_ms) == (2.4, False, 0)
    assert not it.recorder.counts["blocks_late"]


@pytest.mark.parametrize("key", ["", KEY])
async def test_a_control_process_that_dies_loses_nothing_that_was_written(tmp_path: Path, key: str) -> None:
    """Also when it dies in the middle of a record; and the worker, which lives, goes on where it was."""
    blocks = [block(n) for n in range(8)]
    async with node(settings(tmp_path, key=key)) as it:
        it.take(*blocks[:3])
        await it.written(3)
    assert it.events == []
    journal = it.journal()
    whole = journal.stat().st_size
    async with node(settings(tmp_path, key=key)) as it:
        it.take(blocks[3])
        await it.written(4)
    with journal.open("r+b") as file:
        file.truncate(whole + 5000)
    async with node(settings(tmp_path, key=key)) as it:
        it.take(*blocks[4:], last(8))
        event = await it.ended()
        samples = heard(it.audio(), tmp_path)
    assert event.lost_ms == 800  # the torn one
    assert (samples[: 3 * SIZE] == sound(blocks[:3])).all()
    assert (samples[4 * SIZE :] == sound(blocks[4:])).all()


async def test_what_was_over_when_we_died_is_kept_at_the_next_start(tmp_path: Path) -> None:
    made = settings(tmp_path)
    journal = Journal.begin(Shelf(made).journal_path(ID), b"")
    for one in (block(0), last(1)):
        journal.append(encode(one))
    journal.close()
    (made.recordings / "open" / "20261126T183018-00112233445566aa.journal").touch()
    async with node(made) as it:
        event = await it.ended()
    assert (event.seconds, event.cut) == (0.8, False)
    assert list((made.recordings / "open").iterdir()) == []


async def test_without_its_key_a_journal_is_left_alone(tmp_path: Path) -> None:
    async with node(settings(tmp_path, key=KEY)) as it:
        it.take(block(0))
        await it.written(1)
    before = it.journal().read_bytes()
    for key in ("", OTHER):
        async with node(settings(tmp_path, key=key), abandoned_s=0.0) as it:
            await until(lambda it=it: it.recorder.counts["journals_unreadable"] == 1, "it to be noticed")  # type: ignore[misc]
        assert it.journal().read_bytes() == before
    async with node(settings(tmp_path, key=KEY), abandoned_s=0.1) as it:
        assert (await it.ended()).seconds == 0.8


async def test_no_sound_is_on_the_disk_in_clear_when_there_is_a_key(tmp_path: Path) -> None:
    spoken = [block(n) for n in range(3)]
    clear = [spoken[1].caller[100:140], sound(spoken)[7000:7010].tobytes()]
    found: list[bool] = []
    for key in (KEY, ""):
        async with node(settings(tmp_path / (key or "clear"), key=key)) as it:
            it.take(*spoken)
            await it.written(3)
            disk = it.journal().read_bytes()
            it.take(last(3))
            await it.ended()
            disk += b"".join(file.read_bytes() for file in it.shelf.folder.rglob("*") if file.is_file())
        found += [part in disk for part in clear]
    assert found == [False, False, True, True]


@pytest.mark.parametrize("damage", ["another key", "no key", "cut", "changed", "swapped", "gone"])
async def test_what_cannot_be_read_is_said_not_guessed(tmp_path: Path, damage: str) -> None:
    async with node(settings(tmp_path, key=KEY)) as it:
        it.take(*[block(n) for n in range(12)], last(12))
        await it.ended()
        kept = it.shelf.get(ID)
    path = it.shelf.path(kept)
    raw, piece, key = path.read_bytes(), (1 << 16) + 28, KEY
    match damage:
        case "another key":
            key = OTHER
        case "no key":
            key = ""
        case "cut":
            path.write_bytes(raw[: 32 + 2 * piece])
        case "changed":
            path.write_bytes(raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:])
        case "swapped":
            first, second = raw[32 : 32 + piece], raw[32 + piece : 32 + 2 * piece]
            path.write_bytes(raw[:32] + second + first + raw[32 + 2 * piece :])
        case _:
            path.unlink()
    shelf = Shelf(settings(tmp_path, key=key))
    with pytest.raises(RecordingUnreadable):
        list(shelf.audio(kept))


async def test_a_folder_that_cannot_be_written_costs_the_recording_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("a file where the folder should be")
    async with node(settings(tmp_path)) as it:
        it.take(block(0), block(1), last(2))
        event = await it.ended()
        assert it.recorder.counts["blocks_unwritten"] == 3
    assert (event.path, event.bytes, event.recording_id) == ("", 0, ID)


async def test_a_full_disk_leaves_a_hole_and_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = False
    pwrite = os.pwrite

    def half_of_it(file: int, data: bytes, at: int) -> int:
        if not full:
            return pwrite(file, data, at)
        if len(data) <= 1000:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[: len(data) // 2], at)

    monkeypatch.setattr(os, "pwrite", half_of_it)
    async with node(settings(tmp_path)) as it:
        it.take(block(0))
        await it.written(1)
        full = True
        it.take(block(1), block(2))
        await until(lambda: it.recorder.counts["blocks_unwritten"] == 2, "the disk to be full")
        full = False
        it.take(block(3), last(4))
        event = await it.ended()
        samples = heard(it.audio(), tmp_path)
    assert event.lost_ms == 1600
    assert (samples[:SIZE] == sound([block(0)])).all()
    assert (samples[3 * SIZE :] == sound([block(3)])).all()


async def test_a_disk_that_is_full_from_the_first_block_on_leaves_no_journal_that_nobody_can_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for its head alone."""
    pwrite = os.pwrite

    def small_things(file: int, data: bytes, at: int) -> int:
        if len(data) > 100:
            raise OSError(28, "No space left on device")
        return pwrite(file, data, at)

    monkeypatch.setattr(os, "pwrite", small_things)
    async with node(settings(tmp_path), abandoned_s=0.1) as it:
        it.take(block(0))
        event = await it.ended()
    assert (event.path, event.seconds, event.cut) == ("", 0.0, True)
    assert not list((tmp_path / "recordings" / "open").iterdir())


async def test_a_file_that_cannot_be_made_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.05)
    (tmp_path / "recordings").mkdir()
    day = tmp_path / "recordings" / "2026-11-26"
    day.write_text("in the way")
    async with node(settings(tmp_path)) as it:
        it.take(block(0), last(1))
        await until(lambda: it.recorder.counts["files_unwritten"] > 0, "it to fail")
        assert it.events == []
        day.unlink()
        assert (await it.ended()).seconds == 0.8


async def test_a_disk_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "WAITING_BYTES", 40_000)
    async with node(settings(tmp_path)) as it:
        it.take(*[block(n) for n in range(10)], last(10))  # no await in between: nothing is written yet
        assert it.recorder.counts["blocks_dropped"] == 7
        event = await it.ended()
    assert (event.seconds, event.lost_ms) == (8.0, 7 * 800)


@pytest.mark.parametrize(
    "recording_id", ["../../etc/passwd", "", "20261126T183018-0011", "20261126T183018-00112233445566f/", "." * 32]
)
async def test_an_id_that_is_not_ours_is_no_path(tmp_path: Path, recording_id: str) -> None:
    async with node(settings(tmp_path)) as it:
        it.take(block(0, recording_id=recording_id))
        it.recorder.take(b"garbage")
        await until(lambda: it.recorder.counts["blocks_malformed"] == 2, "both to be refused")
        for ask in (it.shelf.get, it.shelf.delete):
            with pytest.raises(KeyError):
                ask(recording_id)
    assert not list(tmp_path.rglob("*.journal"))


def keep(shelf: Shelf, recording_id: str) -> Kept:
    journal = Journal.begin(shelf.journal_path(recording_id), b"")
    journal.append(encode(block(0, recording_id=recording_id)))
    return shelf.keep(journal, cut=False)


def test_the_newest_come_first_and_old_days_go(tmp_path: Path) -> None:
    shelf = Shelf(settings(tmp_path, keep_days=30))
    ids = [f"{day}T{hour}0000-{'0' * 16}" for day in ("20261026", "20261027", "20261126") for hour in ("08", "17")]
    for recording_id in random.Random(1).sample(ids, len(ids)):
        keep(shelf, recording_id)
    assert [kept.recording_id for kept in shelf.listed(5)] == ids[:0:-1]
    (shelf.folder / "notes").mkdir()
    for recording_id in ids[1:3]:
        Journal.begin(shelf.journal_path(recording_id), bytes(32)).close()
    assert shelf.expire(dt.date(2026, 11, 25)) == 0
    assert shelf.expire(dt.date(2026, 11, 26)) == 3
    assert [path.name for path in (shelf.folder / "open").iterdir()] == [f"{ids[2]}.journal"]
    assert [kept.recording_id for kept in shelf.listed(100)] == ids[:1:-1]
    assert (shelf.folder / "notes").exists()
    shelf.delete(ids[5])
    with pytest.raises(KeyError):
        shelf.get(ids[5])
    assert Shelf(settings(tmp_path, keep_days=0)).expire(dt.date(2099, 1, 1)) == 0


async def test_nobody_waits_for_an_hour_to_be_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "CLOSE_S", 0.01)
    endless = over_and_over(shelf_module._pcm)
    monkeypatch.setattr(shelf_module, "_pcm", endless)
    async with node(settings(tmp_path, format="opus")) as it:
        it.take(block(0), last(1))
        await it.written(1)
        # Nor does a call that goes on meanwhile.
        other = ID[:-1] + "0"
        it.take(block(0, recording_id=other))
        await until(it.shelf.journal_path(other).exists, "the other one to be written")
    assert it.events == []
    monkeypatch.undo()
    async with node(settings(tmp_path)) as it:
        assert (await it.ended()).seconds == 0.8


def over_and_over(real: Callable[[Journal], Iterable[bytes]]) -> Callable[[Journal], Iterable[bytes]]:
    """The same sound, over and over."""

    def endless(journal: Journal) -> Iterable[bytes]:
        while True:
            yield from real(journal)

    return endless


@pytest.mark.parametrize("form", ["wav", "opus"])
async def test_a_recording_of_nothing_is_a_file_too(tmp_path: Path, form: str) -> None:
    async with node(settings(tmp_path, format=form)) as it:
        it.take(last(0))
        event = await it.ended()
        assert not heard(it.audio(), tmp_path).any()
    assert event.seconds == 0


def test_the_wav_is_one_that_others_read(tmp_path: Path) -> None:
    shelf = Shelf(settings(tmp_path))
    with wave.open(str(shelf.path(keep(shelf, ID)))) as wav:
        assert (wav.getnchannels(), wav.getsampwidth(), wav.getframerate(), wav.getnframes()) == (2, 2, 8000, SIZE)


@pytest.mark.parametrize("key", ["short", "A" * 44, base64.b64encode(bytes(31)).decode()])
def test_a_key_of_the_wrong_length_is_named_and_not_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        settings(tmp_path, key=key)
    file = tmp_path / "sipagent.toml"
    file.write_text(f'[agents.a]\ninstructions = "."\n[numbers]\n"1" = "a"\n[recording]\nkey = "{key}"\n')
    with pytest.raises(ConfigError, match=r"sipagent.toml:6: recording.key: .*32 bytes") as error:
        load(file)
    assert key not in str(error.value)
