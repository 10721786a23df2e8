"""The caller's packets as the model's timeline: what passes, what waits, what fills the holes.

The long test joins two cores back to back through a bad line, minutes of a call in milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.audio import SILENCE_FRAME, Law
from sipagent.rtp.concealment import FADE
from sipagent.rtp.jitter import MAX_LENT_A_TICK, QUIET_S, RESYNC_PACKETS, Counters
from sipagent.rtp.packet import PT_COMFORT_NOISE, RtpPacket
from sipagent.rtp.session import ORDER_BUFFER_MS, RtpSession
from tests.impairment import Packetizer, Plan, Profile

SILENCE = SILENCE_FRAME[Law.ALAW]
BELIEVED_S = QUIET_S + 0.04
"""One tick suspects a pause, the next one believes it."""


def session(**options: int) -> RtpSession:
    return RtpSession(8, ssrc=1, **options)


def frame(number: int) -> bytes:
    """A payload that tells its number."""
    return number.to_bytes(4, "big") * 40


def packet(number: int, *, ts: int | None = None, ssrc: int = 99, pt: int = 8, payload: bytes | None = None) -> bytes:
    timestamp = number * 160 if ts is None else ts
    return bytes(RtpPacket(pt, number & 0xFFFF, timestamp & 0xFFFF_FFFF, ssrc, payload or frame(number)))


class Line:
    """A session with a clock: packets at their times, a tick every 20 ms in between."""

    def __init__(self, tick_phase_ms: float = 7.0, **options: int) -> None:
        self.session = session(**options)
        self.heard: list[bytes] = []
        self.now_ms = 0.0
        self._tick_ms = tick_phase_ms

    @property
    def counters(self) -> Counters:
        return self.session.counters

    @property
    def heard_ms(self) -> float:
        return sum(map(len, self.heard)) / 8

    def run(self, until_ms: float) -> list[bytes]:
        """Ticks up to a time; what they gave."""
        out: list[bytes] = []
        while self._tick_ms <= until_ms:
            out += self.session.timeline.tick(self._tick_ms / 1000)
            self._tick_ms += 20
        self.now_ms = until_ms
        self.heard += out
        return out

    def at(self, ms: float, datagram: bytes) -> list[bytes]:
        """A packet at a time (after the ticks before it); what that packet gave."""
        self.run(ms)
        out = list(self.session.timeline.take(datagram, ms / 1000))
        self.heard += out
        return out

    def speak(self, numbers: range, first_ms: float = 0.0) -> None:
        for place, number in enumerate(numbers):
            assert self.at(first_ms + 20 * place, packet(number)) == [frame(number)]


def adds_up(counters: Counters, datagrams: int) -> None:
    """Every datagram is counted in exactly one place."""
    assert datagrams == (
        counters.received
        + counters.comfort_noise
        + counters.duplicate
        + counters.late
        + counters.stray
        + counters.wrong_payload_type
        + counters.malformed
        + counters.foreign
    )


# --- one thing at a time


def test_a_clean_line_passes_each_packet_at_once() -> None:
    line = Line()
    line.speak(range(65500, 65600))  # through the wrap of the sequence
    assert line.heard == [frame(n) for n in range(65500, 65600)]
    assert line.counters == Counters(received=100)
    assert line.session.jitter_ms < 1e-6


def test_the_timestamp_may_wrap_too() -> None:
    line = Line()
    for n in range(10):
        assert line.at(20 * n, packet(n, ts=2**32 - 800 + 160 * n)) == [frame(n)]
    assert line.counters == Counters(received=10)


def test_a_lost_packet_is_waited_for_and_then_concealed() -> None:
    line = Line()
    line.speak(range(10))
    assert line.at(220, packet(11)) == []  # 10 is missing
    out = line.run(260)
    assert [len(f) for f in out] == [160, 160]
    assert out[1] == frame(11)
    assert out[0] not in {SILENCE, frame(9)}
    assert (line.counters.lost, line.counters.loss_runs, line.counters.concealed_ticks) == (1, 1, 160)


def test_two_lost_frames_are_repeated_softer_the_rest_is_silence() -> None:
    line = Line()
    line.speak(range(10))
    line.at(241, packet(15))  # faster than the pause is believed: five are missing
    line.run(300)
    lost = line.heard[10:15]
    assert [f == SILENCE for f in lost] == [False] * len(FADE) + [True] * 3
    counters = line.counters
    assert (counters.lost, counters.concealed_ticks, counters.muted_ticks) == (5, 320, 480)


def test_a_packet_out_of_order_is_put_in_its_place() -> None:
    line = Line()
    line.speak(range(10))
    assert line.at(220, packet(11)) == []
    assert line.at(230, packet(10)) == [frame(10), frame(11)]
    assert line.at(240, packet(12)) == [frame(12)]
    assert line.counters == Counters(received=13, reordered=1)


def test_without_an_order_buffer_the_hole_is_filled_at_once_and_who_comes_later_is_late() -> None:
    line = Line(order_buffer_ms=0)
    line.speak(range(10))
    assert line.at(220, packet(11))[-1] == frame(11)
    assert line.at(230, packet(10)) == []
    assert line.at(240, packet(12)) == [frame(12)]
    assert (line.counters.late, line.counters.lost, line.counters.loss_runs) == (1, 0, 1)
    assert line.heard_ms == 13 * 20


def test_a_duplicate_is_dropped_also_of_a_packet_that_waits() -> None:
    line = Line()
    line.speak(range(10))
    assert line.at(181, packet(9)) == []
    assert line.at(182, packet(5)) == []
    assert line.at(220, packet(11)) == []
    assert line.at(221, packet(11)) == []
    assert line.at(222, packet(10)) == [frame(10), frame(11)]
    assert (line.counters.duplicate, line.counters.late) == (3, 0)


def test_a_line_that_only_loses_is_not_waited_for_for_ever() -> None:
    line = Line()
    line.speak(range(10))
    at_once = []
    for n in range(11, 60, 2):  # every other packet is lost
        out = line.at(20 * n, packet(n))
        at_once.append(bool(out))
    assert at_once[-1]
    assert not at_once[0]
    line.at(1185, packet(58))  # late: so it does happen here
    assert line.at(1220, packet(61)) == []


@pytest.mark.parametrize("pause_ms", [100, 400, 5000])
def test_a_pause_of_a_phone_that_suppresses_silence_is_heard_at_the_pace_of_time(pause_ms: int) -> None:
    line = Line()
    line.speak(range(10))  # until 200 ms
    for ms in range(200, 200 + pause_ms, 20):
        line.run(ms)
        # From the moment the pause is believed nothing is owed.
        assert ms < 200 + 1000 * BELIEVED_S or line.heard_ms >= ms - 20
        assert line.heard_ms <= max(ms, 200)
    first = 10 + pause_ms // 20
    line.at(200 + pause_ms, packet(10, ts=160 * first, payload=frame(first)))
    assert line.heard_ms == 200 + pause_ms + 20
    assert (line.counters.lost, line.counters.inserted_ticks) == (0, 0)
    assert line.counters.paused_ticks == pause_ms * 8
    assert set(line.heard[10:-1]) == {SILENCE}


def test_comfort_noise_is_a_pause() -> None:
    line = Line()
    line.speak(range(10))
    assert line.at(200, packet(10, pt=PT_COMFORT_NOISE, payload=b"\x40")) == []
    line.run(500)
    assert line.heard_ms >= 480
    assert line.at(600, packet(11, ts=160 * 30))[-1] == frame(11)
    assert line.heard_ms == 620
    assert (line.counters.comfort_noise, line.counters.lost) == (1, 0)


def test_comfort_noise_that_asterisk_kept_leaves_its_number_free_and_nobody_waits_for_it() -> None:
    line = Line()
    line.speak(range(10))
    assert line.at(400, packet(11, ts=160 * 20))[-1] == frame(11)
    assert (line.counters.skipped, line.counters.lost) == (1, 0)


def test_a_stalled_line_loses_no_speech_and_the_silence_lent_is_counted() -> None:
    line = Line()
    line.speak(range(10))
    line.run(399)
    lent_ms = line.heard_ms - 200
    assert 160 <= lent_ms <= 200
    for n in range(10, 20):  # 200 ms late, all at once
        assert line.at(400, packet(n)) == [frame(n)]
    assert line.counters.inserted_ticks == lent_ms * 8
    line.speak(range(20, 30), 401)
    line.run(1000)
    line.at(1001, packet(30, ts=160 * 50))  # a real pause of 400 ms
    assert line.counters.inserted_ticks == lent_ms * 8
    assert line.heard_ms == 51 * 20 + lent_ms


def test_of_what_was_lost_in_a_stall_the_silence_lent_is_a_part() -> None:
    line = Line()
    line.speak(range(10))
    line.run(399)
    for n in range(15, 20):
        line.at(400 + n - 15, packet(n))
    line.run(440)
    assert line.counters.lost == 5
    assert (line.counters.concealed_ticks, line.counters.muted_ticks) == (0, 800)
    assert line.heard_ms == 400 + line.counters.inserted_ticks / 8


def test_a_line_that_stalls_often_is_given_more_time() -> None:
    line = Line()
    line.speak(range(10))
    for n in range(10, 50):
        line.at(20 * n + 110 - (n * 20) % 100, packet(n))  # five at once, every 100 ms
    assert line.counters.inserted_ticks <= 6 * 160
    assert line.heard[-1] == frame(49)


def test_our_own_stall_lends_nothing_if_the_packets_lie_in_the_socket() -> None:
    line = Line()
    line.speak(range(10))
    # The loop slept for a second: the wheel's ticks come first, two in one turn, then what the socket holds.
    assert line.session.timeline.tick(1.2) == ()
    assert line.session.timeline.tick(1.2001) == ()
    for n in range(10, 60):
        assert line.session.timeline.take(packet(n), 1.2002) == (frame(n),)
    assert line.counters == Counters(received=60)


def test_a_worker_that_slept_catches_up_in_portions() -> None:
    line = Line()
    line.speak(range(10))
    line.session.timeline.tick(60.0)
    assert len(line.session.timeline.tick(60.02)) == MAX_LENT_A_TICK


def test_a_new_ssrc_is_a_new_stream_and_its_first_packet_is_not_missing() -> None:
    line = Line()
    line.speak(range(10))
    assert line.at(200, packet(40000, ssrc=5)) == []
    assert line.at(220, packet(40001, ssrc=5)) == [frame(40000), frame(40001)]
    assert line.at(240, packet(40002, ssrc=5)) == [frame(40002)]
    assert line.counters == Counters(received=13, resynced=1)


def test_one_corrupted_packet_does_not_end_the_stream() -> None:
    line = Line()
    line.speak(range(10))
    line.at(200, packet(10, ssrc=1234))
    line.at(201, packet(10 + 20000))
    assert line.at(220, packet(11)) == []  # waits for 10
    line.run(260)
    assert line.at(260, packet(13)) == []
    assert (line.counters.stray, line.counters.resynced, line.counters.received) == (2, 0, 12)


def test_a_loss_of_two_seconds_is_a_hole_and_a_far_jump_a_new_stream() -> None:
    line = Line()
    line.speak(range(10))
    line.at(20 * 105, packet(105))
    line.run(20 * 107)
    assert (line.counters.lost, line.heard_ms) == (95, 106 * 20)
    line.at(20 * 107, packet(106 + RESYNC_PACKETS + 1, ts=160 * 107))
    line.at(20 * 108, packet(106 + RESYNC_PACKETS + 2, ts=160 * 108))
    assert (line.counters.lost, line.counters.resynced) == (95, 1)


def test_a_hole_that_asterisk_renumbered_is_filled_by_the_timestamp() -> None:
    """More than 100 numbers, or a loss at the caller's wrap: next number, timestamp steps (run with 22.10)."""
    line = Line()
    line.speak(range(10))
    line.at(221, packet(10, ts=160 * 11))
    assert line.heard_ms == 240
    assert line.counters.paused_ticks == 160


