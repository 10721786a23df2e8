"""What the API's door costs a request: who comes, may they, how often, and a line of the audit log. No network."""

from __future__ import annotations

import asyncio
import datetime as dt
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from starlette.types import ASGIApp, Message

from sipagent.app import ControlProcess
from sipagent.config import Settings
from sipagent.control.scopes import Scope
from sipagent.control.tokens import Tokens

REQUESTS, ROUNDS = 500, 9


async def measure_door(say: Callable[[str], object]) -> None:
    """The same request without a door, without login, with one token and with a hundred; in turn, the least counts.

    In processor time: what else the machine does is not ours.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder:
        looks, acts = _request("GET", "/v1/drain"), _request("DELETE", "/v1/calls/none")
        off, closed = _node(Path(folder, "off"), "off"), _node(Path(folder, "tokens"), "tokens")
        many = _node(Path(folder, "many"), "tokens")
        doors = [node.door() for node in (off, closed, many)]
        for number in range(99):
            Tokens(Path(folder, "many")).create(f"n{number}", Scope.VIEWER, dt.datetime.now(dt.UTC))
        secrets = [Tokens(Path(folder, name)).create("bench", Scope.OPERATOR, dt.datetime.now(dt.UTC))
                   for name in ("tokens", "many")]  # fmt: skip
        cases: list[tuple[str, ASGIApp, dict[str, Any]]] = [
            ("GET, no door", off.api(), looks),
            ("GET, no login", doors[0], looks),
            ("GET, a token", doors[1], _with(looks, secrets[0])),
            ("GET, a token of 100", doors[2], _with(looks, secrets[1])),
            ("GET, a wrong token", doors[1], _with(looks, "sipagent_wrong")),
            ("DELETE, no door", off.api(), acts),
            ("DELETE, a token, audited", doors[1], _with(acts, secrets[0])),
        ]
        took_us: dict[str, list[float]] = {name: [] for name, *_ in cases}
        for _ in range(ROUNDS):
            for name, app, request in cases:
                took_us[name].append(await _time(app, request))
    say("| request | us of processor |\n| --- | --- |")
    for name, found in took_us.items():
        say(f"| {name} | {min(found):.0f} |")


def _node(folder: Path, login: str) -> ControlProcess:
    folder.mkdir()
    control = {"login": login, "requests_per_s": 10000}
    return ControlProcess(Settings(agents={"any": {"instructions": "any"}}, run_dir=folder, control=control), (), ())


def _request(method: str, path: str) -> dict[str, Any]:
    headers = [(b"host", b"127.0.0.1:8090"), (b"accept", b"*/*"), (b"user-agent", b"curl/8.5.0")]
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 8090), "scheme": "http",
            "http_version": "1.1", "asgi": {"version": "3.0"}, "root_path": ""}  # fmt: skip


def _with(request: dict[str, Any], secret: str) -> dict[str, Any]:
    return request | {"headers": [*request["headers"], (b"authorization", f"Bearer {secret}".encode())]}


async def _time(app: ASGIApp, request: dict[str, Any]) -> float:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        """Nobody reads it."""

    began = time.process_time()
    for _ in range(REQUESTS):
        await app(dict(request), receive, send)
    await asyncio.sleep(0)
    return (time.process_time() - began) / REQUESTS * 1e6
