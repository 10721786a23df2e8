"""A bad line for tests: what it does to each packet as a seeded plan, and a UDP relay that does it.

`Plan` is the core: the time a packet is sent in, the times it arrives out, the same ones for the same seed
and profile. `Packetizer` makes another telephone of the test's own: other packet lengths, silence
suppression. `Relay` is the thin shell with two faces, one towards the phone and one towards Asterisk.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from sipagent.audio import SAMPLE_RATE_HZ, Law
from sipagent.phone.media import PhoneMedia
from sipagent.rtp.packet import build, parse

_FASTER_SENDER_MARGIN_S = 0.2  # a sender that gains time needs a delay to eat up: 400 s at 500 ppm


@dataclass(frozen=True, slots=True)
class Profile:
    """A line. Probabilities are 0 to 1 a packet."""

    loss: float = 0.0
    """Random, each packet for itself."""
    burst_begins: float = 0.0
    burst_ends: float = 1.0
    """Gilbert's two states: in a burst every packet is lost; its mean length is 1 / burst_ends."""
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Up to so much more delay, evenly spread."""
    in_order: bool = True
    """A queue: who is delayed delays those behind. Else jitter overtakes."""
    reorder: float = 0.0
    reorder_ms: float = 25.0
    """A packet is held back so long and overtaken meanwhile."""
    duplicate: float = 0.0
    duplicate_ms: float = 1.0
    stall_every_ms: float = 0.0
    stall_ms: float = 0.0
    """Nothing arrives for so long, then all of it at once."""
    drift_ppm: float = 0.0
    """The sender's clock: positive is slow, its packets come ever later."""


@dataclass(slots=True)
class Done:
    """What the plan really did."""

    sent: int = 0
    lost: int = 0
    bursts: int = 0
    duplicated: int = 0
    overtaken: int = 0
    """Packets that arrive after a later one."""

    @property
    def loss_percent(self) -> float:
        return 100 * self.lost / self.sent if self.sent else 0.0


class Plan:
    """Where each packet goes (core)."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.done = Done()
        self._random = random.Random(seed)
        self._in_burst = self._lost_last = False
        self._start: float | None = None
        self._queue_empty_at = 0.0
        self._under_way: list[float] = []

    def arrivals(self, sent_s: float) -> list[float]:
        """When (seconds, the clock of `sent_s`) this packet arrives: never, once or twice."""
        profile, done = self.profile, self.done
        # Always the same number of draws, so that one probability does not shift the others.
        lose, burst, spread, hold_back, double = (self._random.random() for _ in range(5))
        done.sent += 1
        self._start = sent_s if self._start is None else self._start
        self._in_burst = burst >= profile.burst_ends if self._in_burst else burst < profile.burst_begins
        if self._in_burst or lose < profile.loss:
            done.lost += 1
            done.bursts += not self._lost_last
            self._lost_last = True
            return []
        self._lost_last = False
        at = sent_s + (profile.delay_ms + spread * profile.jitter_ms) / 1000 + self._drift_s(sent_s - self._start)
        at = self._after_stall(at)
        if profile.in_order:
            at = self._queue_empty_at = max(at, self._queue_empty_at)
        if hold_back < profile.reorder:
            at += profile.reorder_ms / 1000
        done.overtaken += sum(earlier > at for earlier in self._under_way)
        self._under_way = [earlier for earlier in self._under_way if sent_s < earlier <= at] + [at]
        if double < profile.duplicate:
            done.duplicated += 1
            return [at, at + profile.duplicate_ms / 1000]
        return [at]

    def _drift_s(self, elapsed_s: float) -> float:
        drift_s = elapsed_s * self.profile.drift_ppm / 1e6
        return max(drift_s + _FASTER_SENDER_MARGIN_S, 0.0) if self.profile.drift_ppm < 0 else drift_s

    def _after_stall(self, at: float) -> float:
        every_s, stall_s = self.profile.stall_every_ms / 1000, self.profile.stall_ms / 1000
        if not every_s or self._start is None:
            return at
        into_s = (at - self._start) % every_s  # each period ends with the stall
        return at + every_s - into_s if into_s > every_s - stall_s else at


class Packetizer:
    """The packets of another telephone out of our own's frames of 20 ms (core)."""

    def __init__(self, law: Law, *, ptime_ms: int = 20, silence_suppression: bool = False) -> None:
        self._law, self._suppress = law, silence_suppression
        self._size = ptime_ms * SAMPLE_RATE_HZ // 1000
        self._audio = bytearray()
        self._timestamp = 0  # of the first byte of `_audio`
        self._number: int | None = None

    def packets(self, datagram: bytes) -> list[bytes]:
        """One datagram in; those that are full now out. What is not our audio passes with the next number."""
        packet = parse(datagram)
        if packet is None:
            return [datagram]
        if self._number is None:
            self._number = packet.sequence_number
        if packet.payload_type != self._law.payload_type:
            return [self._next(packet.payload_type, packet.timestamp, packet.ssrc, packet.payload, packet.marker)]
        if not self._audio:
            self._timestamp = packet.timestamp
        self._audio += packet.payload
        made = []
        while len(self._audio) >= self._size:
            payload = bytes(self._audio[: self._size])
            if not self._suppress or payload.count(self._law.silence) < len(payload):
                made.append(self._next(packet.payload_type, self._timestamp, packet.ssrc, payload, False))
            del self._audio[: self._size]
            self._timestamp = (self._timestamp + self._size) & 0xFFFF_FFFF
        return made

    def _next(self, payload_type: int, timestamp: int, ssrc: int, payload: bytes, marker: bool) -> bytes:
        number, self._number = self._number or 0, ((self._number or 0) + 1) & 0xFFFF
        return build(payload_type, number, timestamp, ssrc, payload, marker)