def test_order_lost_at_the_callers_wrap_is_seen_by_the_timestamp() -> None:
    line = Line()
    line.speak(range(10))
    for number, place in ((10, 11), (11, 10), (12, 12)):
        line.at(20 * number, packet(number, ts=160 * place, payload=frame(place)))
    assert line.heard[-2:] == [frame(11), frame(12)]
    assert line.counters.late == 1
    assert line.heard_ms == 13 * 20


@pytest.mark.parametrize("jump", [1_000_000, -1_000_000, 2**31 - 1])
def test_timestamps_set_anew_go_on_without_a_hole(jump: int) -> None:
    """What a change of the caller's SSRC looks like here: same SSRC, next number, any timestamp."""
    line = Line()
    line.speak(range(10))
    for n in range(10, 20):
        assert line.at(20 * n, packet(n, ts=160 * n + jump)) == [frame(n)]
    assert (line.counters.resynced, line.counters.lost, line.heard_ms) == (1, 0, 400)


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_any_packet_length_passes_as_it_comes(ptime_ms: int) -> None:
    line = Line()
    size = ptime_ms * 8
    for n in range(50):
        payload = bytes([n]) * size
        assert line.at(ptime_ms * n, packet(n, ts=size * n, payload=payload)) == [payload]
    assert line.counters == Counters(received=50)


