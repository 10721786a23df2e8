"""A real Asterisk for tests: the private root once a session, a server of its own for each module.

Import the fixtures by name into a conftest.py. Ports are free ones, so tests may run in parallel.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from bench.ports import LOW
from sipagent.asterisk.conf import AsteriskConfig
from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.phone.phone import PhoneConfig

_given: set[int] = set()


def free_port() -> int:
    """A port that is free for UDP and TCP alike, and that this process was not given before.

    The kernel may well hand out the same one twice: whoever was given it first has not opened it yet.
    """
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port


def rtp_ports() -> tuple[int, int]:
    """For an Asterisk, which skips taken ones: below media's (`free_block`) and the kernel's own choice."""
    first = random.randrange(10000, LOW, 1000)
    return first, first + 999


def test_config(run_dir: Path, **changes: object) -> AsteriskConfig:
    """A configuration of free ports."""
    values: dict[str, object] = {
        "run_dir": run_dir,
        "ari_password": "ari-secret",
        "phone_password": "phone-secret",
        "http_port": free_port(),
        "sip_port": free_port(),
        "rtp_ports": rtp_ports(),
        **changes,
    }
    return AsteriskConfig(**values)  # type: ignore[arg-type]


test_config.__test__ = False  # type: ignore[attr-defined]


async def no_channels_left(asterisk: Asterisk, timeout_s: float = 5) -> bool:
    """Whether every channel is gone within the time; Asterisk takes one down a moment after the BYE."""
    try:
        async with asyncio.timeout(timeout_s):
            while "0 active channels" not in await asterisk.cli("core show channels"):  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


@pytest.fixture(scope="session")
def root() -> Root:
    """Asterisk, SIPp and flite: fetched at the first run, ready at once afterwards."""
    return fetch()


@pytest.fixture(scope="session")
def baresip_root() -> Root:
    """The same root with baresip."""
    return fetch(("asterisk", "sipp", "flite", "baresip"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asterisk(root: Root, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asterisk]:
    """One running Asterisk for the module's tests; they use the module's loop."""
    async with Asterisk(test_config(tmp_path_factory.mktemp("asterisk")), root) as server:
        yield server


@pytest.fixture(scope="session")
def sipp(root: Root) -> Sequence[str]:
    return root.command("sipp")


@pytest.fixture
def phone_config(asterisk: Asterisk) -> PhoneConfig:
    config = asterisk.config
    return PhoneConfig(f"127.0.0.1:{config.sip_port}", config.phone_user, config.phone_password)
