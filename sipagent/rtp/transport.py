"""The only I/O of RTP: UDP sockets from the worker's port block, and the timer that turns the wheel.

One non-blocking socket a call, read in the loop's own callback: no transport object, queue or task stands
between a packet and its call. A port rests a while after a call, so that
late packets of the old call never reach the next one. The timer is a timerfd, since the loop's own
timers have a resolution of 1 ms and jitter of as much.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from sipagent import native
from sipagent.errors import SipAgentError
from sipagent.native import MAX_DATAGRAM_BYTES
from sipagent.rtp.pacer import SLOT_MS, Wheel

REST_S = 5.0
"""How long a port stays unused after a call; Asterisk's own tail is milliseconds."""
SOCKET_BUFFER_BYTES = 1 << 18

MAX_EARLY_PACKETS = 1000
"""That came before the source was known: more than the socket holds."""
_SO_ATTACH_FILTER, _SO_MEMINFO = 26, 55  # Linux, asm-generic/socket.h; not in the socket module
_BPF_RET = 0x06
_MEMINFO_DROPS = struct.Struct("@32xI")  # SK_MEMINFO_DROPS, the ninth number

OnDatagram = Callable[[bytes], None]


class NoPortFree(SipAgentError):
    """Every port of this worker's block is in use or resting."""


class RtpSocket:
    """One call's UDP socket; what it hears goes to `on_datagram`.

    Nothing is read before `connect` names the one source there is; from then on the kernel keeps all others away.
    They fall into a second socket on the same port, which holds a filter that drops everything and is never read:
    a flood costs this process nothing, and the kernel counts it (`foreign`).
    """

    def __init__(self, sock: socket.socket, on_datagram: OnDatagram, loop: asyncio.AbstractEventLoop) -> None:
        self._sock, self._on_datagram, self._loop = sock, on_datagram, loop
        self._fd = sock.fileno()
        self._trap: socket.socket | None = None
        self._early = 0
        self.port: int = sock.getsockname()[1]
        self.send_errors = 0

    def connect(self, remote: tuple[str, int]) -> None:
        """Hear and address this source only; what came before is looked through once."""
        self._sock.connect(remote)
        self._trap = _trap(self._sock)
        for _ in range(MAX_EARLY_PACKETS):
            try:
                datagram, source = self._sock.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                break
            if source == remote:
                self._on_datagram(datagram)
            else:
                self._early += 1
        self._loop.add_reader(self._fd, self._readable)

    @property
    def foreign(self) -> int:
        """Datagrams of others, dropped."""
        if self._trap is None:
            return self._early
        (dropped,) = _MEMINFO_DROPS.unpack(self._trap.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_DROPS.size))
        return int(dropped) + self._early

    def _readable(self) -> None:
        # One packet a wake: the loop asks again at once if there is more, the other calls first. To read on until
        # nothing is left would cost a failed read and an exception for each of the usual single packets.
        try:
            datagram = native.receive(self._fd)
        except BlockingIOError:
            return
        except OSError:
            # An ICMP "port unreachable" for something we sent earlier; the next read is good again.
            self.send_errors += 1
            return
        self._on_datagram(datagram)

    def send(self, datagram: bytes) -> None:
        """Send now or drop and count: a full socket buffer is no reason to wait in the pacer."""
        try:
            native.send(self._fd, datagram)
        except OSError:
            self.send_errors += 1

    def close(self) -> None:
        """Stop reading and release the port; twice is fine."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._sock.close()
            self._fd = -1  # the number may be another file's now
        if self._trap is not None:
            self._early = self.foreign
            self._trap.close()
            self._trap = None


def _bound(address: tuple[str, int], *, shared: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _share(sock, shared)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _share(sock: socket.socket, allowed: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, allowed)


def _trap(connected: socket.socket) -> socket.socket:
    """Gets what a connected socket does not, on the same port, and drops it in the kernel."""
    # The port is shared for this moment only, so that no other program of ours ever gets it by mistake.
    _share(connected, True)
    sock = _bound(connected.getsockname(), shared=True)
    _share(connected, False)
    _share(sock, False)
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))
    program = struct.pack("H6xQ", 1, ctypes.addressof(drop_all))  # struct sock_fprog, copied by the kernel
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    return sock


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
            try:
                sock = _bound((self.address, port))
            except OSError:
                # Some other program has it; try it again when the others are used up.
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
    """Turns a wheel at the beginning of each of its slots from a timerfd, for as long as there is anything on it.

    By `time.monotonic`, which is the wheel's epoch too: uvloop's own clock counts whole milliseconds, and slots of
    two of them were then taken too early or too late by the luck of the start.
    """

    def __init__(self, wheel: Wheel, loop: asyncio.AbstractEventLoop) -> None:
        self._wheel, self._loop = wheel, loop
        self._fd = _timerfd()
        wheel.on_first = self._start
        loop.add_reader(self._fd, self._tick)

    def _start(self) -> None:
        _set_timer(self._fd, self._wheel.resume(time.monotonic()), SLOT_MS)

    def _tick(self) -> None:
        os.read(self._fd, 8)
        self._wheel.turn(time.monotonic())
        if not len(self._wheel):
            _set_timer(self._fd, 0.0, 0)  # an idle worker costs nothing

    def close(self) -> None:
        """Stop; twice is fine."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._wheel.on_first = None


_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def _timerfd() -> int:
    """A timerfd(2) at rest; the `os` module has it from Python 3.13, glibc always."""
    fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return fd


def _set_timer(fd: int, first_s: float, period_ms: int) -> None:
    """Tick at `first_s` (as `time.monotonic`) and every `period_ms` from then on; 0.0 stops it."""
    seconds, part = divmod(math.ceil(first_s * 1e9), 1_000_000_000)
    spec = struct.pack("qqqq", 0, period_ms * 1_000_000, seconds, part)  # struct itimerspec: interval, first
    if _libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME, spec, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
