"""Our Asterisk is told of a changed configuration, wherever its process lives."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sipagent import switch
from sipagent.asterisk import run
from sipagent.asterisk.conf import AsteriskConfig
from sipagent.asterisk.root import Root
from sipagent.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    secrets = {"password": "a", "phone_password": "p"}
    return Settings(agents={"any": {"instructions": "any"}}, run_dir=tmp_path, asterisk=secrets)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    loader = tmp_path / "root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.touch()
    return Root(tmp_path / "root")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Asterisk was told; it answers all of it."""
    told: list[str] = []

    async def command(_config: AsteriskConfig, _root: Root, line: str) -> str:
        told.append(line)
        return "reloaded"

    monkeypatch.setattr(run, "command", command)
    return told


async def test_an_asterisk_in_another_container_is_told(settings: Settings, root: Root, commands: list[str]) -> None:
    """No process of that number is seen from here: the folder with its command socket is what both share."""
    config = switch.asterisk_config(settings)
    config.run_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(config.socket_dir / "asterisk.ctl"))
        theirs.listen()
        assert await switch.reload(root, settings) == ""
    assert commands == list(run.RELOAD)


async def test_one_that_is_away_is_told_of(settings: Settings, root: Root, commands: list[str]) -> None:
    config = switch.asterisk_config(settings)
    run.render(config, root)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(config.socket_dir / "asterisk.ctl"))
    assert "no Asterisk answers at" in await switch.reload(root, settings)
    assert commands == []


async def test_where_we_run_none_there_is_nothing_to_tell(settings: Settings, root: Root, commands: list[str]) -> None:
    assert await switch.reload(root, settings) == ""
    assert commands == []