def test_packets_of_odd_size_keep_to_their_timestamps() -> None:
    line = Line()
    line.speak(range(3))
    for n, size in enumerate((160, 80, 1, 161, 1200, 160, 160), 3):
        line.at(20 * n, packet(n, payload=bytes([n]) * size))
    assert line.counters.lost == 0
    assert line.counters.paused_ticks == 80 + 159
    assert line.counters.received == 10


def test_a_phone_with_a_broken_clock_is_heard_in_the_order_of_its_numbers() -> None:
    line = Line()
    for n in range(20):
        assert line.at(20 * n, packet(n, ts=7)) == [frame(n)]


@given(st.lists(st.floats(0, 70), min_size=2, max_size=60))
def test_jitter_is_that_of_rfc_3550_in_any_order(delays_ms: list[float]) -> None:
    """Appendix A.8: transit times of packets as they arrive, each against the one before."""
    line, jitter, before = Line(order_buffer_ms=200), 0.0, None
    for arrives_ms, n in sorted((20 * n + delay_ms, n) for n, delay_ms in enumerate(delays_ms)):
        if before is None:
            first = n
        if n < first:
            continue  # sent before the first one heard: not of this stream
        transit = arrives_ms - 20 * n
        jitter += (abs(transit - (transit if before is None else before)) - jitter) / 16
        before = transit
        line.at(arrives_ms, packet(n))
    assert line.counters.late == line.counters.duplicate == 0
    assert line.session.jitter_ms == pytest.approx(jitter, abs=1e-6)


