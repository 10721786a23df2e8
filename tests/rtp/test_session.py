"""What one RTP leg accepts, drops and counts."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sipagent.rtp.packet import RtpPacket, parse
from sipagent.rtp.session import RtpSession

ASTERISK = ("127.0.0.1", 14000)


def session() -> RtpSession:
    made = RtpSession(8, ssrc=1, sequence_number=65534)
    made.latch(ASTERISK)
    return made


def packet(seq: int, *, pt: int = 8, ssrc: int = 99, payload: bytes | None = None) -> bytes:
    return bytes(RtpPacket(pt, seq & 0xFFFF, seq * 160 & 0xFFFFFFFF, ssrc, payload or seq.to_bytes(4, "big")))


def test_payload_passes_untouched() -> None:
    assert session().receive(packet(5, payload=b"caller"), ASTERISK) == b"caller"


def test_a_foreign_source_is_counted_and_dropped() -> None:
    s = session()
    assert s.receive(packet(5), ("127.0.0.1", 14002)) is None
    assert s.receive(packet(5), ("127.0.0.2", 14000)) is None
    assert (s.counters.foreign, s.counters.received) == (2, 0)


def test_nothing_is_heard_before_the_source_is_known() -> None:
    s = RtpSession(8)
    assert s.receive(packet(5), ASTERISK) is None
    assert s.counters.foreign == 1


def test_wrong_payload_type_is_dropped_and_comfort_noise_keeps_the_count() -> None:
    s = session()
    assert s.receive(packet(1), ASTERISK)
    assert s.receive(packet(2, pt=0), ASTERISK) is None
    assert s.receive(packet(2, pt=13), ASTERISK) is None
    assert s.receive(packet(3), ASTERISK)
    assert (s.counters.wrong_payload_type, s.counters.lost, s.counters.received) == (1, 0, 3)


def test_loss_duplicate_and_late() -> None:
    s = session()
    heard = [s.receive(packet(n), ASTERISK) for n in (10, 11, 13, 13, 12, 14)]
    assert [h is not None for h in heard] == [True, True, True, False, False, True]
    counters = s.counters
    assert (counters.lost, counters.duplicate, counters.late, counters.received) == (0, 1, 1, 4)


def test_a_new_ssrc_or_a_far_jump_is_a_new_stream() -> None:
    s = session()
    for data in (packet(10), packet(20000), packet(7, ssrc=100), packet(8, ssrc=100)):
        assert s.receive(data, ASTERISK) is not None
    assert (s.counters.resynced, s.counters.lost) == (2, 0)


@given(st.lists(st.integers(0, 49), max_size=80), st.integers(0, 65535))
def test_each_number_passes_once_and_in_order(order: list[int], start: int) -> None:
    s = session()
    passed = [n for n in order if s.receive(packet(start + n), ASTERISK) is not None]
    assert passed == sorted(set(passed))
    c = s.counters
    assert c.received + c.duplicate + c.late == len(order)


def test_sending_numbers_on_through_the_wrap() -> None:
    s = session()
    sent = [parse(s.send(b"x" * 160, marker=n == 0)) for n in range(4)]
    assert [p.sequence_number for p in sent if p] == [65534, 65535, 0, 1]
    assert [p.marker for p in sent if p] == [True, False, False, False]
    steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(sent) if a and b}
    assert steps == {160}
