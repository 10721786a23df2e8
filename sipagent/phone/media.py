"""The caller's mouth and ear: one UDP socket, one frame out every 20 ms, every frame in with its time.

A thread of its own keeps the clock (absolute deadlines, no drift), so a busy event loop, the very thing
under test, does not blur the figures. Arrival times are the kernel's (SO_TIMESTAMPNS). Outgoing speech is
held whole until said; what comes in is kept to the end of the call (10 kB a second).
"""

from __future__ import annotations

import asyncio
import random
import select
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass

from sipagent.audio import FRAME_BYTES, PTIME_MS, SILENCE_FRAME, Law, decode, level_dbov
from sipagent.phone.analysis import VOICED_DBOV, Heard, Said
from sipagent.phone.scenario import TELEPHONE_EVENT_PT
from sipagent.rtp.packet import build, parse

_FRAME_S = PTIME_MS / 1000
_IDLE_S = 0.005  # before the far end is known: how late the first frame may leave
_TS_STEP = FRAME_BYTES  # G.711: one byte a sample
_TIMESPEC = struct.Struct("@qq")
_SO_TIMESTAMPNS = 35  # Linux, asm-generic/socket.h; not in the socket module
_MAX_DATAGRAM = 2048
_RECEIVE_BUFFER_BYTES = 1 << 20
_DIGITS = "0123456789*#ABCD"
_DIGIT_FRAMES = 5  # 100 ms a digit
_DIGIT_GAP_FRAMES = 5


@dataclass(frozen=True, slots=True)
class _Frame:
    """One 20 ms slot to send."""

    payload: bytes
    voiced: bool = False
    payload_type: int | None = None
    timestamp_back: int = 0
    """A telephone-event keeps the timestamp of its start (RFC 4733, 2.2.1)."""
    marker: bool = False


class _Utterance:
    """One `say`: its first and last voiced time as they leave; its future is done after the last frame."""

    def __init__(self, done: asyncio.Future[Said | None]) -> None:
        self.done = done
        self.first = self.last = 0.0