class _Face(asyncio.DatagramProtocol):
    """One socket of the relay: what comes in goes through `plan` and out of the other one."""

    def __init__(self, plan: Plan, repack: Callable[[bytes], Iterable[bytes]]) -> None:
        self.plan, self._repack = plan, repack
        self.transport: asyncio.DatagramTransport | None = None
        self.peer: tuple[str, int] | None = None
        """Whoever is at this face: told, or learned from what comes."""
        self.other: _Face | None = None
        self._under_way: list[tuple[float, int, bytes]] = []  # a heap by arrival: a loop that is late keeps the order
        self._count = itertools.count()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.peer = self.peer or addr
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._forward(now)
        for datagram in self._repack(data):
            for at in self.plan.arrivals(now):
                heapq.heappush(self._under_way, (at, next(self._count), datagram))
                if at > now:
                    loop.call_at(at, self._forward, at)
        self._forward(now)

    def _forward(self, now: float) -> None:
        other = self.other
        while self._under_way and self._under_way[0][0] <= now:
            _, _, datagram = heapq.heappop(self._under_way)
            if other and other.transport and other.peer and not other.transport.is_closing():
                other.transport.sendto(datagram, other.peer)


class Relay:
    """A line between two UDP addresses: `near` is the phone's end, `far` the switch's.

    As a context manager; each face is an address to send to. The far end is told with `connect`.
    """

    def __init__(
        self,
        to_far: Plan,
        to_near: Plan | None = None,
        repack: Callable[[bytes], Iterable[bytes]] = lambda datagram: (datagram,),
    ) -> None:
        self.to_far, self.to_near = to_far, to_near or Plan(Profile(), 0)
        self._near = _Face(self.to_far, repack)
        self._far = _Face(self.to_near, lambda datagram: (datagram,))
        self._near.other, self._far.other = self._far, self._near

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for face in (self._near, self._far):
            await loop.create_datagram_endpoint(lambda face=face: face, ("127.0.0.1", 0))  # type: ignore[misc]
        return self

    async def __aexit__(self, *_: object) -> None:
        for face in (self._near, self._far):
            if face.transport:
                face.transport.close()

    @property
    def near(self) -> tuple[str, int]:
        """Where the phone sends to."""
        return self._address(self._near)

    @property
    def far(self) -> tuple[str, int]:
        """What the phone's SDP gives as its own address."""
        return self._address(self._far)

    def connect(self, remote: tuple[str, int]) -> None:
        """Where the switch listens."""
        self._far.peer = remote

    def phone_media(self) -> type[PhoneMedia]:
        """A phone's media that speaks through this relay, in place of `PhoneMedia`."""
        relay = self

        class RelayedMedia(PhoneMedia):
            @property
            def port(self) -> int:
                return relay.far[1] if relay._near.transport else super().port

            def connect(self, remote: tuple[str, int]) -> None:
                relay.connect(remote)
                super().connect(relay.near)

        return RelayedMedia

    @staticmethod
    def _address(face: _Face) -> tuple[str, int]:
        assert face.transport is not None
        host, port = face.transport.get_extra_info("sockname")[:2]
        return str(host), int(port)
