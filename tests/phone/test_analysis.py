"""The caller's ear as figures: made-up frames in, exact numbers out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.audio import FRAME_BYTES, PTIME_MS
from sipagent.phone.analysis import Heard, Said, onset_after, reception, spurts, timeline, turns
from sipagent.rtp.packet import RtpPacket

FRAME_S = PTIME_MS / 1000


def talk(first: float, seconds: float) -> list[float]:
    """Arrivals of voiced frames from `first` on."""
    return [first + n * FRAME_S for n in range(round(seconds / FRAME_S))]


def heard(*places: int, ssrc: int = 7, first: int = 65530, at: float = 10.0, late_s: float = 0.0) -> list[Heard]:
    """Packets by their place in the stream; the sequence number wraps on the way."""
    return [
        Heard(
            at + order * FRAME_S + late_s,
            RtpPacket(0, (first + n) & 0xFFFF, (n * FRAME_BYTES) & 0xFFFFFFFF, ssrc, bytes([n % 256]) * FRAME_BYTES),
            voiced=False,
        )
        for order, n in enumerate(places)
    ]


class TestSpurts:
    def test_pauses_between_words_do_not_end_a_spurt(self) -> None:
        assert spurts([1.0, 1.02, 1.3, 1.32, 2.0]) == [(1.0, 1.32), (2.0, 2.0)]

    def test_none(self) -> None:
        assert spurts([]) == []

    @given(st.lists(st.floats(0, 100), max_size=50).map(sorted))
    def test_spurts_are_ordered_and_apart(self, voiced: list[float]) -> None:
        found = spurts(voiced, 0.4)
        for before, after in itertools.pairwise(found):
            assert after[0] - before[1] >= 0.4


class TestOnset:
    def test_the_tail_of_a_spurt_is_no_onset(self) -> None:
        voiced = talk(1.0, 2.0)
        assert onset_after(voiced, 2.0) is None
        assert onset_after([*voiced, *talk(4.0, 1.0)], 2.0) == 4.0

    def test_the_first_after_the_mark(self) -> None:
        assert onset_after(talk(1.0, 0.5), 0.5) == 1.0
        assert onset_after([], 0.5) is None


class TestTurns:
    def test_the_answers_latency_is_from_last_voiced_out_to_first_voiced_in(self) -> None:
        (turn,) = turns([Said(5.0, 6.0)], [*talk(1.0, 3.0), *talk(6.75, 2.0)])
        assert turn.response_ms == pytest.approx(750)
        assert turn.barge_in_ms is None
        assert not turn.was_barge_in

    def test_barge_in_is_from_onset_to_the_agents_last_frame(self) -> None:
        agent = [*talk(1.0, 4.06), *talk(7.5, 1.0)]
        (turn,) = turns([Said(5.0, 6.5)], agent)
        assert turn.was_barge_in
        assert turn.barge_in_ms == pytest.approx(40)  # the last frame at 5.04
        assert turn.response_ms == pytest.approx(1000)

    def test_an_agent_that_talks_on_was_not_stopped(self) -> None:
        first, second = turns([Said(2.0, 2.5), Said(4.0, 4.5)], talk(1.0, 9.0))
        assert (first.was_barge_in, first.barge_in_ms, first.response_ms) == (True, None, None)
        assert second.barge_in_ms == pytest.approx(5980)  # it ended in its own time: the figure says so
        assert second.response_ms is None

    def test_no_answer(self) -> None:
        first, second = turns([Said(1.0, 2.0), Said(8.0, 9.0)], talk(9.5, 1.0))
        assert first.response_ms is None  # what comes after the next utterance is not its answer
        assert second.response_ms == pytest.approx(500)

    def test_nothing_said(self) -> None:
        assert turns([], talk(1.0, 1.0)) == []


class TestReception:
    def test_a_whole_stream_across_the_wrap(self) -> None:
        got = reception(heard(*range(100)))
        assert (got.packets, got.lost, got.reordered, got.duplicates, got.sources) == (100, 0, 0, 0, 1)
        assert got.longest_gap_ms == pytest.approx(20)
        assert got.jitter_ms == pytest.approx(0, abs=1e-6)

    def test_loss(self) -> None:
        got = reception(heard(0, 1, 4, 5, 9))
        assert (got.packets, got.lost) == (5, 5)
        assert got.lost_percent == pytest.approx(50)

    def test_reordered_is_not_lost(self) -> None:
        got = reception(heard(0, 2, 1, 3))
        assert (got.lost, got.reordered, got.duplicates) == (0, 1, 0)

    def test_the_first_one_may_come_late(self) -> None:
        got = reception(heard(1, 0, 2))
        assert (got.lost, got.reordered) == (0, 1)

    def test_duplicates_are_counted_once(self) -> None:
        got = reception(heard(0, 1, 1, 2))
        assert (got.packets, got.lost, got.duplicates) == (3, 0, 1)

    def test_a_new_source_is_no_loss(self) -> None:
        got = reception([*heard(*range(5)), *heard(*range(300, 305), ssrc=8, at=10.1)])
        assert (got.packets, got.lost, got.sources) == (10, 0, 2)

    def test_the_longest_gap(self) -> None:
        got = reception([*heard(0, 1), *heard(2, 3, at=10.5)])
        assert got.longest_gap_ms == pytest.approx(480)

    def test_nothing_heard(self) -> None:
        got = reception([])
        assert (got.packets, got.lost, got.longest_gap_ms, got.jitter_ms, got.lost_percent) == (0, 0, 0, 0, 0)

    @given(st.sets(st.integers(0, 2000), min_size=1), st.integers(0, 65535))
    def test_lost_and_received_make_the_whole(self, places: set[int], first: int) -> None:
        got = reception(heard(*sorted(places), first=first))
        assert got.packets + got.lost == max(places) - min(places) + 1

    @given(st.permutations(range(40)))
    def test_any_order_loses_nothing(self, places: list[int]) -> None:
        got = reception(heard(*places))
        assert (got.packets, got.lost, got.duplicates) == (40, 0, 0)


class TestTimeline:
    def test_placed_by_rtp_time_with_holes_filled(self) -> None:
        out = timeline(heard(0, 1, 3), start=9.98, silence=0xFF)
        frames = [out[at : at + FRAME_BYTES] for at in range(0, len(out), FRAME_BYTES)]
        assert [frame[0] for frame in frames] == [0xFF, 0, 1, 0xFF, 3]

    def test_order_of_arrival_does_not_matter(self) -> None:
        assert timeline(heard(0, 2, 1), 10.0, 0xD5) == timeline(heard(0, 1, 2), 10.0, 0xD5)

    def test_what_came_before_the_start_is_left_out(self) -> None:
        assert timeline(heard(0, 1), start=10.02, silence=0xFF)[0] == 1
