"""What one RTP leg accepts, drops and counts, and how it numbers what it sends."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sipagent.rtp.jitter import Counters
from sipagent.rtp.packet import RtpPacket, parse
from sipagent.rtp.session import RtpSession


def session() -> RtpSession:
    return RtpSession(8, ssrc=1, sequence_number=65534)


def packet(seq: int, *, pt: int = 8, payload: bytes = b"\xd5" * 160, marker: bool = False) -> bytes:
    return bytes(RtpPacket(pt, seq & 0xFFFF, seq * 160 & 0xFFFFFFFF, 99, payload, marker))


def dropped(counters: Counters) -> int:
    return (
        counters.comfort_noise + counters.duplicate + counters.late + counters.stray
        + counters.wrong_payload_type + counters.malformed + counters.foreign
    )  # fmt: skip


def test_payload_passes_untouched() -> None:
    s = session()
    assert list(s.timeline.take(packet(5, payload=b"caller"), 0.0)) == [b"caller"]
    assert list(s.timeline.take(packet(6, payload=b"again"), 0.02))[-1] == b"again"


def test_wrong_payload_type_is_dropped_and_comfort_noise_keeps_the_count() -> None:
    s = session()
    assert s.timeline.take(packet(1), 0.02)
    assert not s.timeline.take(packet(2, pt=0), 0.04)
    assert not s.timeline.take(packet(2, pt=13), 0.04)
    assert s.timeline.take(packet(3), 0.06)
    counters = s.counters
    assert (counters.wrong_payload_type, counters.comfort_noise, counters.lost, counters.received) == (1, 1, 0, 2)


def test_packets_with_marker_padding_or_extension_go_the_long_way_and_pass() -> None:
    s, plain = session(), packet(6)
    s.timeline.take(packet(5), 0.10)
    unusual = (
        plain[:1] + bytes([0x88]) + plain[2:],
        b"\xa0" + packet(7)[1:] + b"\0\0\0\x04",
        b"\x90" + packet(8)[1:12] + b"\xbe\xde\0\1abcd" + packet(8)[12:],
        packet(9),
    )
    for place, datagram in enumerate(unusual, 6):
        assert list(s.timeline.take(datagram, place * 0.02)) == [b"\xd5" * 160]
    assert s.counters == Counters(received=5)


def test_counters_are_told_in_milliseconds() -> None:
    told = Counters(received=3, paused_ticks=1600).as_dict()
    assert told["received"] == 3
    assert told["paused_ms"] == 200
    assert not [name for name in told if name.endswith("_ticks")]


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_random_bytes_never_raise_and_are_counted_once(datagrams: list[bytes]) -> None:
    s = session()
    for place, datagram in enumerate(datagrams):
        s.timeline.take(datagram, place * 0.02)
        s.timeline.tick(place * 0.02 + 0.01)
    assert s.counters.received + dropped(s.counters) == len(datagrams)


@given(st.lists(st.tuples(st.integers(0, 171), st.binary(max_size=6), st.integers(0, 180)), min_size=1, max_size=40))
def test_mutated_packets_never_raise_and_the_stream_goes_on(mutations: list[tuple[int, bytes, int]]) -> None:
    s = session()
    now = 0.0
    for number, (at, junk, size) in enumerate(mutations):
        now = number * 0.02
        data = bytearray(packet(number))
        data[at : at + len(junk)] = junk
        del data[size:]
        s.timeline.take(bytes(data), now)
        s.timeline.tick(now + 0.005)
    assert s.counters.received + dropped(s.counters) == len(mutations)
    # Whatever that was: two good packets of one stream later everything of it passes again.
    passed = [s.timeline.take(packet(30000 + n), now + n * 0.02) for n in range(1, 6)]
    assert all(passed[2:])


def test_sending_numbers_on_through_the_wrap() -> None:
    s = session()
    sent = [parse(s.send(b"x" * 160, marker=n == 0)) for n in range(4)]
    assert [p.sequence_number for p in sent if p] == [65534, 65535, 0, 1]
    assert [p.marker for p in sent if p] == [True, False, False, False]
    steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(sent) if a and b}
    assert steps == {160}


def test_time_without_a_packet_advances_the_timestamp_and_not_the_sequence() -> None:
    s = session()
    before = parse(s.send(b"x" * 160))
    s.skip(60)
    after = parse(s.send(b"x" * 160))
    assert before
    assert after
    assert (after.sequence_number - before.sequence_number) & 0xFFFF == 1
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 160 + 480
