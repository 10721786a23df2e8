"""Recordings by HTTP, over a real socket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn

from sipagent import model, orders
from sipagent.control import api, api_recordings
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.control.operator import Operator
from sipagent.control.recordings.journal import Journal
from sipagent.control.recordings.shelf import Shelf
from sipagent.tap import encode
from tests.asterisk.fixtures import free_port
from tests.control.recordings.test_recorder import ID, block, settings
from tests.waiting import until

KEY = base64.b64encode(bytes(32)).decode()
REFUSED = "refused"


async def nothing() -> api.Reloaded:
    return api.Reloaded(needs_restart=[])


@asynccontextmanager
async def served(shelf: Shelf) -> AsyncIterator[tuple[aiohttp.ClientSession, list[orders.Order]]]:
    live, asked = Live(1), []
    for call_id in ("up", REFUSED):
        live.take(
            model.CallStarted(call_id=call_id, at=0, caller="1", called="2", endpoint="e", codec="ulaw", worker=1)
        )

    hub = Hub(shelf.folder / "control.sock", live)

    def obey(order: orders.Order) -> None:
        asked.append(order)
        refused = isinstance(order, orders.PauseRecording | orders.ResumeRecording) and order.call_id == REFUSED
        hub.take(orders.Answer(order.id, "this call is not recorded" if refused else ""))

    hub.attach(1, obey)
    operator = Operator(hub, live, lambda: settings(shelf.folder))
    port = free_port()
    app = api.build(live, nothing, api_recordings.router(shelf, operator))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server._serve())
    await until(lambda: server.started, "the API to be up")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        yield http, asked
    server.should_exit = True
    await serving


def keep(shelf: Shelf, recording_id: str = ID) -> bytes:
    journal = Journal.begin(shelf.journal_path(recording_id), shelf.key)
    for n in range(12):
        journal.append(encode(block(n, recording_id=recording_id)))
    return b"".join(shelf.audio(shelf.keep(journal, cut=False)))


@pytest.mark.parametrize("form", ["wav", "opus"])
@pytest.mark.parametrize("key", ["", KEY])
async def test_a_recording_is_listed_fetched_and_deleted(tmp_path: Path, form: str, key: str) -> None:
    shelf = Shelf(settings(tmp_path, key=key, format=form))
    audio = keep(shelf)
    keep(shelf, "20261127" + ID[8:])
    async with served(shelf) as (http, _):
        async with http.get("/v1/recordings") as response:
            newer, older = (await response.json())["recordings"]
            assert (newer["recording_id"], older["recording_id"]) == ("20261127" + ID[8:], ID)
        async with http.get("/v1/recordings?limit=1") as response:
            assert (await response.json())["recordings"] == [newer]
        async with http.get("/v1/recordings?limit=0") as response:
            assert response.status == 422
        async with http.get(f"/v1/recordings/{ID}") as response:
            assert await response.json() == older
        async with http.get(f"/v1/recordings/{ID}/audio") as response:
            assert response.content_type == {"wav": "audio/wav", "opus": "audio/ogg"}[form]
            assert response.headers["Content-Disposition"] == f'attachment; filename="{ID}.{form}"'
            assert response.content_length == len(audio) == older["audio_bytes"]
            assert await response.read() == audio
        async with http.get(f"/v1/recordings/{ID}/audio", headers={"Range": "bytes=100-199"}) as response:
            assert response.status == (200 if key else 206)
            assert (await response.read())[:100] == (audio[:100] if key else audio[100:200])
        async with http.delete(f"/v1/recordings/{ID}") as response:
            assert response.status == 204
        for path in (f"/v1/recordings/{ID}", f"/v1/recordings/{ID}/audio", "/v1/recordings/..%2f..%2fx/audio"):
            async with http.get(path) as response:
                assert response.status == 404
        async with http.delete(f"/v1/recordings/{ID}") as response:
            assert response.status == 404
    assert [file.name for file in shelf.folder.rglob(f"{ID}*")] == []


async def test_another_key_is_a_problem_that_says_so(tmp_path: Path) -> None:
    keep(Shelf(settings(tmp_path, key=KEY)))
    async with (
        served(Shelf(settings(tmp_path, key="11" * 32))) as (http, _),
        http.get(f"/v1/recordings/{ID}/audio") as response,
    ):
        assert response.status == 409
        assert response.content_type == "application/problem+json"
        assert "another key" in (await response.json())["detail"]


async def test_pause_and_resume_are_orders_to_the_calls_worker(tmp_path: Path) -> None:
    async with served(Shelf(settings(tmp_path))) as (http, asked):
        for what, kind in (("pause", orders.PauseRecording), ("resume", orders.ResumeRecording)):
            for call_id, status in (("up", 204), (REFUSED, 409), ("gone", 404)):
                async with http.post(f"/v1/calls/{call_id}/recording/{what}") as response:
                    assert response.status == status
            assert [type(order) for order in asked] == [kind, kind]
            asked.clear()
