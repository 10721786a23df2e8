"""The stand-in of a demonstration: nobody reads what it would record, and it may stand for days."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sipagent.cli import standin as command
from sipagent.config import Settings
from sipagent.standin import beside
from sipagent.standin.config import Dialect, Mode, StandinConfig
from sipagent.standin.server import StandinServer


class Begun(Exception):
    """It would listen now."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[StandinConfig]:
    configs: list[StandinConfig] = []

    async def start(server: StandinServer) -> None:
        configs.append(server.config)
        raise Begun

    monkeypatch.setattr(StandinServer, "start", start)
    monkeypatch.setattr(command.logs, "configure", lambda _settings: None)
    return configs


async def test_beside_a_node_nothing_is_recorded(begun: list[StandinConfig]) -> None:
    with pytest.raises(Begun):
        async with beside.serving(Settings(agents={"a": {"instructions": "x"}}), ("flite",)):
            pass
    assert [config.record_bytes for config in begun] == [0]


def test_alone_nothing_is_recorded(begun: list[StandinConfig]) -> None:
    run: Callable[..., None] = command.standin
    with pytest.raises(Begun):
        run(port=0, script=None, mode=Mode.DETERMINISTIC, dialect=Dialect.XAI, fault=[])
    assert [config.record_bytes for config in begun] == [0]
