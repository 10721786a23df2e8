"""The control process's own: what a reload puts in force, and what it leaves to a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sipagent import app
from sipagent.app import Anew, ControlProcess
from sipagent.config import Settings


class Node:
    """A control process without workers and switch; `file` is what it reads at the next reload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = self.written()
        self.control = ControlProcess(self.file, (), (), anew=Anew(lambda: self.file, self._switch))

    def written(self, **changes: Any) -> Settings:
        return Settings(**{"agents": {"any": {"instructions": "any"}}, "run_dir": self._folder, **changes})

    async def _switch(self, _settings: Settings) -> None:
        pass


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    async def spoken(*_: object) -> None:
        pass

    monkeypatch.setattr(app, "speak_prompts", spoken)
    return Node(tmp_path)


async def test_what_needs_a_restart_is_told_until_there_is_one(node: Node) -> None:
    node.file = node.written(control={"port": 9999})
    assert await node.control.reload() == ["control"]
    assert await node.control.reload() == ["control"]
    node.file = node.written(control={"port": 9999}, records={"keep_days": 7})
    assert await node.control.reload() == ["control", "records"]
    node.file = node.written()
    assert await node.control.reload() == []  # as it was started
