"""RFC 3550, section 5.1 and appendix A.1: what is a packet and what is not."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.rtp.packet import RtpPacket, build, parse, seq_delta, ts_delta

PAYLOAD = bytes(range(160))


def raw(
    first: int = 0x80, second: int = 8, *, seq: int = 7, ts: int = 160, ssrc: int = 1, rest: bytes = PAYLOAD
) -> bytes:
    return struct.pack("!BBHII", first, second, seq, ts, ssrc) + rest


def test_a_plain_packet() -> None:
    assert parse(raw(second=0x88)) == RtpPacket(8, 7, 160, 1, PAYLOAD, marker=True)


def test_build_and_value_write_the_same_bytes() -> None:
    packet = RtpPacket(0, 65535, 2**32 - 1, 0xDEADBEEF, PAYLOAD, marker=True)
    assert build(0, 65535, 2**32 - 1, 0xDEADBEEF, PAYLOAD, marker=True) == bytes(packet)
    assert parse(bytes(packet)) == packet


def test_csrc_list_is_read() -> None:
    parsed = parse(raw(0x82, rest=b"\0\0\0\x05\0\0\0\x06" + PAYLOAD))
    assert parsed is not None
    assert (parsed.csrc, parsed.payload) == ((5, 6), PAYLOAD)


def test_header_extension_is_skipped() -> None:
    parsed = parse(raw(0x90, rest=struct.pack("!HH", 0xBEDE, 2) + b"\1" * 8 + PAYLOAD))
    assert parsed is not None
    assert parsed.payload == PAYLOAD


def test_padding_is_taken_off() -> None:
    parsed = parse(raw(0xA0, rest=PAYLOAD + b"\0\0\0\x04"))
    assert parsed is not None
    assert parsed.payload == PAYLOAD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw()[:11],
        raw(0x40),  # version 1
        raw(0x00),
        raw(0x8F, rest=b"\0" * 59),  # fifteen CSRC, one byte short
        raw(0x90, rest=b"\0\0"),  # half an extension header
        raw(0x90, rest=struct.pack("!HH", 0, 65535)),  # an extension longer than the packet
        raw(0xA0, rest=b"\0\0"),  # padding of zero
        raw(0xA0, rest=b"\x09"),  # more padding than packet
        raw(0xA0, rest=b""),
        raw(second=72),  # RTCP: sender report with the marker bit read as 200
        raw(second=0x80 | 73),
    ],
)
def test_what_is_no_packet_is_none(data: bytes) -> None:
    assert parse(data) is None


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(data: bytes) -> None:
    parsed = parse(data)
    assert parsed is None or len(parsed.payload) <= len(data) - 12


@given(st.binary(min_size=1, max_size=4), st.integers(0, 171))
def test_mutated_packets_never_raise(junk: bytes, at: int) -> None:
    good = bytearray(raw(0xB1, rest=b"\0\0\0\1" + struct.pack("!HH", 0, 1) + b"abcd" + PAYLOAD))
    good[at : at + len(junk)] = junk
    parse(good)


@given(st.integers(0, 65535), st.integers(-32768, 32767))
def test_sequence_distance_wraps(start: int, step: int) -> None:
    assert seq_delta((start + step) & 0xFFFF, start) == step


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1))
def test_timestamp_distance_wraps(start: int, step: int) -> None:
    assert ts_delta((start + step) & 0xFFFFFFFF, start) == step
