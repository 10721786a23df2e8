"""The door of the API: who comes in, how far, how often, and what is noted of it."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sipagent.app import ControlProcess
from sipagent.config import Settings
from sipagent.control import door as door_module
from sipagent.control.audit import Audit, Deed
from sipagent.control.door import NOTED_AT_ONCE, WRONG_AT_ONCE, Door
from sipagent.control.scopes import SCOPES, Scope, needed
from sipagent.control.tokens import Tokens

LISTED = [(operation, scope) for scope, operations in SCOPES.items() for operation in operations]
OPEN = {"GET /healthz", "GET /readyz"}


class Node:
    """The whole API of a node of which nothing runs, behind its door."""

    def __init__(self, folder: Path, **control: Any) -> None:
        self.now = 1000.0
        self.folder = folder
        self.settings = Settings(
            agents={"any": {"instructions": "any"}},
            run_dir=folder,
            records={"enabled": False},
            control={"login": "tokens"} | control,
        )
        self.tokens = Tokens(folder)
        self.app = ControlProcess(self.settings, (), ()).api()
        audit = Audit(folder / "audit", self.settings.control.keep_audit_days)
        self.refused: Counter[int] = Counter()
        self.door = Door(self.app, self.settings.control, self.tokens, audit, lambda: self.now, self.refused)

    def token(self, scope: Scope) -> dict[str, str]:
        secret = self.tokens.create(f"the-{scope.name.lower()}", scope, dt.datetime.now(dt.UTC))
        return {"Authorization": f"Bearer {secret}"}

    @asynccontextmanager
    async def http(
        self, headers: dict[str, str] | None = None, address: str = "127.0.0.1", *, unix: bool = False
    ) -> AsyncIterator[httpx2.AsyncClient]:
        app = self.door.within() if unix else self.door
        transport = httpx2.ASGITransport(app, client=(address, 1234), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            yield client

    def audited(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def filled(operation: str) -> tuple[str, str]:
    """A request of this kind."""
    method, _, path = operation.partition(" ")
    return method, path.replace("{", "").replace("}", "")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_every_path_of_the_application_is_listed_and_none_that_is_not(node: Node) -> None:
    document = node.app.openapi()
    there = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert there | {"GET /openapi.json", "GET /docs", "GET /docs/oauth2-redirect"} == {one for one, _ in LISTED}
    for operation, scope in LISTED:
        assert needed(*operation.split())[0] is scope, operation
        assert needed(*filled(operation))[0] is scope, operation


def test_what_is_not_listed_is_the_admins() -> None:
    for method, path in (("GET", "/v1/new"), ("PUT", "/v1/calls"), ("POST", "/metrics"), ("GET", "/v1/calls/a/b/c"),
                         ("GET", "/V1/calls"), ("TRACE", "/healthz"), ("GET", "/v1/calls/")):  # fmt: skip
        assert needed(method, path)[0] is Scope.ADMIN, path
    assert needed("HEAD", "/docs")[0] is Scope.VIEWER


def test_the_description_tells_who_may_what(node: Node) -> None:
    paths = node.app.openapi()["paths"]
    assert paths["/v1/reload"]["post"]["security"] == [{"token": ["admin"]}]
    assert paths["/v1/calls/{call_id}"]["get"]["security"] == [{"token": ["operator"]}]
    assert "security" not in paths["/healthz"]["get"]
    assert node.app.openapi()["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


@pytest.mark.parametrize(("operation", "scope"), LISTED)
async def test_each_path_asks_for_its_scope(node: Node, operation: str, scope: Scope) -> None:
    method, path = filled(operation)
    async with node.http() as nobody:
        answer = await nobody.request(method, path)
        assert (answer.status_code == 401) == (scope > Scope.NOBODY), answer.text
        if scope > Scope.NOBODY:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == 'Bearer realm="sipagent"'
            assert answer.json()["status"] == 401
    for one in Scope:
        if one > Scope.NOBODY:
            async with node.http(node.token(one)) as client:
                answer = await client.request(method, path)
            turned_away = answer.status_code == 403 and "this token is a" in answer.text
            assert turned_away == (one < scope), answer.text
            assert answer.status_code != 401
            if turned_away:
                assert answer.headers["content-type"] == "application/problem+json"
                assert f'scope="{scope.name.lower()}"' in answer.headers["www-authenticate"]


async def test_nothing_of_a_request_is_read_before_it_is_let_in(node: Node) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    async with node.http() as nobody:
        assert (await nobody.post("/v1/calls", content=body())).status_code == 401
    async with node.http(node.token(Scope.VIEWER)) as viewer:
        assert (await viewer.post("/v1/calls", content=body())).status_code == 403
    assert node.refused == {401: 1, 403: 1}


async def test_a_body_has_an_end(node: Node) -> None:
    async with node.http(node.token(Scope.OPERATOR)) as operator:
        answer = await operator.post(
            "/v1/calls", content=b" " * (2 << 20), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413


async def test_a_token_counts_until_it_is_revoked(node: Node) -> None:
    async with node.http(node.token(Scope.VIEWER)) as client:
        assert (await client.get("/v1/calls/live")).status_code == 200
        node.tokens.revoke("the-viewer")
        answer = await client.get("/v1/calls/live")
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_other_ways_to_say_it_are_none(node: Node) -> None:
    secret = node.token(Scope.ADMIN)["Authorization"].removeprefix("Bearer ")
    for header in (secret, f"Basic {secret}", f"Token {secret}", "Bearer", "Bearer x y", "\u00e9"):
        async with node.http({"Authorization": header.encode("latin-1")}) as client:  # type: ignore[dict-item]
            assert (await client.get("/v1/calls/live")).status_code == 401, header
    async with node.http() as client:
        assert (await client.get("/v1/calls/live", params={"token": secret})).status_code == 401


async def test_strangers_learn_only_whether_it_is_well(node: Node) -> None:
    async with node.http() as nobody:
        assert (await nobody.get("/healthz")).json() == {"status": "ok"}
        answer = await nobody.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "reasons": [], "troubles": [], "workers": []}
    async with node.http(node.token(Scope.VIEWER)) as viewer:
        assert "version" in (await viewer.get("/healthz")).json()
        assert (await viewer.get("/readyz")).json()["reasons"]


async def test_the_unix_socket_needs_no_token(node: Node) -> None:
    async with node.http(unix=True) as client:
        assert (await client.get("/readyz")).json()["reasons"]
        assert (await client.post("/v1/reload")).status_code == 422
    (deed,) = node.audited()
    assert (deed["who"], deed["status"]) == ("unix socket", 422)


async def test_a_token_that_asks_too_often_is_told_when_to_come_again(node: Node) -> None:
    async with node.http(node.token(Scope.VIEWER)) as client:
        statuses = [(await client.get("/v1/drain")).status_code for _ in range(101)]
        assert statuses == [200] * 100 + [429]
        answer = await client.get("/v1/drain")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/problem+json"
        async with node.http(node.token(Scope.OPERATOR)) as another:
            assert (await another.get("/v1/drain")).status_code == 200
        node.now += 1
        assert (await client.get("/v1/drain")).status_code == 200


async def test_wrong_tokens_are_slowed_down_and_right_ones_pass(node: Node) -> None:
    right = node.token(Scope.VIEWER)
    wrong = {"Authorization": "Bearer sipagent_" + "0" * 64}
    async with node.http(wrong, "192.0.2.7") as guesser:
        statuses = [(await guesser.get("/v1/drain")).status_code for _ in range(WRONG_AT_ONCE + 1)]
        assert statuses == [401] * WRONG_AT_ONCE + [429]
        assert int((await guesser.get("/v1/drain")).headers["retry-after"]) == 6
        async with node.http(wrong, "192.0.2.8") as elsewhere:
            assert (await elsewhere.get("/v1/drain")).status_code == 401
        async with node.http(right, "192.0.2.7") as neighbour:
            assert (await neighbour.get("/v1/drain")).status_code == 200
        node.now += 6
        assert (await guesser.get("/v1/drain")).status_code == 401
    refused = [deed for deed in node.audited() if deed["address"] == "192.0.2.7"]
    assert [deed["status"] for deed in refused] == [401] * (WRONG_AT_ONCE + 1)


async def test_the_audit_log_is_not_filled_by_who_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path, networks=("10.1.2.0/24",))
    for number in range(300):
        async with node.http(address=f"192.0.2.{number % 250}") as stranger:
            await stranger.get("/v1/drain")
    assert len(node.audited()) == NOTED_AT_ONCE


async def test_only_named_networks_come_in(tmp_path: Path) -> None:
    node = Node(tmp_path, networks=("10.1.2.0/24", "2001:db8::/32"))
    right = node.token(Scope.VIEWER)
    for address, status in {"10.1.2.9": 200, "10.1.3.9": 403, "127.0.0.1": 200, "::ffff:10.1.2.9": 200,
                            "2001:db8::7": 200, "2001:db9::7": 403, "": 403}.items():  # fmt: skip
        async with node.http(right, address) as client:
            assert (await client.get("/v1/drain")).status_code == status, address


async def test_without_login_everybody_of_this_machine_may_and_no_page_of_a_browser(tmp_path: Path) -> None:
    node = Node(tmp_path, login="off")
    async with node.http() as client:
        assert (await client.get("/v1/drain")).status_code == 200
        for headers, status in (
            ({"Host": "localhost:8090"}, 422), ({"Host": "[::1]:8090"}, 422), ({"Host": "rebound.example:8090"}, 403),
            ({"Host": ""}, 403), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
            ({"Host": "127.0.0.1:8090", "Origin": "http://127.0.0.1:8090"}, 422),
            ({"Host": "127.0.0.1:8090", "Origin": "http://127.0.0.1:3000"}, 403),
        ):  # fmt: skip
            assert (await client.post("/v1/reload", headers=headers)).status_code == status, headers
    assert {(deed["who"], deed["status"]) for deed in node.audited()} == {("no login", 422), ("", 403)}


async def test_what_is_done_is_noted_and_what_is_looked_at_is_not(node: Node) -> None:
    headers = node.token(Scope.ADMIN)
    async with node.http(headers, "192.0.2.7") as admin:
        await admin.get("/v1/calls/live")
        await admin.delete("/v1/calls/1790000000.42?reason=secret-in-a-query")
        await admin.get("/v1/calls/1790000000.42")  # what was said in it
        await admin.post("/v1/drain", json={"on": "hunter2"})
    deeds = [
        (deed["who"], deed["method"], deed["path"], deed.get("call_id"), deed["status"]) for deed in node.audited()
    ]
    assert deeds == [
        ("the-admin", "DELETE", "/v1/calls/1790000000.42", "1790000000.42", 404),
        ("the-admin", "GET", "/v1/calls/1790000000.42", "1790000000.42", 503),
        ("the-admin", "POST", "/v1/drain", None, 422),
    ]
    text = "".join(file.read_text() for file in (node.folder / "audit").iterdir())
    for secret in ("secret-in-a-query", "hunter2", headers["Authorization"].removeprefix("Bearer sipagent_")):
        assert secret not in text


def test_a_call_that_was_begun_is_named(node: Node) -> None:
    message = {"type": "http.response.start", "status": 201, "headers": [(b"location", b"/v1/calls/out-1")]}
    assert door_module._begun(message) == "out-1"
    assert door_module._begun({"headers": [(b"location", b"http://elsewhere/")]}) == ""


def test_the_audit_log_is_the_users_alone_and_goes_with_its_time(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit", keep_days=2)
    for day in ("2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26"):
        for _ in range(2):
            audit.write(Deed(f"{day}T10:00:00+00:00", "anna", "127.0.0.1", "POST", "/v1/drain\n", 202))
    audit.close()
    folder = tmp_path / "audit"
    assert sorted(file.name for file in folder.iterdir()) == [f"2026-11-{day}.jsonl" for day in (24, 25, 26)]
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "2026-11-26.jsonl").read_text().count("\n") == 2  # a path with a line feed makes no line


def test_a_disk_that_is_full_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    Audit(tmp_path / "audit", 1).write(Deed("2026-11-26T10:00:00+00:00", "anna", "", "POST", "/v1/drain", 202))
    told = capsys.readouterr().out
    assert "api_audit" in told
    assert "audit_not_written" in told


async def test_there_is_no_way_in_by_websocket(node: Node) -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    await node.door({"type": "websocket", "path": "/v1/calls/live", "headers": []}, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]