# --- two cores joined by a bad line

CALL_MS = 20_000
MAX_HELD_S = ORDER_BUFFER_MS / 1000 + 1e-9

LINES = {
    "clean": Profile(),
    "loss": Profile(loss=0.02),
    "heavy loss": Profile(loss=0.2),
    "bursts": Profile(burst_begins=0.01, burst_ends=0.3),
    "jitter": Profile(delay_ms=20, jitter_ms=40),
    "overtaking": Profile(delay_ms=20, jitter_ms=50, in_order=False),
    "reorder": Profile(reorder=0.05),
    "late": Profile(reorder=0.05, reorder_ms=150),
    "duplicates": Profile(duplicate=0.1, duplicate_ms=30),
    "stalls": Profile(stall_every_ms=2000, stall_ms=300),
    "slow clock": Profile(drift_ppm=300),
    "fast clock": Profile(drift_ppm=-300),
    "everything": Profile(
        loss=0.02, burst_begins=0.005, burst_ends=0.4, delay_ms=10, jitter_ms=30, reorder=0.03, duplicate=0.03,
        stall_every_ms=3000, stall_ms=150, drift_ppm=100,
    ),
}  # fmt: skip


@dataclass
class Story:
    """What one call over a bad line gave."""

    plan: Plan
    far: RtpSession
    delivered: int = 0
    heard: list[tuple[float, bytes]] = field(default_factory=list)
    arrived: dict[bytes, float] = field(default_factory=dict)
    """First arrival of each payload."""
    at_once: int = 0
    """Datagrams whose own call gave exactly one payload."""

    @property
    def ticks(self) -> int:
        return sum(len(payload) for _, payload in self.heard)


