"""What the client says of servers that are no Asterisk of ours; the real one is in tests/e2e/test_switch.py."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from sipagent.ari import client as ari_client
from sipagent.ari import events
from sipagent.ari.client import AriClient
from tests.waiting import PATIENCE_S, until

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
StartClient = Callable[[Answer], Awaitable[AriClient]]
REFUSED: dict[str, Any] = {"message": "Not permitted"}
"""As an answer: with status 403."""


@pytest.fixture
async def connected_to() -> AsyncIterator[StartClient]:
    """A client whose server answers each request with `answer(request)`; None leaves it unanswered."""
    undo: list[Callable[[], Awaitable[Any]]] = []

    async def start(answer: Answer) -> AriClient:
        async def events(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("garbage")
            async for message in socket:
                asked = json.loads(message.data)
                if (body := answer(asked)) is not None:
                    status = 403 if body is REFUSED else 200
                    head = {"type": "RESTResponse", "request_id": asked["request_id"], "status_code": status}
                    await socket.send_str(json.dumps({**head, "message_body": json.dumps(body)}))
            return socket

        app = web.Application()
        app.router.add_get("/ari/events", events)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client = AriClient(
            url=f"http://127.0.0.1:{runner.addresses[0][1]}",
            app="sipagent-1",
            username="u",
            password="p",
            on_call=lambda _start: None,
            on_orphan=lambda _channel: None,
        )
        running = asyncio.create_task(client.run())

        async def stop() -> None:
            running.cancel()
            await asyncio.wait({running})
            await runner.cleanup()

        undo.append(stop)
        return client

    yield start
    for stop in undo:
        await stop()


async def test_an_asterisk_that_is_too_old_is_told(connected_to: StartClient) -> None:
    client = await connected_to(lambda _request: {"system": {"version": "20.9.3"}})
    await until(lambda: "Asterisk 20.9.3 is too old: 22.5" in client.trouble, "the version to be named")
    assert not client.connected


async def test_one_that_takes_no_requests_over_the_socket_is_told(
    connected_to: StartClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ari_client, "REQUEST_TIMEOUT_S", 0.1)
    client = await connected_to(lambda _request: None)
    await until(lambda: "older than 22.5" in client.trouble, "the reason to be named")


async def test_a_build_from_git_is_taken_on_trust_and_garbage_is_counted(connected_to: StartClient) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"system": {"version": "GIT-master-1a2b"}} if request["uri"] == "asterisk/info" else []  # type: ignore[return-value]

    client = await connected_to(answer)
    await until(lambda: client.connected, "the connection")
    assert client.counts["unread:garbage"] == 1


async def test_events_that_nobody_reads_are_refused_by_us_and_read_over_where_that_is_refused(
    connected_to: StartClient,
) -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        answers = {"asterisk/info": {"system": {"version": "22.5.0"}}, "applications/sipagent-1/eventFilter": REFUSED}
        return answers.get(request["uri"], [])  # type: ignore[arg-type]

    with capture_logs() as logs:
        client = await connected_to(answer)
        await until(lambda: client.connected, "the connection")
    (told,) = [entry for entry in logs if entry["event"] == "ari_events_unfiltered"]
    assert "Not permitted" in told["error"]
    (filtered,) = [request for request in asked if request["uri"].endswith("eventFilter")]
    assert filtered["method"] == "PUT"
    assert {"type": "ChannelVarset"} in json.loads(filtered["message_body"])["disallowed"]


async def test_who_came_back_while_the_socket_was_away_is_told(connected_to: StartClient) -> None:
    """Asterisk repeats no StasisStart; a caller back from a queue would wait for a worker that waits for them."""
    channel = {
        "id": "caller",
        "dialplan": {"context": "sipagent-back", "app_name": "Stasis", "app_data": "sipagent-1,back,TIMEOUT"},
    }
    answers = {"asterisk/info": {"system": {"version": "22.5.0"}}, "channels": [channel], "bridges": []}
    client = await connected_to(lambda request: answers.get(request["uri"], {}))  # type: ignore[return-value]
    with client.listen("caller") as happenings:
        back = await asyncio.wait_for(happenings.next(), PATIENCE_S)
    assert isinstance(back, events.StasisStart)
    assert back.args == ["back", "TIMEOUT"]
