"""Connections of the API: bounded, and monitoring gets in however many somebody holds open."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.types import Receive, Send
from starlette.types import Scope as Request

from sipagent.config import ControlSettings
from sipagent.control.serving import Serving
from tests.asterisk.fixtures import free_port
from tests.waiting import PATIENCE_S, until

LIMIT = 8


class Api:
    """Answers at once, but for /slow, which is answered when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.control = ControlSettings(port=free_port(), connections=LIMIT)
        self.closed: Counter[str] = Counter()
        self.socket = folder / "api.sock"
        self.serving = Serving(self.control, self.socket, self.closed)
        self.go, self.slow = asyncio.Event(), 0

    async def __call__(self, request: Request, receive: Receive, send: Send) -> None:
        if request["path"] == "/slow":
            self.slow += 1
            await self.go.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def caller(self, *, unix: bool = False) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await (
            asyncio.open_unix_connection(self.socket)
            if unix
            else asyncio.open_connection(self.control.host, self.control.port)
        )
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Api]:
    api = Api(folder)
    running = asyncio.create_task(api.serving.run(api, api))
    try:
        yield api
    finally:
        api.go.set()
        api.serving.stop()
        await running


def asks(writer: asyncio.StreamWriter, path: str = "/metrics") -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


async def status(reader: asyncio.StreamReader) -> bytes:
    """Of the answer; empty where the connection was closed."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            line = await reader.readline()
            while await reader.readline() not in {b"\r\n", b""}:
                pass
        except ConnectionError:
            return b""
    return line.split(b" ")[1] if line else b""


async def test_whoever_has_been_idle_longest_gives_way(tmp_path: Path) -> None:
    """One that never asked, or asks by halves, or has its answer: not one that is being served."""
    async with serving(tmp_path) as api, AsyncExitStack() as stack:
        served, its_writer = await stack.enter_async_context(api.caller())
        asks(its_writer, "/slow")
        await until(lambda: api.slow == 1, "a request that is being served")
        first, first_writer = await stack.enter_async_context(api.caller())
        asks(first_writer)
        assert await status(first) == b"204"
        halves, halves_writer = await stack.enter_async_context(api.caller())
        halves_writer.write(b"GET /metrics HT")
        others = [await stack.enter_async_context(api.caller()) for _ in range(LIMIT - 3)]
        await until(lambda: len(api.serving.outside) == LIMIT, "as many as there may be")
        for gone in (first, halves):
            reader, writer = await stack.enter_async_context(api.caller())
            asks(writer)
            assert await status(reader) == b"204"
            assert await status(gone) == b""
        assert len(api.serving.outside) == LIMIT
        api.go.set()
        assert await status(served) == b"204"
        assert not others[0][0].at_eof()
    assert api.closed == {"gave_way": 2}


async def test_where_all_are_being_served_a_new_one_is_closed_and_the_command_line_gets_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as api, AsyncExitStack() as stack:
        there = [await stack.enter_async_context(api.caller()) for _ in range(LIMIT)]
        for _, writer in there:
            asks(writer, "/slow")
        await until(lambda: api.slow == LIMIT, "all of them to be served")
        reader, writer = await stack.enter_async_context(api.caller())
        asks(writer)
        assert await status(reader) == b""
        reader, writer = await stack.enter_async_context(api.caller(unix=True))
        asks(writer)
        assert await status(reader) == b"204"
        api.go.set()
        assert [await status(reader) for reader, _ in there] == [b"204"] * LIMIT
    assert api.closed == {"turned_away": 1}
