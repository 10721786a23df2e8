"""The queue on disk: what was appended is read, in order, through crashes and full disks."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipagent.errors import ConfigError
from sipagent.records.spool import SEGMENT_BYTES, Spool

STEPS = st.lists(st.sampled_from(["append", "read", "advance", "crash", "torn"]), max_size=60)


def opened(folder: Path, cap_bytes: int = 1 << 20, segment_bytes: int = SEGMENT_BYTES) -> Spool:
    spool = Spool(folder, cap_bytes, segment_bytes)
    spool.open()
    return spool


def drain(spool: Spool) -> list[bytes]:
    out = []
    while lines := spool.read(7):
        out += lines
        spool.advance()
    return out


@settings(max_examples=60)
@given(STEPS)
def test_nothing_is_lost_and_nothing_comes_out_of_order(steps: list[str]) -> None:
    """After a crash lines may come again, never fewer: whoever reads tells by their numbers."""
    folder = Path(tempfile.mkdtemp())
    spool = opened(folder, segment_bytes=40)
    count = done = 0
    reading: list[bytes] = []
    try:
        for step in steps:
            match step:
                case "append":
                    spool.append([b"%d" % (count + n) for n in range(3)])
                    count += 3
                case "read":
                    reading = spool.read(4)
                    if reading:
                        assert int(reading[0]) <= done  # no gap
                case "advance" if reading:
                    spool.advance()
                    done = max(done, int(reading[-1]) + 1)
                    reading = []
                case "crash" | "torn":
                    spool.close()
                    if step == "torn":  # the machine stopped in the middle of a line
                        with max(folder.glob("*.jsonl")).open("ab") as file:
                            file.write(b"half a li")
                    spool = opened(folder, segment_bytes=40)
                    reading = []
                case _:
                    pass
        left = [int(line) for line in drain(spool)]
        assert left == list(range(count - len(left), count))
        assert count - len(left) <= done
        assert spool.size == 0
        assert len(list(folder.glob("*.jsonl"))) == 1
    finally:
        spool.close()
        shutil.rmtree(folder)


def test_it_holds_no_more_than_its_cap(tmp_path: Path) -> None:
    spool = opened(tmp_path, cap_bytes=30)
    spool.append([b"0123456789"] * 2)
    with pytest.raises(OSError, match="has reached its") as refused:
        spool.append([b"0123456789"])
    assert refused.value.errno == errno.ENOSPC
    assert drain(spool) == [b"0123456789"] * 2
    spool.append([b"0123456789"])
    assert drain(spool) == [b"0123456789"]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.append([b"first"])
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 3:
            return real(descriptor, data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        spool.append([b"second"])
    monkeypatch.setattr(os, "write", real)
    spool.append([b"third"])
    assert drain(spool) == [b"first", b"third"]


def test_a_file_that_cannot_be_opened_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left for the next one: what comes later goes in all the same."""
    spool = opened(tmp_path, segment_bytes=3)
    spool.append([b"first"])

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", none_left)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many"):
                spool.append([b"second"])
    spool.append([b"third"])
    assert drain(spool) == [b"first", b"third"]


def test_a_file_that_cannot_be_removed_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path, segment_bytes=3)
    for line in (b"a long first line", b"second"):
        spool.append([line])
    assert spool.read(9) == [b"a long first line"]
    spool.advance()

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", broken)
        with pytest.raises(OSError, match="Input"):
            spool.read(9)
    assert drain(spool) == [b"second"]


def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    spool.append([b"x"])
    assert (tmp_path / "spool").stat().st_mode & 0o77 == 0
    assert [file.name for file in (tmp_path / "spool").iterdir() if file.stat().st_mode & 0o77] == []


def test_it_belongs_to_one_process(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(ConfigError, match="another control process"):
        opened(tmp_path)
    spool.append([b"x"])
    spool.close()
    spool.close()
    assert drain(opened(tmp_path)) == [b"x"]
