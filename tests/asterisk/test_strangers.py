"""A stranger's RTP at the port of a caller who sends nothing: whose ear gets our sound?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from sipagent.asterisk import trunks
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import PTIME_MS, SILENCE_FRAME, Law
from sipagent.config import AsteriskSettings, Trunk
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.rtp.packet import build
from tests.asterisk.fixtures import test_config as make_config
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PASSWORD = "a-long-secret-of-a-phone"
SYMMETRIC = {"nat": True, "sdp": False}
IN_A_ROW = 4
"""After so many packets strict RTP takes a source for the caller's (`probation` of rtp.conf)."""
PACKETS = 50
"""Of the stranger's: a second."""
APOLOGY_S = 15.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asterisk(root: Root, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asterisk]:
    """With two phones, and no worker: who dials hears the apology, as early media."""
    phones = {
        name: Trunk.model_validate({"preset": "phone", "auth": {"password": PASSWORD}, "symmetric_rtp": symmetric})
        for name, symmetric in SYMMETRIC.items()
    }
    config = make_config(tmp_path_factory.mktemp("asterisk"), files=trunks.files(AsteriskSettings(), phones))
    async with Asterisk(config, root) as server:
        yield server


@asynccontextmanager
async def stranger(port: int) -> AsyncIterator[socket.socket]:
    """Sends a second of well-formed RTP there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("127.0.0.1", 0))

        async def talk() -> None:
            for number in range(PACKETS):
                packet = build(Law.ULAW.payload_type, number, 160 * number, 77, SILENCE_FRAME[Law.ULAW], False)
                sock.sendto(packet, ("127.0.0.1", port))
                await asyncio.sleep(PTIME_MS / 1000)

        talking = asyncio.create_task(talk())
        try:
            yield sock
        finally:
            talking.cancel()
            await asyncio.wait({talking})


def received(sock: socket.socket) -> int:
    """Packets that have come."""
    count = 0
    while True:
        try:
            sock.recv(2048)
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize(
    ("name", "mute", "drawn_away"), [("nat", True, True), ("nat", False, False), ("sdp", True, False)]
)
async def test_whose_ear_gets_it(
    asterisk: Asterisk, sipp: Sequence[str], name: str, mute: bool, drawn_away: bool
) -> None:
    async with Phone(PhoneConfig(f"127.0.0.1:{asterisk.config.sip_port}", name, PASSWORD), sipp) as phone:
        await phone.dial("999")
        phone.media.mute = mute
        await until(lambda: phone.media.remote is not None, "the early media's SDP")
        assert phone.media.remote is not None
        if not mute:
            await until(lambda: len(phone.media.sent) > IN_A_ROW, "the caller to be known by their sound")
        async with stranger(phone.media.remote[1]) as theirs:
            await phone.wait_ended(APOLOGY_S)
            stolen = received(theirs)
    heard = len(phone.media.heard)
    assert stolen > heard if drawn_away else (stolen == 0 < heard)  # some leave before the stranger's fourth
