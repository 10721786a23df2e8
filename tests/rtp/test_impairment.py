"""The bad line itself: the same for the same seed, and as bad as it was told to be."""

import pytest

from sipagent.audio import SILENCE_FRAME, Law
from sipagent.rtp.packet import RtpPacket, parse
from tests.impairment import Packetizer, Plan, Profile

EVERYTHING = Profile(
    loss=0.02, burst_begins=0.01, burst_ends=0.4, delay_ms=10, jitter_ms=30, reorder=0.03, duplicate=0.03,
    stall_every_ms=3000, stall_ms=150, drift_ppm=100,
)  # fmt: skip


def fates(profile: Profile, seed: int, packets: int = 5000) -> tuple[Plan, list[list[float]]]:
    plan = Plan(profile, seed)
    return plan, [plan.arrivals(n * 0.02) for n in range(packets)]


def test_same_seed_same_line() -> None:
    assert fates(EVERYTHING, 1)[1] == fates(EVERYTHING, 1)[1]
    assert fates(EVERYTHING, 1)[1] != fates(EVERYTHING, 2)[1]


def test_a_clean_line_is_transparent() -> None:
    assert fates(Profile(), 1)[1] == [[n * 0.02] for n in range(5000)]


def test_loss_is_as_told_and_counted() -> None:
    plan, got = fates(Profile(loss=0.05), 3)
    assert plan.done.loss_percent == pytest.approx(5, abs=1)
    assert got.count([]) == plan.done.lost


def test_gilberts_bursts_have_their_length() -> None:
    plan, _ = fates(Profile(burst_begins=0.01, burst_ends=0.25), 4, 50_000)
    assert plan.done.lost / plan.done.bursts == pytest.approx(4, rel=0.1)
    assert plan.done.loss_percent == pytest.approx(100 * 0.01 / 0.26, rel=0.15)


def test_jitter_keeps_the_order_unless_told() -> None:
    in_order = [at for ats in fates(Profile(jitter_ms=60), 5)[1] for at in ats]
    assert in_order == sorted(in_order)
    overtaking = [at for ats in fates(Profile(jitter_ms=60, in_order=False), 5)[1] for at in ats]
    assert overtaking != sorted(overtaking)
    assert all(0 <= at - n * 0.02 <= 0.06 for n, at in enumerate(overtaking))


def test_who_is_overtaken_is_counted() -> None:
    plan, got = fates(Profile(reorder=0.1, reorder_ms=25), 5)
    order = [n for _, n in sorted((at, n) for n, ats in enumerate(got) for at in ats)]
    highest, late = -1, 0
    for n in order:
        late += n < highest
        highest = max(highest, n)
    assert plan.done.overtaken == late > 0


def test_a_stall_ends_with_everything_at_once() -> None:
    got = [at for ats in fates(Profile(stall_every_ms=1000, stall_ms=290), 6, 100)[1] for at in ats]
    assert got.count(pytest.approx(1.0)) == 15  # sent at 0.72 to 1.00


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_drifting_sender(ppm: int) -> None:
    got = [at for ats in fates(Profile(drift_ppm=ppm), 7, 5000)[1] for at in ats]
    assert got[-1] - got[0] == pytest.approx(4999 * 0.02 * (1 + ppm / 1e6), abs=1e-6)


def test_other_packet_lengths_keep_every_byte_and_the_timestamps() -> None:
    packetizer, out = Packetizer(Law.ULAW, ptime_ms=30), []
    for n in range(9):
        out += packetizer.packets(bytes(RtpPacket(0, 100 + n, 160 * n, 9, bytes([n]) * 160)))
    packets = [parse(data) for data in out]
    assert b"".join(p.payload for p in packets if p) == b"".join(bytes([n]) * 160 for n in range(9))
    assert [(p.sequence_number, p.timestamp) for p in packets if p] == [(100 + n, 240 * n) for n in range(6)]


def test_silence_suppression_steps_the_timestamp_only() -> None:
    packetizer, out = Packetizer(Law.ULAW, silence_suppression=True), []
    for n, payload in enumerate((b"a" * 160, SILENCE_FRAME[Law.ULAW], SILENCE_FRAME[Law.ULAW], b"b" * 160)):
        out += packetizer.packets(bytes(RtpPacket(0, 7 + n, 160 * n, 9, payload)))
    packets = [parse(data) for data in out]
    assert [(p.sequence_number, p.timestamp) for p in packets if p] == [(7, 0), (8, 480)]
