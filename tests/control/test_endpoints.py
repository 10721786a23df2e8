"""An endpoint that cannot be had is known, and why."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from sipagent.config import Settings
from sipagent.control.endpoints import Endpoints, reach


@asynccontextmanager
async def server(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(hello, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield int(listening.sockets[0].getsockname()[1])


async def test_one_that_is_there() -> None:
    async with server() as port:
        assert await reach(f"ws://127.0.0.1:{port}/v1/realtime") == ""


async def test_one_where_nobody_listens() -> None:
    async with server() as port:
        pass
    assert "cannot be reached: Connect call failed" in await reach(f"ws://127.0.0.1:{port}/v1/realtime")


async def test_a_name_that_nobody_knows() -> None:
    assert (await reach("wss://nobody.invalid/v1/realtime")).startswith("the name nobody.invalid cannot be resolved")


async def test_a_certificate_of_somebody_else() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with server(context) as port:
        why = await reach(f"wss://localhost:{port}/v1/realtime")
    assert why.startswith("the certificate of localhost is not trusted:")


async def test_one_that_speaks_no_tls() -> None:
    async with server() as port:
        assert "127.0.0.1" in await reach(f"wss://127.0.0.1:{port}/v1/realtime")


async def test_one_that_takes_no_connection_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # the kernel takes the connection, nobody else does
        port = frozen.getsockname()[1]
        assert "does not answer within 0.1 s" in await reach(f"wss://127.0.0.1:{port}/", within_s=0.1)


async def test_what_an_operator_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(
        agents={"reception": {"instructions": "x"}},
        numbers={"100": "reception"},
        realtime={"fallbacks": {"other": {"url": "wss://other.test/v1/realtime"}}},
    )
    why = {"other.test": "the name other.test cannot be resolved"}

    async def asked(url: str) -> str:
        return next((text for host, text in why.items() if host in url), "")

    endpoints = Endpoints(lambda: settings, asked)
    await endpoints.look()
    await endpoints.look()
    assert endpoints.troubles == ["realtime endpoint other: the name other.test cannot be resolved"]
    why.clear()
    await endpoints.look()
    assert endpoints.troubles == []
    told = capsys.readouterr().out
    assert (told.count("endpoint_away"), told.count("endpoint_is_back")) == (1, 1)
