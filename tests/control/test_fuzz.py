"""The API asked what nobody thought of: by schemathesis, from its own description, over the wire.

Each path with the least token that may; that a lesser one may not is `test_door`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import threading
import unittest
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sipagent.app import ControlProcess
from sipagent.config import Settings
from sipagent.control.scopes import Scope, needed
from sipagent.control.serving import Serving
from sipagent.control.tokens import Tokens
from tests.asterisk.fixtures import free_port
from tests.records.conftest import tables_in

EXAMPLES = 20
"""Of each path, of what the description allows and again of what it does not."""
CONFORMS: list[CheckFunction] = [content_type_conformance, response_schema_conformance, status_code_conformance]


class Node:
    """A control process that serves and whose workers never come: what it is asked it must answer all the same."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            agents={"any": {"instructions": "any"}},
            numbers={"*": "any"},
            run_dir=folder,
            control={"port": free_port(), "login": "tokens", "requests_per_s": 10000},
            probes={},
        )
        self.control = ControlProcess(self.settings, (), ())
        self.serving = Serving(self.settings.control, self.settings.api_socket)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        assert self.control.records
        await tables_in(self.control.records.store)
        door = self.control.door()
        await self.serving.run(door, door.within())
        await self.control.records.store.aclose()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    one = Node(tmp_path_factory.mktemp("node"))
    one.thread.start()
    yield one
    assert one.loop
    one.loop.call_soon_threadsafe(one.serving.stop)
    one.thread.join(10)
    assert not one.thread.is_alive()


def wrong_with(response: Any, case: Any) -> Iterator[str]:
    """What is wrong with an answer. 503 is not, where the description says so; all else above 499 is a bug."""
    described = case.operation.definition.raw["responses"]
    if response.status_code >= 500 and not (response.status_code == 503 and "503" in described):
        yield f"{response.status_code}"
    try:
        case.validate_response(response, checks=CONFORMS)
    except FailureGroup as group:
        yield from (
            f"{type(one).__name__}: {one.title} {response.status_code} {one.message[:300]}" for one in group.exceptions
        )


@pytest.mark.parametrize(
    "scope", [scope for scope in Scope if scope is not Scope.NOBODY], ids=lambda one: one.name.lower()
)
def test_nothing_that_is_asked_breaks_it(node: Node, scope: Scope, capsys: pytest.CaptureFixture[str]) -> None:
    secret = Tokens(node.settings.run_dir).create(f"fuzz-{scope.name.lower()}", scope, dt.datetime.now(dt.UTC))
    schema = schemathesis.openapi.from_dict(node.control.api().openapi())
    answers: Counter[int] = Counter()
    wrong: set[str] = set()
    headers = {"Authorization": f"Bearer {secret}"}

    def ask(case: Any) -> None:
        case.headers = {**(case.headers or {}), **headers}  # it tries others of its own making, too
        response = case.call(base_url=node.settings.control.url, timeout=10)
        answers[response.status_code] += 1
        wrong.update(f"{case.method} {case.path}: {what}" for what in wrong_with(response, case))

    limits = settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    operations = [found.ok() for found in schema.get_all_operations()]
    mine = [one for one in operations if max(needed(one.method.upper(), one.path)[0], Scope.VIEWER) is scope]
    for operation, mode in itertools.product(mine, GenerationMode):
        with contextlib.suppress(
            Unsatisfiable, pytest.skip.Exception, unittest.SkipTest
        ):  # nothing that it does not allow
            limits(given(operation.as_strategy(generation_mode=mode))(ask))()
    with capsys.disabled():
        print(f"\n{scope.name.lower()}: {answers.total()} cases, {dict(sorted(answers.items()))}")
    assert not wrong, "\n".join(sorted(wrong))
    assert answers.total() > 100
    assert answers[401] == answers[429] == 0
