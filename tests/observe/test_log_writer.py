"""Lines that nobody takes."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sipagent.observe.log_writer import LogWriter
from tests.waiting import until

PIPE_BYTES = 4096
LINE = f"{{}} {'x' * 500}\n"


@dataclass
class Pipe:
    reads: int
    writes: int

    def everything(self) -> list[str]:
        os.set_blocking(self.reads, False)
        found = b""
        while data := _read(self.reads):
            found += data
        return found.decode().splitlines()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(*os.pipe())
    fcntl.fcntl(made.writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield made
    os.close(made.reads)
    os.close(made.writes)


async def written(writer: LogWriter, *lines: str) -> None:
    """In another thread: who waits here fails and does not hang."""
    async with asyncio.timeout(5):
        await asyncio.to_thread(lambda: [writer.write(line) for line in lines])


async def test_who_writes_does_not_wait_for_whoever_reads(pipe: Pipe) -> None:
    told: list[int] = []
    writer = LogWriter(pipe.writes, told.append, room_lines=20)
    await written(writer, *(LINE.format(number) for number in range(100)))
    assert writer.dropped > 50
    found = []

    def first_lines_are_there() -> bool:
        found.extend(pipe.everything())
        return len(found) + writer.dropped == 100

    await until(first_lines_are_there, "what was kept to be written")
    assert [int(line.split()[0]) for line in found] == list(range(len(found)))
    assert told == [writer.dropped]  # once, when there was room again
    writer.leave()


async def test_the_end_writes_what_waits(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writes, lambda _: None)
    await written(writer, "one\n", "two\n")
    writer.leave()
    assert pipe.everything() == ["one", "two"]


async def test_the_end_does_not_wait_for_a_reader_who_never_comes() -> None:
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    writer = LogWriter(writes, lambda _: None)
    await written(writer, *(LINE.format(number) for number in range(100)))
    async with asyncio.timeout(10):
        await asyncio.to_thread(writer.leave)
    os.close(reads)  # so that its thread ends before the descriptor is somebody else's
    writer.leave()
    os.close(writes)


async def test_a_reader_who_has_gone_is_no_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    writer = LogWriter(writes, lambda _: None)
    await written(writer, "nobody\n", "hears\n")
    writer.leave()
    os.close(writes)
    assert writer.dropped == 2
