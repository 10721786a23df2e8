"""The control process's own: what a reload puts in force, and what it leaves to a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from sipagent import app
from sipagent.app import Anew, ControlProcess
from sipagent.config import Settings
from tests.records.conftest import tables_in


class Node:
    """A control process without workers and switch; `file` is what it reads at the next reload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = self.written()
        self.note = ""
        """What the switch has to say at the next reload."""
        self.control = ControlProcess(self.file, (), (), anew=Anew(lambda: self.file, self._switch))

    def written(self, **changes: Any) -> Settings:
        return Settings(**{"agents": {"any": {"instructions": "any"}}, "run_dir": self._folder, **changes})

    async def _switch(self, _settings: Settings) -> str:
        return self.note


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    async def spoken(*_: object) -> None:
        pass

    monkeypatch.setattr(app, "speak_prompts", spoken)
    return Node(tmp_path)


async def test_what_needs_a_restart_is_told_until_there_is_one(node: Node) -> None:
    node.file = node.written(control={"port": 9999})
    assert (await node.control.reload()).needs_restart == ["control"]
    assert (await node.control.reload()).needs_restart == ["control"]
    node.file = node.written(control={"port": 9999}, records={"keep_days": 7})
    assert (await node.control.reload()).needs_restart == ["control", "records"]
    node.file = node.written()
    assert (await node.control.reload()).needs_restart == []  # as it was started


async def test_what_the_switch_did_not_take_is_told(node: Node) -> None:
    node.note = "no Asterisk answers"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(node.control.api()), base_url="http://api") as http:
        answer = await http.post("/v1/reload")
    assert answer.json() == {"needs_restart": [], "note": "no Asterisk answers"}


async def test_a_call_back_is_queued_as_the_file_in_force_says(node: Node) -> None:
    """[outbound] is read anew, by the API as well."""
    assert node.control.records
    store = node.control.records.store
    await tables_in(store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(node.control.api()), base_url="http://api") as http:
        node.file = node.written(
            trunks={"carrier": {"preset": "generic-ip", "hosts": ["192.0.2.1"]}},
            outbound={"trunks": ["carrier"], "attempts": 5, "expire_after_s": 3600},
            dial_policy={"allow": ["*"]},
        )
        await node.control.reload()
        answer = await http.post(
            "/v1/callbacks", json={"to": "+442079460123", "agent": "any", "not_before": "2026-11-26T10:00:00Z"}
        )
    await store.aclose()
    assert answer.status_code == 201, answer.text
    assert (answer.json()["max_attempts"], answer.json()["not_after"]) == (5, "2026-11-26T11:00:00Z")