def converse(profile: Profile, seed: int, *, repack: Packetizer | None = None, pauses: bool = False) -> Story:
    """A caller of 20 s over this line; `pauses`: half of the time is silence."""
    near, story = RtpSession(8, ssrc=77, sequence_number=65000), Story(Plan(profile, seed), session())
    chance = random.Random(seed)
    queue: list[tuple[float, int, int, bytes]] = []
    order = itertools.count()
    for n in range(CALL_MS // 20):
        payload = SILENCE if pauses and n // 50 % 2 else frame(n + 1)
        datagram = near.send(payload)
        for made in repack.packets(datagram) if repack else [datagram]:
            for at in story.plan.arrivals(n * 0.02):
                heapq.heappush(queue, (at, 1, next(order), made))
    end = CALL_MS / 1000 + 1.0
    tick = chance.uniform(0, 0.02)
    while tick < end:
        heapq.heappush(queue, (tick, 0, next(order), b""))
        tick += 0.02
    last_at = max(at for at, is_packet, _, _ in queue if is_packet)
    while queue:
        now, is_packet, _, datagram = heapq.heappop(queue)
        if now > last_at + 0.06:
            break
        if is_packet:
            story.delivered += 1
            story.arrived.setdefault(datagram[12:], now)
            out = story.far.timeline.take(datagram, now)
            story.at_once += list(out) == [datagram[12:]]
        else:
            out = story.far.timeline.tick(now)
        story.heard += [(now, payload) for payload in out]
    return story


def audio_of(story: Story) -> list[tuple[float, bytes]]:
    """What was heard of the caller's own frames (not concealment, not silence)."""
    return [(at, payload) for at, payload in story.heard if payload in story.arrived and payload != SILENCE]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", LINES)
def test_the_timeline_survives_the_line(name: str, seed: int) -> None:
    profile = LINES[name]
    story = converse(profile, seed)
    counters, done = story.far.counters, story.plan.done

    adds_up(counters, story.delivered)
    numbers = [int.from_bytes(payload[:4], "big") for _, payload in audio_of(story)]
    assert numbers == sorted(set(numbers))  # in order, none twice
    assert len(numbers) == counters.received
    assert counters.duplicate == done.duplicated
    assert counters.resynced == counters.stray == 0

    # To the sample: what was heard is what came, what was filled and what was lent; and the timestamps agree.
    filled = counters.concealed_ticks + counters.muted_ticks + counters.paused_ticks
    assert story.ticks == counters.received * 160 + filled + counters.inserted_ticks
    assert story.ticks == (numbers[-1] - numbers[0] + 1) * 160 + counters.inserted_ticks
    # Lost, late and received are all there is between the first and the last that came.
    assert counters.expected == numbers[-1] - numbers[0] + 1

    # Nothing is held longer than it may, and what the line delayed is all that the model is behind.
    for at, payload in audio_of(story):
        assert at - story.arrived[payload] <= MAX_HELD_S
    assert_on_time(story)


def assert_on_time(story: Story) -> None:
    """At every moment the model has heard as much as time has passed, but for the line's delay and our patience."""
    profile = story.plan.profile
    delay_s = (profile.delay_ms + profile.jitter_ms + profile.reorder_ms) / 1000
    drift_s = 0.2 + abs(profile.drift_ppm) * 1e-6 * CALL_MS / 1000 if profile.drift_ppm else 0.0
    behind_s = BELIEVED_S + MAX_HELD_S + 0.02 + delay_s + drift_s + (0.2 if profile.stall_ms else 0)
    start, ticks = story.heard[0][0], 0
    for at, payload in story.heard:
        assert at - start - ticks / 8000 <= behind_s
        ticks += len(payload)
    ahead_s = ticks / 8000 - (story.heard[-1][0] - start)
    assert ahead_s <= 0.02 + delay_s + drift_s + story.far.counters.inserted_ticks / 8000


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["clean", "jitter", "slow clock", "fast clock"])
def test_a_line_that_loses_nothing_adds_no_delay(name: str, seed: int) -> None:
    story = converse(LINES[name], seed)
    assert story.at_once == story.delivered == CALL_MS // 20
    assert story.far.counters == Counters(received=CALL_MS // 20)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["clean", "jitter", "loss", "everything"])
@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
@pytest.mark.parametrize("suppress", [False, True])
def test_every_packet_length_with_and_without_silence_suppression(
    name: str, ptime_ms: int, suppress: bool, seed: int
) -> None:
    phone = Packetizer(Law.ALAW, ptime_ms=ptime_ms, silence_suppression=suppress)
    story = converse(LINES[name], seed, repack=phone, pauses=True)
    counters = story.far.counters
    adds_up(counters, story.delivered)
    # As many samples as the caller's call was long, whatever of it was ever sent.
    ends_in_silence_ms = 1000 if suppress else 0
    whole = CALL_MS - ends_in_silence_ms
    lent = counters.inserted_ticks / 8
    assert abs(story.ticks / 8 - whole - lent) <= 2 * ptime_ms + (200 if LINES[name].burst_begins else 60)
    if name == "clean":
        assert counters.lost == counters.inserted_ticks == 0
        assert counters.paused_ticks <= (9_000 * 8 if suppress else 0)
        assert counters.paused_ticks >= (9 * (1000 - 2 * ptime_ms) * 8 if suppress else 0)


@pytest.mark.parametrize("seed", range(10))
def test_losses_are_counted_as_they_were(seed: int) -> None:
    story = converse(Profile(burst_begins=0.01, burst_ends=0.4, loss=0.01), seed)
    counters, done = story.far.counters, story.plan.done
    edge = 25  # what is lost before the first or after the last packet nobody can know of
    assert done.lost - edge <= counters.lost <= done.lost
    assert done.bursts - 2 <= counters.loss_runs <= done.bursts


# --- anything at all


@given(st.lists(st.integers(0, 49), max_size=80), st.integers(0, 65535), st.integers(0, 60))
def test_each_number_passes_once_and_in_order(order: list[int], start: int, buffer_ms: int) -> None:
    line = Line(order_buffer_ms=buffer_ms)
    for place, n in enumerate(order):
        line.at(5 * place, packet(start + n))
    line.run(line.now_ms + 100)
    real = {frame(start + n): n for n in range(50)}
    passed = [real[payload] for payload in line.heard if payload in real]
    assert passed == sorted(set(passed))
    assert len(passed) == line.counters.received
    adds_up(line.counters, len(order))


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([99, 99, 99, 7]), st.integers(-2, 3)), max_size=60),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
)
def test_streams_that_mix_and_jump_never_raise_and_add_up(
    steps: list[tuple[int, int, int]], number: int, ts: int
) -> None:
    line = Line()
    for place, (ahead, ssrc, frames) in enumerate(steps):
        number, ts = number + 40 * ahead + 1, ts + 160 * frames
        line.at(15 * place, packet(number & 0xFFFF, ts=ts, ssrc=ssrc, payload=b"x" * 160))
    line.run(line.now_ms + 1000)
    adds_up(line.counters, len(steps))
    assert not line.session.timeline._waiting
