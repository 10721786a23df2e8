"""One call's RTP, both ways (core: datagrams and values in, values and datagrams out; no socket, no clock).

Receiving, it keeps only what is ours: the source Asterisk told us (`UNICASTRTP_LOCAL_*`), the payload
type we asked for, each sequence number once and in order. What it drops it counts. It holds no audio:
a packet goes on in the call that brought it.
Sending, it numbers: sequence continuous, timestamp advanced by what was sent, marker where the caller
of `send` says that a talkspurt starts.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sipagent.rtp import packet
from sipagent.rtp.packet import PT_COMFORT_NOISE, build, parse, seq_delta

RESYNC_PACKETS = 50
"""A jump in the sequence of more than this (one second) is a new stream, not a loss (RFC 3550, A.1)."""


@dataclass(slots=True)
class Counters:
    """What came and what went. Every packet received adds to `received` or to exactly one drop."""

    received: int = 0
    malformed: int = 0
    foreign: int = 0
    wrong_payload_type: int = 0
    duplicate: int = 0
    late: int = 0
    lost: int = 0
    resynced: int = 0
    sent: int = 0

    def as_dict(self) -> dict[str, int]:
        """For events and logs."""
        return {name: getattr(self, name) for name in self.__slots__}


class RtpSession:
    """Sequence, timestamps and identity of one RTP leg towards Asterisk."""

    def __init__(self, payload_type: int, *, ssrc: int | None = None, sequence_number: int | None = None) -> None:
        self.payload_type = payload_type
        self.counters = Counters()
        self.remote: tuple[str, int] | None = None
        """Where Asterisk listens and the only source we hear; set by `latch` before any audio."""
        # Random starts as RFC 3550 section 5.1 asks; the sequence stays away from the first wrap.
        self._ssrc = secrets.randbits(32) if ssrc is None else ssrc
        self._sequence_number = secrets.randbits(15) if sequence_number is None else sequence_number
        self._timestamp = secrets.randbits(32)
        self._expected: int | None = None
        self._remote_ssrc = 0

    def latch(self, remote: tuple[str, int]) -> None:
        """Hear and address this source only."""
        self.remote = remote

    def receive(self, datagram: bytes | memoryview, source: tuple[str, int]) -> bytes | None:
        """One datagram in; the G.711 payload to pass on, or None when it was dropped (and counted)."""
        counters = self.counters
        if source != self.remote:
            counters.foreign += 1
            return None
        parsed = parse(datagram)
        if parsed is None or not parsed.payload:
            counters.malformed += 1
            return None
        if parsed.payload_type != self.payload_type:
            # Comfort noise is a pause in other words: nothing to pass on, but its number was used.
            if parsed.payload_type == PT_COMFORT_NOISE and self._in_order(parsed):
                counters.received += 1
            else:
                counters.wrong_payload_type += 1
            return None
        if not self._in_order(parsed):
            return None
        counters.received += 1
        return parsed.payload

    def _in_order(self, parsed: packet.RtpPacket) -> bool:
        number, counters = parsed.sequence_number, self.counters
        if self._expected is None or parsed.ssrc != self._remote_ssrc:
            if self._expected is not None:
                counters.resynced += 1
        else:
            ahead = seq_delta(number, self._expected)
            if abs(ahead) > RESYNC_PACKETS:
                counters.resynced += 1
            elif ahead == -1:
                counters.duplicate += 1
                return False
            elif ahead < 0:
                # It was counted as lost when its successor came; now it is only late.
                counters.late += 1
                counters.lost = max(counters.lost - 1, 0)
                return False
            else:
                counters.lost += ahead
        self._remote_ssrc = parsed.ssrc
        self._expected = (number + 1) & 0xFFFF
        return True

    def send(self, payload: bytes, *, marker: bool = False) -> bytes:
        """The next packet's bytes; G.711 has one tick a byte, so the timestamp advances by its length."""
        datagram = build(self.payload_type, self._sequence_number, self._timestamp, self._ssrc, payload, marker)
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF
        self._timestamp = (self._timestamp + len(payload)) & 0xFFFF_FFFF
        self.counters.sent += 1
        return datagram
