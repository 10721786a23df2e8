"""The only I/O of RTP: UDP sockets from the worker's port block, and the timer that turns the wheel.

One non-blocking socket a call, read in the loop's own callback into one shared buffer: no transport
object, queue or task stands between a packet and its call. A port rests a while after a call, so that
late packets of the old call never reach the next one. The timer is a timerfd, since the loop's own
timers have a resolution of 1 ms and jitter of as much.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from sipagent.errors import SipAgentError
from sipagent.rtp.pacer import SLOT_MS, Wheel

REST_S = 5.0
"""How long a port stays unused after a call; Asterisk's own tail is milliseconds."""
BUFFER_BYTES = 2048
SOCKET_BUFFER_BYTES = 1 << 18

OnDatagram = Callable[[memoryview, tuple[str, int]], None]

_buffer = bytearray(BUFFER_BYTES)
_view = memoryview(_buffer)


class NoPortFree(SipAgentError):
    """Every port of this worker's block is in use or resting."""


class RtpSocket:
    """One call's UDP socket. `on_datagram` gets a view that is only good until it returns."""

    def __init__(self, sock: socket.socket, on_datagram: OnDatagram, loop: asyncio.AbstractEventLoop) -> None:
        self._sock, self._on_datagram, self._loop = sock, on_datagram, loop
        self.port: int = sock.getsockname()[1]
        self.send_errors = 0
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        # One packet a wake: the loop asks again at once if there is more, the other calls first. To read on until
        # nothing is left would cost a failed read and an exception for each of the usual single packets.
        try:
            size, source = self._sock.recvfrom_into(_buffer)
        except BlockingIOError:
            return
        except OSError:
            # An ICMP "port unreachable" for something we sent earlier; the next read is good again.
            self.send_errors += 1
            return
        self._on_datagram(_view[:size], source)

    def send(self, datagram: bytes, remote: tuple[str, int]) -> None:
        """Send now or drop and count: a full socket buffer is no reason to wait in the pacer."""
        try:
            self._sock.sendto(datagram, remote)
        except OSError:
            self.send_errors += 1

    def close(self) -> None:
        """Stop reading and release the port; twice is fine."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class PortBlock:
    """The even UDP ports first..last of one worker: the odd ones stay free for RTCP's habit."""

    def __init__(self, address: str, first: int, last: int) -> None:
        self.address, self.first, self.last = address, first, last
        self._free = deque(range(first + first % 2, last + 1, 2))
        self._resting: deque[tuple[float, int]] = deque()

    def open(self, on_datagram: OnDatagram) -> RtpSocket:
        """A bound socket on the port that was free longest; NoPortFree when there is none."""
        loop = asyncio.get_running_loop()
        while self._resting and self._resting[0][0] <= loop.time():
            self._free.append(self._resting.popleft()[1])
        for _ in range(len(self._free)):
            port = self._free.popleft()
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                sock.bind((self.address, port))
            except OSError:
                # Some other program has it; try it again when the others are used up.
                sock.close()
                self._free.append(port)
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            return RtpSocket(sock, on_datagram, loop)
        raise NoPortFree(
            f"no RTP port free on {self.address} {self.first}-{self.last}: widen [media] ports or take fewer calls"
        )

    def release(self, rtp_socket: RtpSocket) -> None:
        """Close a call's socket; its port rests before the next call gets it."""
        rtp_socket.close()
        self._resting.append((asyncio.get_running_loop().time() + REST_S, rtp_socket.port))


class PacerTimer:
    """Turns a wheel every 2 ms from a timerfd, for as long as there is anything on it.

    By `time.monotonic`, which is the wheel's epoch too: uvloop's own clock counts whole milliseconds, and slots of
    two of them were then taken too early or too late by the luck of the start.
    """

    def __init__(self, wheel: Wheel, loop: asyncio.AbstractEventLoop) -> None:
        self._wheel, self._loop = wheel, loop
        self._fd = _timerfd()
        wheel.on_first = self._start
        loop.add_reader(self._fd, self._tick)

    def _start(self) -> None:
        self._wheel.resume(time.monotonic())
        _set_timer(self._fd, SLOT_MS)

    def _tick(self) -> None:
        os.read(self._fd, 8)
        self._wheel.turn(time.monotonic())
        if not len(self._wheel):
            _set_timer(self._fd, 0)  # an idle worker costs nothing

    def close(self) -> None:
        """Stop; twice is fine."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._wheel.on_first = None


_CLOCK_MONOTONIC = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def _timerfd() -> int:
    """A timerfd(2) at rest; the `os` module has it from Python 3.13, glibc always."""
    fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return fd


def _set_timer(fd: int, period_ms: int) -> None:
    """Tick every `period_ms` from now on; 0 stops it."""
    nanoseconds = period_ms * 1_000_000
    spec = struct.pack("qqqq", 0, nanoseconds, 0, nanoseconds)  # struct itimerspec: interval, first
    if _libc.timerfd_settime(fd, 0, spec, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
