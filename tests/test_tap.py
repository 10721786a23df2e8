"""Both sides of a call on one timeline, in blocks: nothing here has a clock, so neither have the tests."""

import random
from collections.abc import Iterable
from itertools import chain, pairwise

import msgspec
import pytest

from sipagent.audio import SILENCE_FRAME, Law, encode
from sipagent.tap import ABSENT, BLOCK, FLOOD, SLACK, Block, Tap, decode
from sipagent.tap import encode as to_wire

QUIET = SILENCE_FRAME[Law.ULAW]


def frames(seed: int, count: int) -> list[bytes]:
    """Loud, and no two alike."""
    noise = random.Random(seed)
    return [encode(noise.randbytes(320), Law.ULAW) for _ in range(count)]


class Ear:
    """A tap and what it has handed over."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.tap = Tap("call", "recording", Law.ULAW, 5.0, self.blocks.append)

    def hear(self, caller: Iterable[bytes], agent: Iterable[bytes]) -> None:
        """Frame by frame, as on a clean line."""
        for mine, theirs in zip(caller, agent, strict=True):
            self.tap.caller(mine)
            self.tap.agent(theirs)

    def end(self) -> tuple[bytes, bytes]:
        """Both sides as a file would have them; a hole between blocks fails."""
        self.tap.end()
        assert [block.last for block in self.blocks] == [False] * (len(self.blocks) - 1) + [True]
        assert self.blocks[0].at == 0
        for one, following in pairwise(self.blocks):
            assert following.at == one.at + one.samples
        for block in self.blocks:
            assert len(block.caller) == len(block.agent)
        sides = [((b.caller, b.agent) if not b.paused else (b"p" * b.paused,) * 2) for b in self.blocks]
        return b"".join(one for one, _ in sides), b"".join(other for _, other in sides)


def test_a_clean_line_is_kept_sample_by_sample_and_a_second_at_most_is_unsent() -> None:
    ear, caller, agent = Ear(), frames(1, 500), frames(2, 500)
    ear.hear(caller, agent)
    sent = sum(block.samples for block in ear.blocks)
    assert 500 * 160 - sent < 8000
    assert ear.end() == (b"".join(caller), b"".join(agent))


def test_jitter_moves_nothing() -> None:
    """The caller's frames come up to 200 ms late and in bursts; the order of them is the line's business."""
    ear, caller, agent = Ear(), frames(3, 2000), frames(4, 2000)
    line, come = random.Random(5), 0
    for n in range(2000):
        due = max(come, n + 1 - line.choice([0, 0, 0, 1, 4, 10]))
        for frame in caller[come:due]:
            ear.tap.caller(frame)
        come = due
        ear.tap.agent(agent[n])
    for frame in caller[come:]:
        ear.tap.caller(frame)
    assert ear.end() == (b"".join(caller), b"".join(agent))


def test_packets_of_any_size_are_kept() -> None:
    ear, caller, agent = Ear(), b"".join(frames(6, 240)), frames(7, 240)
    for n in range(0, 240, 3):  # 60 ms a packet
        ear.tap.caller(caller[n * 160 : (n + 3) * 160])
        for frame in agent[n : n + 3]:
            ear.tap.agent(frame)
    assert ear.end() == (caller, b"".join(agent))


def test_a_caller_who_sends_nothing_is_silent_and_stands_where_he_begins() -> None:
    ear, caller, agent = Ear(), frames(8, 50), frames(9, 250)
    for frame in agent[:200]:
        ear.tap.agent(frame)
    ear.hear(caller, agent[200:])
    left, right = ear.end()
    assert right == b"".join(agent)
    assert left == QUIET * 200 + b"".join(caller)


def test_a_clock_that_runs_differently_does_not_drift_apart_over_hours() -> None:
    """300 ppm, more than any telephone's: 3.2 s in three hours. Every loud frame of the caller is kept all the same."""
    for caller_frames, agent_frames in ((10_003, 10_000), (10_000, 10_003)):
        ear = Ear()
        loud = list(chain.from_iterable([*frames(seed, 60), *[QUIET] * 40] for seed in range(540)))
        mine = theirs = 0
        for step in range(540_000 * 10_003 // 10_000):
            while mine * agent_frames < step * caller_frames and mine < len(loud) * 10:
                ear.tap.caller(loud[mine % len(loud)])
                mine += 1
            ear.tap.agent(QUIET)
            theirs += 1
        left, right = ear.end()
        assert len(left) == len(right) <= (theirs * 160) + SLACK + BLOCK
        spoken = [frame for frame in loud if frame != QUIET]
        at, kept = 0, 0
        for n in range(0, mine, 997):  # where some of them stand, against where they were said
            frame = loud[n % len(loud)]
            if frame == QUIET:
                continue
            said = n * 160 * agent_frames // caller_frames
            found = left.find(frame, max(said - 2 * SLACK, 0), said + 2 * SLACK + 160)
            assert found >= at
            at, kept = found, kept + 1
        assert kept > 300
        assert sum(left.count(frame) for frame in spoken[:50]) == 500


def test_what_a_stalled_line_delivers_after_all_is_kept_and_its_silence_given_back() -> None:
    """The line stood for 600 ms, silence was lent, then the speech came: the model heard both, and the tap does."""
    ear, before, late, after = Ear(), frames(10, 50), frames(11, 30), frames(12, 50)
    ear.hear(before, [QUIET] * 50)
    ear.hear([QUIET] * 30, [QUIET] * 30)
    for frame in late:
        ear.tap.caller(frame)
    for mine in (after, [QUIET] * 100, frames(13, 50)):
        ear.hear(mine, [QUIET] * len(mine))
    left, _ = ear.end()
    spoken = b"".join(frame for frame in (left[n : n + 160] for n in range(0, len(left), 160)) if frame != QUIET)
    assert spoken == b"".join([*before, *late, *after, *frames(13, 50)])
    assert abs(left.index(frames(13, 1)[0]) - 230 * 160) <= SLACK


def test_noise_that_never_stops_is_never_cut_into() -> None:
    ear, caller = Ear(), frames(14, 300)
    for frame in caller[:20]:
        ear.tap.caller(frame)
    ear.hear(caller[20:], [QUIET] * 280)
    assert b"".join(caller) in ear.end()[0]


def test_who_sends_twice_as_much_as_time_has_is_bounded_and_counted() -> None:
    ear = Ear()
    for frame in frames(15, 1000):
        ear.hear([frame], [QUIET])
        ear.tap.caller(frame)
        assert len(ear.tap._caller) <= FLOOD + BLOCK + ABSENT
    left, _ = ear.end()
    assert len(left) + sum(block.lost for block in ear.blocks) == 2000 * 160


def test_a_stall_of_the_pacer_is_time_too() -> None:
    ear, agent = Ear(), frames(16, 10)
    ear.hear(frames(17, 5), agent[:5])
    ear.tap.skip(300)
    for frame in frames(18, 15):
        ear.tap.caller(frame)
    ear.hear(frames(19, 5), agent[5:])
    left, right = ear.end()
    assert right == b"".join(agent[:5]) + QUIET * 15 + b"".join(agent[5:])
    assert left == b"".join([*frames(17, 5), *frames(18, 15), *frames(19, 5)])


def test_after_a_long_stall_what_was_said_in_it_is_kept_whole() -> None:
    ear = Ear()
    ear.hear(frames(17, 5), [QUIET] * 5)
    ear.tap.skip(2000)
    for frame in frames(18, 100):
        ear.tap.caller(frame)
    ear.hear([*[QUIET] * 200, *frames(19, 5)], [QUIET] * 205)
    left, _ = ear.end()
    assert b"".join(frames(18, 100)) in left
    assert abs(left.index(frames(19, 1)[0]) - 305 * 160) <= SLACK


def test_a_pause_keeps_nothing_and_counts_as_time() -> None:
    ear, caller, agent = Ear(), frames(20, 300), frames(21, 300)
    ear.hear(caller[:75], agent[:75])
    ear.tap.pause("operator")
    ear.hear(caller[75:200], agent[75:200])
    ear.tap.pause("")
    ear.hear(caller[200:], agent[200:])
    left, right = ear.end()
    gap = b"p" * 125 * 160
    assert left == b"".join(caller[:75]) + gap + b"".join(caller[200:])
    assert right == b"".join(agent[:75]) + gap + b"".join(agent[200:])
    wire = b"".join(to_wire(block) for block in ear.blocks)
    assert caller[75] in b"".join(caller)
    assert not any(frame in wire for frame in (*caller[75:200], *agent[75:200]))
    # Blocks go up all the while, so that whoever writes them knows that we live.
    assert sum(bool(block.paused) for block in ear.blocks) >= 3


def test_what_the_caller_was_ahead_by_does_not_make_pauses_longer() -> None:
    ear = Ear()
    ear.tap.caller(QUIET)
    for _ in range(50):
        ear.hear(frames(22, 10), [QUIET] * 10)
        ear.tap.pause("agent")
        ear.hear([QUIET] * 10, [QUIET] * 10)
        ear.tap.pause("")
        ear.tap.caller(QUIET)
    left, _ = ear.end()
    assert abs(len(left) - 50 * 20 * 160) <= 160


def test_a_second_party_changes_the_name_of_a_pause_and_not_its_length() -> None:
    ear = Ear()
    ear.tap.pause("agent")
    ear.hear([QUIET] * 10, [QUIET] * 10)
    ear.tap.pause("agent+operator")
    ear.hear([QUIET] * 10, [QUIET] * 10)
    ear.tap.pause("operator")
    ear.tap.pause("")
    ear.hear([QUIET], [QUIET])
    ear.end()
    assert [(b.paused_by, b.samples) for b in ear.blocks] == [("agent", 1600), ("agent+operator", 1600), ("", 160)]


def test_an_empty_recording_ends_too() -> None:
    ear = Ear()
    assert ear.end() == (b"", b"")


def test_a_block_survives_the_wire_and_nothing_else_does() -> None:
    block = Block("r", "c", Law.ALAW, 1.5, 6400, b"\xd5" * 160, b"\x00" * 160, lost=7, last=True)
    assert decode(to_wire(block)) == block
    with pytest.raises(msgspec.DecodeError):
        decode(b"\xff\xff")