class PhoneMedia:
    """RTP of one call. Made before the call (its port goes into the SDP), started when the far end is known."""

    def __init__(self, host: str, law: Law, *, latch: bool = False) -> None:
        """`latch`: whoever sends first is the far end (symmetric RTP), for one who is called and reads no SDP."""
        self.law = law
        self._latch = latch
        self.heard: list[Heard] = []
        self.sent: list[tuple[float, bytes]] = []
        """Each G.711 frame that left, with its time."""
        self.said: list[Said] = []
        self.voiced_in: list[float] = []
        """Arrival times of the agent's voiced frames."""
        self.invalid = self.foreign = 0
        """Datagrams that were no RTP, or came from another address than the answer named."""
        self.mute = False
        """Nothing leaves: as behind a NAT that has forgotten us."""
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[_Frame, _Utterance | None, bool]] = deque()
        self._socket = _bound_socket(host)
        self.remote: tuple[str, int] | None = None
        """Where we send: what the far end's SDP said; None before that."""
        self._running = False
        self._thread = threading.Thread(target=self._run, name=f"phone-rtp-{self.port}", daemon=True)
        self._waiters: list[asyncio.Future[None]] = []
        self._sequence = random.getrandbits(16)
        self._timestamp = random.getrandbits(32)
        self._ssrc = random.getrandbits(32)
        self._silence = _Frame(SILENCE_FRAME[law])

    @property
    def port(self) -> int:
        """Our UDP port, for the SDP."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Listen; nothing is sent before `connect`."""
        self._running = True
        self._thread.start()

    def connect(self, remote: tuple[str, int]) -> None:
        """Send to `remote` from now on; called again when a later answer names another."""
        self.remote = remote

    async def stop(self) -> None:
        """End the thread and close the socket; may be called twice."""
        if self._running:
            self._running = False
            await asyncio.to_thread(self._thread.join, 1.0)
        self._socket.close()
        for _, utterance, _ in self._queue:
            if utterance and not utterance.done.done():
                utterance.done.set_result(None)
        self._queue.clear()
        self._wake()

    def say(self, payload: bytes) -> asyncio.Future[Said | None]:
        """Queue G.711; the future is done when the last frame has left (None when nothing was voiced)."""
        utterance = _Utterance(self._loop.create_future())
        silence = bytes([self.law.silence])
        if not payload:
            utterance.done.set_result(None)
        for at in range(0, len(payload), FRAME_BYTES):
            frame = payload[at : at + FRAME_BYTES].ljust(FRAME_BYTES, silence)
            self._queue.append((_Frame(frame, self._loud(frame)), utterance, at + FRAME_BYTES >= len(payload)))
        return utterance.done

    def press(self, digits: str) -> asyncio.Future[Said | None]:
        """Queue RFC 4733 digits, 100 ms each; ValueError for a key that no telephone has."""
        utterance = _Utterance(self._loop.create_future())
        for digit in digits.upper():
            if digit not in _DIGITS:
                raise ValueError(f"{digit!r} is no telephone key")
            code = _DIGITS.index(digit)
            for step in range(_DIGIT_FRAMES + 2):  # the end packet goes out three times (2.5.1.4)
                ended = step >= _DIGIT_FRAMES - 1
                duration = min(step + 1, _DIGIT_FRAMES) * _TS_STEP
                event = struct.pack("!BBH", code, 0x8A if ended else 0x0A, duration)
                back = step * _TS_STEP
                self._queue.append((_Frame(event, False, TELEPHONE_EVENT_PT, back, step == 0), utterance, False))
            for _ in range(_DIGIT_GAP_FRAMES):
                self._queue.append((self._silence, utterance, False))
        self._queue.append((self._silence, utterance, True))
        return utterance.done

    async def changed(self) -> None:
        """Wait for the next voiced frame from the far end, or the end of the media."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def received_payload(self) -> bytes:
        """Everything heard, in the order of arrival."""
        law = self.law.payload_type
        return b"".join(one.packet.payload for one in self.heard if one.packet.payload_type == law)

    def _run(self) -> None:
        """The thread: send at each deadline, receive in between."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        deadline = 0.0
        while self._running:
            now = time.monotonic()
            if self.remote is None:
                deadline = now + _IDLE_S  # nothing to send yet; look again soon
            elif now >= deadline:
                self._send(self.remote)
                deadline += _FRAME_S
                continue
            # poll counts whole milliseconds; the rest is slept, and a packet that comes meanwhile keeps
            # the kernel's time.
            wait_ms = int((deadline - now) * 1000)
            if wait_ms:
                if poll.poll(wait_ms):
                    self._receive()
            else:
                time.sleep(max(0.0, deadline - time.monotonic()))
                self._receive()

    def _send(self, remote: tuple[str, int]) -> None:
        frame, utterance, last = self._queue.popleft() if self._queue else (self._silence, None, False)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + _TS_STEP) & 0xFFFFFFFF
        payload_type = self.law.payload_type if frame.payload_type is None else frame.payload_type
        timestamp = (self._timestamp - frame.timestamp_back) & 0xFFFFFFFF
        packet = build(payload_type, self._sequence, timestamp, self._ssrc, frame.payload, frame.marker)
        now = time.monotonic()
        try:
            if not self.mute:
                self._socket.sendto(packet, remote)
        except OSError:
            self.invalid += 1  # the far end's port is closed (ICMP): the call's end is SIP's to tell
        if frame.payload_type is None:
            self.sent.append((now, frame.payload))
        if utterance is not None:
            if frame.voiced:
                utterance.first = utterance.first or now
                utterance.last = now
            if last:
                self._loop.call_soon_threadsafe(self._finish, utterance)

    def _finish(self, utterance: _Utterance) -> None:
        said = Said(utterance.first, utterance.last) if utterance.first else None
        if said:
            self.said.append(said)
        if not utterance.done.done():
            utterance.done.set_result(said)

    def _receive(self) -> None:
        voiced = False
        while True:
            try:
                data, ancillary, _, source = self._socket.recvmsg(_MAX_DATAGRAM, 64)
            except OSError:  # empty, or ICMP's echo of our own sending
                break
            at = _arrival(ancillary)
            packet = parse(data)
            if packet is None:
                self.invalid += 1
                continue
            if self.remote is None and self._latch:
                self.remote = source
            if self.remote and source[0] != self.remote[0]:
                self.foreign += 1
                continue
            loud = packet.payload_type == self.law.payload_type and self._loud(packet.payload)
            self.heard.append(Heard(at, packet, loud))
            if loud:
                self.voiced_in.append(at)
                voiced = True
        if voiced and self._waiters:
            self._loop.call_soon_threadsafe(self._wake)

    def _loud(self, frame: bytes) -> bool:
        return level_dbov(decode(frame, self.law)) > VOICED_DBOV

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> float:
    """The kernel's time of arrival (wall clock) as monotonic seconds."""
    now: float = time.monotonic()
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            age: float = time.time() - (seconds + nanoseconds / 1e9)
            if 0 <= age < 1:  # a clock that was set in between says nothing
                return now - age
    return now


def _bound_socket(host: str) -> socket.socket:
    """A UDP socket on a free even port: RTP's (RFC 3550, 11), with RTCP's beside it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(64):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        if sock.getsockname()[1] % 2 == 0:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            return sock
        sock.close()
    raise OSError(f"no even UDP port is free on {host}")
