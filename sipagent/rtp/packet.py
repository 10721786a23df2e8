"""RTP packets as values (RFC 3550, section 5.1): bytes in, value or None out, bytes again.

A datagram from the network is never an error here: what is not RTP version 2 parses to None and the
session counts it. Sequence numbers and timestamps wrap; `seq_delta` and `ts_delta` are the only place
that knows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sipagent import native

HEADER_BYTES = 12
PT_PCMU = 0
PT_PCMA = 8
PT_COMFORT_NOISE = 13

_HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")
_VERSION_2 = 0x80
_PADDING, _EXTENDED, _CSRC_COUNT = 0x20, 0x10, 0x0F
MARKER = 0x80


def seq_delta(newer: int, older: int) -> int:
    """Distance from `older` to `newer` on the 16-bit circle: -32768 .. 32767."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000


def ts_delta(newer: int, older: int) -> int:
    """Distance from `older` to `newer` on the 32-bit timestamp circle, in ticks."""
    return ((newer - older + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet: header fields as RFC 3550 names them, payload without padding."""

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrc: tuple[int, ...] = ()

    def __bytes__(self) -> bytes:
        head = _HEADER.pack(
            _VERSION_2 | len(self.csrc),
            (MARKER if self.marker else 0) | self.payload_type,
            self.sequence_number,
            self.timestamp,
            self.ssrc,
        )
        return head + b"".join(c.to_bytes(4, "big") for c in self.csrc) + self.payload


def build(payload_type: int, sequence_number: int, timestamp: int, ssrc: int, payload: bytes, marker: bool) -> bytes:
    """A packet's bytes without making a value of it."""
    marker_and_type = payload_type | MARKER if marker else payload_type
    return native.rtp_packet(marker_and_type, sequence_number, timestamp, ssrc, payload)


def parse(data: bytes | bytearray | memoryview) -> RtpPacket | None:
    """Read one datagram; None when it is not a whole RTP version 2 packet (RFC 3550, appendix A.1)."""
    size = len(data)
    if size < HEADER_BYTES:
        return None
    first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
    if first & 0xC0 != _VERSION_2 or 72 <= second & 0x7F <= 76:  # 72-76: RTCP on the RTP port (RFC 5761)
        return None
    start, end = HEADER_BYTES, size
    csrc: tuple[int, ...] = ()
    if count := first & _CSRC_COUNT:
        start += 4 * count
        if start > size:
            return None
        csrc = struct.unpack_from(f"!{count}I", data, HEADER_BYTES)
    if first & _EXTENDED:
        if start + _EXTENSION.size > size:
            return None
        start += _EXTENSION.size + 4 * _EXTENSION.unpack_from(data, start)[1]
    if first & _PADDING:
        # The last byte counts the padding, itself included; zero or more than there is cannot be.
        if start >= size or not 0 < data[-1] <= size - start:
            return None
        end -= data[-1]
    if start > end:
        return None
    payload, marker = bytes(data[start:end]), bool(second & MARKER)
    return RtpPacket(second & 0x7F, sequence_number, timestamp, ssrc, payload, marker, csrc)
