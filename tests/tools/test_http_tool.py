"""HTTP tools against real servers on loopback: what is sent, what comes back, and where they refuse to go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import ValidationError

from sipagent.config.tools import HttpTool
from sipagent.errors import ConfigError
from sipagent.tools import CallFacts, ToolFailed, doors
from sipagent.tools.http_tool import HttpRunner
from tests.waiting import until

SECRET = "s3cr3t/+value"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FACTS = CallFacts("call-1", {"caller": "+15551234567", "called": "100"})
LOOPBACK = ("127.0.0.1",)


class Server:
    """Everything that was asked of it, and one handler for all of it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._ok
        self.port = 0

    async def _ok(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"order": {"status": "sent", "items": [{"n": 1}, {"n": 2}]}})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return await self.answer(request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest_asyncio.fixture
async def servers() -> AsyncIterator[Callable[[], Awaitable[Server]]]:
    async with AsyncExitStack() as stack:

        async def make() -> Server:
            server = Server()
            app = web.Application(client_max_size=2**20)
            app.router.add_route("*", "/{path:.*}", server.handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            server.port = runner.addresses[0][1]
            return server

        yield make


@pytest_asyncio.fixture
async def server(servers: Callable[[], Awaitable[Server]]) -> Server:
    return await servers()


@pytest_asyncio.fixture
async def tool() -> AsyncIterator[Callable[..., HttpRunner]]:
    made: list[HttpRunner] = []

    def make(url: str, lookup: Any = None, **more: Any) -> HttpRunner:
        settings = {"private_networks": LOOPBACK, **more}
        made.append(HttpRunner("t", HttpTool(kind="http", description="d", url=url, **settings), lookup))
        return made[-1]

    yield make
    for one in made:
        await one.close()


Make = Callable[..., HttpRunner]


async def failure(runner: HttpRunner, **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as failed:
        await runner.run(arguments, FACTS)
    assert SECRET not in str(failed.value)
    return str(failed.value)


async def test_values_are_encoded_by_place(server: Server, tool: Make) -> None:
    runner = tool(
        server.url + "/orders/{order}?q={q}&left={out}&who={caller}",
        headers={"X-Key": "Bearer {secret}", "X-Order": "{order}"},
        secret=SECRET,
    )
    await runner.run({"order": "a b/c?d#e", "q": "x&admin=1"}, FACTS)
    method, path, headers, _ = server.seen[0]
    assert method == "GET"
    assert path == "/orders/a%20b%2Fc%3Fd%23e?q=x%26admin%3D1&who=%2B15551234567"
    assert headers["X-Key"] == f"Bearer {SECRET}"
    assert headers["X-Order"] == "a b/c?d#e"


@pytest.mark.parametrize("value", ["..", ".", "../admin", "x/../../y", "..\\admin", "%2e%2e", "a/%2e%2e/b"])
async def test_a_value_cannot_leave_its_folder(server: Server, tool: Make, value: str) -> None:
    assert "another folder" in await failure(tool(server.url + "/orders/{order}/show"), order=value)
    assert server.seen == []


async def test_a_value_cannot_begin_a_header(server: Server, tool: Make) -> None:
    told = await failure(tool(server.url, headers={"X-Order": "{order}"}), order="1\r\nX-Admin: yes")
    assert "line breaks" in told
    assert server.seen == []


async def test_a_value_stays_a_value_in_a_body(server: Server, tool: Make) -> None:
    body = {"order": "{order}", "note": "from {caller}: {order}", "n": "{n}", "x": "{gone}"}
    runner = tool(server.url, method="POST", body=body)
    nasty = '"}, "admin": {"a": "'
    await runner.run({"order": nasty, "n": 3}, FACTS)
    assert json.loads(server.seen[0][3]) == {"order": nasty, "note": f"from +15551234567: {nasty}", "n": 3}
    runner = tool(server.url, method="POST", form={"order": "{order}"})
    await runner.run({"order": "1&admin=2"}, FACTS)
    assert server.seen[1][3] == b"order=1%26admin%3D2"
    runner = tool(server.url, method="PUT")
    await runner.run({"order": 1}, FACTS)
    assert json.loads(server.seen[2][3]) == {"order": 1}


async def test_what_the_model_is_told_is_picked(server: Server, tool: Make) -> None:
    answer = await tool(server.url, pick="order.{status: status, n: items[].n}").run({}, FACTS)
    assert json.loads(answer.output) == {"status": "sent", "n": [1, 2]}
    assert "nothing of what" in await failure(tool(server.url, pick="order.nowhere"))
    with pytest.raises(ConfigError, match="JMESPath"):
        tool(server.url, pick="order.[")


async def test_a_megabyte_is_refused_while_it_comes(server: Server, tool: Make) -> None:
    async def big(request: web.Request) -> web.StreamResponse:
        return web.Response(text="x" * 1_000_000)

    server.answer = big
    assert "longer than 65536 bytes" in await failure(tool(server.url))


async def test_a_safe_request_is_tried_again_and_no_other(server: Server, tool: Make) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        if len(server.seen) < 3:
            raise web.HTTPServiceUnavailable
        return web.json_response({"ok": 1})

    server.answer = away
    assert (await tool(server.url).run({}, FACTS)).output == '{"ok": 1}'
    server.seen.clear()
    assert "503" in await failure(tool(server.url, method="POST"))
    assert len(server.seen) == 1


async def test_errors_say_what_happened_and_never_the_secret(server: Server, tool: Make) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, text=f"wrong key: {request.headers['X-Key']} {request.raw_path}")

    server.answer = echo
    runner = tool(server.url + "/?k={secret}", headers={"X-Key": "{secret}"}, secret=SECRET)
    told = await failure(runner)
    assert "403" in told
    assert "wrong key: ***" in told
    assert "s3cr3t" not in told
    assert "s3cr3t" not in repr(runner.__dict__["_tool"])


async def test_a_secret_that_is_echoed_is_not_told(server: Server, tool: Make) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"you_sent": request.headers["X-Key"]})

    server.answer = echo
    answer = await tool(server.url, headers={"X-Key": "{secret}"}, secret=SECRET).run({}, FACTS)
    assert "s3cr3t" not in answer.output


