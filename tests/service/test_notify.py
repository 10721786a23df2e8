"""systemd's notify protocol, heard by a real datagram socket (sd_notify(3))."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sipagent.notify import ServiceManager
from tests.service.listener import listening


@pytest.mark.parametrize("abstract", [False, True])
def test_a_message_is_lines_of_key_and_value(tmp_path: Path, abstract: bool) -> None:
    with listening(f"@sipagent-test-{os.getpid()}" if abstract else tmp_path / "notify") as ear:
        ServiceManager(ear.address).tell(STATUS="3 calls; takes calls", READY=1)
        assert ear.heard() == [{"STATUS": "3 calls; takes calls", "READY": "1"}]


def test_what_workers_inherit_does_not_name_the_manager() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert ServiceManager.of(environment).watchdog_s == 30
    assert environment == {"HOME": "/"}


def test_a_line_cannot_be_smuggled_in(tmp_path: Path) -> None:
    """Reasons come from elsewhere: from Asterisk, from an exception."""
    with listening(tmp_path / "notify") as ear:
        ServiceManager(ear.address).tell(STATUS="one\nREADY=1")
        assert ear.heard() == [{"STATUS": "one READY=1"}]


def test_nobody_listens(tmp_path: Path) -> None:
    ServiceManager().tell(READY=1)
    ServiceManager(str(tmp_path / "gone")).tell(READY=1)


async def test_a_reload_that_fails_is_over_too(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as ear:
        with pytest.raises(OSError, match="no"):
            async with ServiceManager(ear.address).reloading():
                raise OSError("no")
        first, last = ear.heard()
    assert first["RELOADING"] == "1"
    assert int(first["MONOTONIC_USEC"]) > 0
    assert last == {"READY": "1"}


def test_the_end_may_take_its_time(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as ear:
        ServiceManager(ear.address).stopping(620)
        assert ear.heard() == [{"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "620000000"}]
