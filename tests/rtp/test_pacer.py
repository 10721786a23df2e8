"""The wheel with a fake clock: when each frame leaves, to the slot."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.rtp.pacer import CATCH_UP_SLOTS, SLOT_MS, SLOTS, Wheel


class Stream:
    """Notes at which tick it was asked; talks while `frames` last."""

    def __init__(self, clock: "Clock") -> None:
        self.clock, self.sent, self.frames = clock, [], 0
        self.spoken: list[int] = []

    def send_frame(self) -> bool:
        self.sent.append(self.clock.tick)
        if self.frames:
            self.frames -= 1
            self.spoken.append(self.clock.tick)
            return True
        return False


class Clock:
    def __init__(self) -> None:
        self.tick = 0
        self.wheel = Wheel(0.0)

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.wheel.turn(self.tick * SLOT_MS / 1000 + 1e-6)
            self.tick += 1


def gaps(ticks: list[int]) -> list[int]:
    return [b - a for a, b in itertools.pairwise(ticks)]


def test_silence_leaves_every_20_ms() -> None:
    clock = Clock()
    clock.wheel.add(stream := Stream(clock))
    clock.run(SLOTS * 50)
    assert len(stream.sent) == 50
    assert set(gaps(stream.sent)) == {SLOTS}


def test_streams_spread_over_the_slots() -> None:
    clock = Clock()
    streams = [Stream(clock) for _ in range(3 * SLOTS)]
    for stream in streams:
        clock.wheel.add(stream)
    clock.run(SLOTS)
    assert sorted(s.sent[0] % SLOTS for s in streams) == sorted(list(range(SLOTS)) * 3)


@pytest.mark.parametrize("at", range(1, SLOTS + 1))
def test_a_talkspurt_starts_with_the_next_slot_and_keeps_20_ms(at: int) -> None:
    clock = Clock()
    clock.wheel.add(stream := Stream(clock))
    clock.run(at)
    stream.frames = 5
    clock.wheel.talk(stream)
    now = clock.tick
    clock.run(SLOTS * 10)
    assert stream.spoken[0] - now <= 1
    assert set(gaps(stream.spoken)) == {SLOTS}


@given(st.lists(st.tuples(st.integers(0, 45), st.integers(1, 4)), max_size=30))
def test_over_a_call_the_timeline_does_not_drift(spurts: list[tuple[int, int]]) -> None:
    clock = Clock()
    clock.wheel.add(stream := Stream(clock))
    for wait, frames in spurts:
        clock.run(wait)
        stream.frames += frames
        clock.wheel.talk(stream)
    while stream.frames:
        clock.run(1)
    clock.run(3 * SLOTS)
    # One frame a turn since the start, and at no time more than one frame ahead of that.
    assert len(stream.sent) == (clock.tick - stream.sent[0] - 1) // SLOTS + 1
    for number, tick in enumerate(stream.sent):
        assert -SLOTS < tick - (stream.sent[0] + number * SLOTS) <= 0


def test_a_late_tick_sends_once_catches_up_two_frames_and_then_moves_the_timeline() -> None:
    clock = Clock()
    clock.wheel.add(stream := Stream(clock))
    clock.run(SLOTS)
    clock.tick += 100 - 1  # a stall of 200 ms
    clock.run(1)
    assert len(stream.sent) == 2
    clock.run(1)
    assert len(stream.sent) == 1 + CATCH_UP_SLOTS // SLOTS
    assert clock.wheel.shifted_ms == 200 - CATCH_UP_SLOTS * SLOT_MS
    clock.run(SLOTS * 5)
    assert gaps(stream.sent)[-4:] == [SLOTS] * 4


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.lists(st.booleans(), min_size=60, max_size=60))
def test_whatever_the_stalls_no_tick_sends_twice_for_one_call(steps: list[int], talks: list[bool]) -> None:
    clock = Clock()
    streams = [Stream(clock) for _ in range(7)]
    for stream in streams:
        clock.wheel.add(stream)
    for step, talk in zip(steps, talks, strict=False):
        clock.tick += step - 1
        if talk:
            streams[step % 7].frames += 3
            clock.wheel.talk(streams[step % 7])
        clock.run(1)
    for stream in streams:
        assert len(set(stream.sent)) == len(stream.sent)


def test_an_empty_wheel_may_stand_still() -> None:
    clock = Clock()
    clock.wheel.on_first = lambda: clock.wheel.resume(clock.tick * SLOT_MS / 1000)
    clock.tick = 5000
    clock.wheel.add(stream := Stream(clock))
    clock.run(SLOTS * 3)
    assert clock.wheel.shifted_ms == 0
    assert len(stream.sent) == 3


def test_a_removed_stream_is_asked_no_more() -> None:
    clock = Clock()
    clock.wheel.add(stream := Stream(clock))
    clock.run(SLOTS)
    clock.wheel.remove(stream)
    clock.wheel.remove(stream)
    clock.wheel.talk(stream)
    clock.run(SLOTS)
    assert len(stream.sent) == 1
    assert len(clock.wheel) == 0


def test_a_stream_may_leave_while_it_is_asked() -> None:
    clock = Clock()

    class Leaver(Stream):
        def send_frame(self) -> bool:
            clock.wheel.remove(self)
            return super().send_frame()

    clock.wheel.add(leaver := Leaver(clock))
    clock.wheel.talk(leaver)
    clock.run(3 * SLOTS)
    assert len(leaver.sent) == 1


@given(
    began_s=st.floats(0, 1e6),
    idle_s=st.floats(0, 10),
    late_ms=st.lists(st.floats(0.001, 1.9), min_size=50, max_size=50),
)
def test_ticks_begin_with_the_slots_so_that_none_is_late_enough_to_take_two(
    began_s: float, idle_s: float, late_ms: list[float]
) -> None:
    clock = Clock()
    wheel = clock.wheel = Wheel(began_s)
    first_s = wheel.resume(began_s + idle_s)
    assert 0 <= first_s - (began_s + idle_s) <= SLOT_MS / 1000 + 1e-9
    streams = [Stream(clock) for _ in range(SLOTS)]
    for stream in streams:
        wheel.add(stream)
    for clock.tick, late in enumerate(late_ms):
        wheel.turn(first_s + (clock.tick * SLOT_MS + late) / 1000)
    assert [gaps(stream.sent) for stream in streams] == [[SLOTS] * 4] * SLOTS
