"""The UDP sockets, with real datagrams: one source is heard, all others end in the kernel and are counted."""

import asyncio
import contextlib
import os
import socket
import time
from typing import Any

import pytest

from sipagent.rtp.transport import NoPortFree, PacerTimer, PortBlock, RtpSocket
from tests.waiting import until

FLOOD = 20_000


def udp(port: int = 0, *, shared: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def a_block() -> PortBlock:
    with udp() as probe:
        first = probe.getsockname()[1] & ~1
    return PortBlock("127.0.0.1", first, first + 40)


async def test_one_source_is_heard_and_a_flood_of_others_is_counted_and_never_read() -> None:
    heard: list[bytes] = []
    reads = 0

    def on_datagram(data: bytes) -> None:
        nonlocal reads
        reads += 1
        heard.append(data)

    block = a_block()
    ours = block.open(on_datagram)
    with udp() as asterisk, udp() as stranger:
        to_us = ("127.0.0.1", ours.port)
        stranger.sendto(b"early junk", to_us)
        asterisk.sendto(b"early", to_us)
        ours.connect(asterisk.getsockname())
        for _ in range(FLOOD):
            stranger.sendto(os.urandom(40), to_us)
        for number in range(50):
            asterisk.sendto(b"%d" % number, to_us)
        await until(lambda: len(heard) == 51, "what Asterisk sent")
        assert heard == [b"early", *(b"%d" % number for number in range(50))]
        assert reads == 51
        assert ours.foreign == FLOOD + 1
        with pytest.raises(OSError, match="in use"), udp(ours.port, shared=True):
            pass  # another program of ours must not get the port by mistake
        ours.send(b"back")
        assert asterisk.recvfrom(100) == (b"back", to_us)
    block.release(ours)
    ours.close()
    assert ours.foreign == FLOOD + 1


async def test_a_far_end_that_is_gone_is_counted_and_survived() -> None:
    block = a_block()
    ours = block.open(lambda _data, _source: None)
    with udp() as asterisk:
        ours.connect(asterisk.getsockname())
    ours.send(b"nobody there")
    await until(lambda: ours.send_errors > 0, "the kernel's word that nobody is there")
    ours.send(b"still no harm")
    block.release(ours)


async def test_a_port_rests_after_a_call_and_a_block_may_be_used_up() -> None:
    block = a_block()
    taken = used_up(block)
    assert taken
    block.release(taken[0])
    with pytest.raises(NoPortFree, match="widen"):
        block.open(lambda _data, _source: None)
    for sock in taken:
        sock.close()


def used_up(block: PortBlock) -> list[RtpSocket]:
    """Every port of the block but those that other programs have."""
    taken: list[RtpSocket] = []
    with contextlib.suppress(NoPortFree):
        while True:
            taken.append(block.open(lambda _data, _source: None))
    return taken


async def test_the_timer_ticks_when_the_wheel_says_and_then_with_each_slot() -> None:
    """By absolute deadlines: how late a tick is says nothing about the next."""

    class Wheel:
        on_first: Any = None
        turned: list[float]

        def __len__(self) -> int:
            return len(self.turned) < 20

        def resume(self, now: float) -> float:
            self.turned = []
            self.first_s = now + 0.005
            return self.first_s

        def turn(self, now: float) -> None:
            self.turned.append(now)

    wheel: Any = Wheel()
    timer = PacerTimer(wheel, asyncio.get_running_loop())
    try:
        for _ in range(2):  # it stops when the wheel is empty, and begins anew
            began_s = time.monotonic()
            wheel.on_first()
            await until(lambda: len(wheel.turned) == 20, "twenty ticks")
            assert began_s < wheel.first_s <= wheel.turned[0]
    finally:
        timer.close()