async def test_nobody_there(tool: Make) -> None:
    told = await failure(tool("http://127.0.0.1:9/", retries=0))
    assert told == "the server cannot be reached (no connection)"


# --- where it may go


async def test_redirects_lead_to_allowed_hosts_only(servers: Callable[[], Awaitable[Server]], tool: Make) -> None:
    first, second = await servers(), await servers()

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": second.url + "/there"})

    first.answer = redirect
    assert "may not reach" in await failure(tool(first.url))
    assert second.seen == []
    allowed = tool(first.url, allowed_hosts=(f"127.0.0.1:{second.port}",), headers={"X-Key": "{secret}"}, secret=SECRET)
    assert "sent" in (await allowed.run({}, FACTS)).output
    _, path, headers, _ = second.seen[0]
    assert path == "/there"
    assert "X-Key" not in headers  # the secret is for the first one


async def test_a_redirect_to_a_private_address_is_refused(server: Server, tool: Make) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "http://169.254.169.254/latest/meta-data"})

    server.answer = redirect
    # Even where the host is allowed: its address is not.
    assert "private" in await failure(tool(server.url, allowed_hosts=("169.254.169.254",)))


async def test_redirects_end(server: Server, tool: Make) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/again"})

    server.answer = redirect
    assert "round and round" in await failure(tool(server.url))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "[::1]", "[fe80::1]",
        "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1",
    ],
)  # fmt: skip
async def test_private_addresses_are_refused(tool: Make, host: str) -> None:
    assert "private" in await failure(tool(f"http://{host}:9/", private_networks=()))


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.1", "017700000001"])
async def test_other_spellings_of_an_address_are_refused(tool: Make, host: str) -> None:
    await failure(tool(f"http://{host}:9/", private_networks=(), retries=0))


async def test_the_address_that_was_checked_is_the_one_connected_to(server: Server, tool: Make) -> None:
    """DNS rebinding: a name that is public at the first look and ours at the second."""
    answers = [["203.0.113.7", "127.0.0.1"], ["127.0.0.1"]]
    asked = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    runner = tool(f"http://rebind.example:{server.port}/", lookup, private_networks=(), retries=0)
    for _ in range(2):
        assert "private" in await failure(runner)
    assert asked == ["rebind.example", "rebind.example"]
    assert server.seen == []
    good = tool(f"http://rebind.example:{server.port}/", lookup)
    assert "sent" in (await good.run({}, FACTS)).output
    assert server.seen[0][2]["Host"] == f"rebind.example:{server.port}"


