"""The file that grows: whatever was torn is gone when the next block comes, and nothing of it is read."""

import os
from pathlib import Path

import pytest

from sipagent.control.recordings.journal import Journal
from sipagent.errors import RecordingUnreadable
from sipagent.tap import encode
from tests.control.recordings.test_recorder import block, last

KEYS = [b"", bytes(32)]


@pytest.mark.parametrize("key", KEYS)
def test_a_disk_that_is_full_in_the_middle_of_a_block_leaves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    journal = Journal.begin(tmp_path / "j", key)
    journal.append(encode(block(0)))
    before = journal.path.stat().st_size
    pwrite = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if at > before:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[:3000], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        journal.append(encode(block(1)))
    assert journal.path.stat().st_size == before
    monkeypatch.undo()
    journal.append(encode(last(2)))
    assert list(journal.blocks()) == [block(0), last(2)]
    journal.close()
    journal.close()


@pytest.mark.parametrize("key", KEYS)
def test_taken_up_it_goes_on_after_the_last_whole_block(tmp_path: Path, key: bytes) -> None:
    journal = Journal.begin(tmp_path / "j", key)
    for one in (block(0), block(1)):
        journal.append(encode(one))
    journal.close()
    with journal.path.open("r+b") as file:
        file.truncate(journal.path.stat().st_size - 1)
    again, found = Journal.take_up(journal.path, key)
    assert found == block(0)
    assert journal.path.stat().st_size < 2 * 6400 + 200
    again.append(encode(last(2)))
    assert list(again.blocks()) == [block(0), last(2)]
    again.remove()
    assert not journal.path.exists()


def test_what_is_no_journal_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("something else of somebody's")
    with pytest.raises(RecordingUnreadable):
        Journal.take_up(tmp_path / "j", b"")
    with pytest.raises(FileExistsError):
        Journal.begin(tmp_path / "j", b"")
    assert (tmp_path / "j").read_text() == "something else of somebody's"