PUBLIC = "3ffe::1"
"""A public address by its kind, and no packet gets there: the 6bone is gone (RFC 3701)."""


@pytest.mark.parametrize("host", [f"[{PUBLIC}]", "shop.example"])
async def test_a_secret_does_not_go_in_clear_to_a_public_address(tool: Make, host: str) -> None:
    """A network that is listed makes no other address a near one."""

    async def lookup(name: str, port: int) -> list[str]:
        return ["127.0.0.1", PUBLIC]

    hasty: dict[str, Any] = {"retries": 0, "timeout_s": 0.1}
    with_secret = {"headers": {"X-Key": "{secret}"}, "secret": SECRET, **hasty}
    assert "in clear" in await failure(tool(f"http://{host}:9/", lookup, **with_secret))
    # Sealed, or without it, it may go there.
    assert "cannot be reached" in await failure(tool(f"https://{host}:9/", lookup, **with_secret))
    assert "cannot be reached" in await failure(tool(f"http://{host}:9/", lookup, **hasty))


async def test_a_redirect_takes_no_secret_in_clear_to_a_public_address(server: Server, tool: Make) -> None:
    """A body goes with a 307, whatever is in it."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://[{PUBLIC}]/"})

    server.answer = redirect
    form = {"method": "POST", "form": {"key": "{secret}"}, "secret": SECRET, "timeout_s": 0.5}
    assert "in clear" in await failure(tool(server.url, allowed_hosts=(PUBLIC,), **form))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_in_clear_a_listed_network_is_the_only_way(address: str) -> None:
    listed = doors.networks(["10.0.0.0/8", "93.184.216.0/24", "2606:2800::/32"])
    for of_these in (listed, ()):
        doors.Doorman(of_these).check_literal(address)
    doors.Doorman(listed, in_clear=True).check_literal(address)
    with pytest.raises(ToolFailed, match="in clear"):
        doors.Doorman(listed[:1], in_clear=True).check_literal(address)


async def test_an_answer_that_never_comes_is_cancelled_with_the_call(server: Server, tool: Make) -> None:
    gone = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    server.answer = slow
    running = asyncio.create_task(tool(server.url).run({}, FACTS))
    await until(lambda: bool(server.seen), "the request")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"url": "https://{host}/x"}, "the host stands as it is"),
        ({"url": "https://a.example{x}/"}, "the host stands as it is"),
        ({"url": "file:///etc/passwd"}, "http"),
        ({"url": "https://user:pw@a.example/"}, "no user"),
        ({"url": "https://a.example/ x"}, "no blanks"),
        ({"url": "https://a.example?x={y}"}, "slash"),
        ({"headers": {"Host": "b"}}, "cannot be set"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "no line breaks"),
        ({"headers": {"X A": "1"}}, "cannot be set"),
        ({"body": {"a": 1}}, "has no body"),
        ({"method": "POST", "body": {"a": 1}, "form": {"a": "1"}}, "not both"),
        ({"url": "http://a.example/", "secret": "x"}, "in clear"),
        ({"parameters": {"secret": "x"}}, "secret"),
        ({"parameters": {"a b": "x"}}, "no name"),
        ({"parameters": {"type": "array", "items": {}}}, "object"),
    ],
)
def test_mistakes_in_the_configuration(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        HttpTool(**{"kind": "http", "description": "d", "url": "https://a.example/", **wrong})


async def test_whoever_traces_is_told_which_trace_it_is(
    servers: Callable[[], Awaitable[Server]], tool: Callable[..., HttpRunner]
) -> None:
    server, other = await servers(), await servers()
    traced = CallFacts("call-1", {}, TRACEPARENT)
    await tool(f"{server.url}/a").run({}, traced)
    await tool(f"{server.url}/a").run({}, FACTS)
    await tool(f"{server.url}/a", headers={"Traceparent": "mine"}).run({}, traced)
    told = [{name.lower(): text for name, text in headers.items()}.get("traceparent") for *_, headers, _ in server.seen]
    assert told == [TRACEPARENT, None, "mine"]

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{other.url}/b")

    server.answer = away
    await tool(f"{server.url}/a", allowed_hosts=[f"127.0.0.1:{other.port}"]).run({}, traced)
    assert "traceparent" not in {name.lower() for name in other.seen[0][2]}
