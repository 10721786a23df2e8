"""What the caller hears: the play-out queue and the bridge, frame by frame, without a clock."""

import itertools
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.audio import FRAME_BYTES, SILENCE_FRAME, Law
from sipagent.barge_in import BargeIn
from sipagent.config import BargeInSettings
from sipagent.media import MAX_QUEUED_MS, Flushed, MediaBridge, PlayoutQueue
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.packet import RtpPacket, parse
from sipagent.rtp.session import RtpSession
from tests import sounds

ASTERISK = ("127.0.0.1", 14000)


@given(st.lists(st.binary(min_size=1, max_size=900), max_size=12))
def test_odd_pieces_leave_as_whole_frames_with_every_byte_in_order(pieces: list[bytes]) -> None:
    queue = PlayoutQueue(Law.ULAW)
    out = b""
    for piece in pieces:
        queue.put("i", piece)
        while frame := queue.take_frame():
            out += frame
    queue.end("i")
    while frame := queue.take_frame():
        out += frame
    whole = b"".join(pieces)
    assert out[: len(whole)] == whole
    assert set(out[len(whole) :]) <= {Law.ULAW.silence}
    assert len(out) - len(whole) < FRAME_BYTES


def test_half_a_frame_waits_for_the_rest_of_its_item() -> None:
    queue = PlayoutQueue(Law.ALAW)
    queue.put("i", b"a" * 100)
    assert queue.take_frame() is None
    queue.put("i", b"b" * 60)
    assert queue.take_frame() == b"a" * 100 + b"b" * 60
    queue.put("i", b"c")
    queue.end("i")
    assert queue.take_frame() == b"c" + bytes([0xD5]) * 159
    assert queue.take_frame() is None


def test_flush_tells_the_milliseconds_really_sent() -> None:
    queue = PlayoutQueue(Law.ULAW)
    queue.put("one", b"x" * 1600)
    for _ in range(3):
        queue.take_frame()
    assert queue.flush() == Flushed("one", 60, 140, 140)
    assert queue.flush() is None
    assert queue.take_frame() is None


def test_flush_before_the_first_frame_and_in_the_second_item() -> None:
    queue = PlayoutQueue(Law.ULAW)
    queue.put("one", b"x" * 160)
    assert queue.flush() == Flushed("one", 0, 20, 20)
    queue.put("two", b"x" * 240)
    queue.end("two")
    queue.put("three", b"y" * 400)
    queue.take_frame()
    queue.take_frame()  # 80 bytes of each
    queue.put("four", b"z" * 160)
    assert queue.flush() == Flushed("three", 10, 60, 40)


def test_an_hour_in_one_message_is_bounded() -> None:
    queue = PlayoutQueue(Law.ULAW)
    queue.put("i", bytes(MAX_QUEUED_MS * 8 + 80_000))
    assert queue.queued_ms == MAX_QUEUED_MS
    assert queue.overflow_ms == 10_000


class Socket:
    def __init__(self) -> None:
        self.sent: list[RtpPacket] = []

    foreign = 0

    def connect(self, remote: tuple[str, int]) -> None:
        assert remote == ASTERISK

    def send(self, datagram: bytes) -> None:
        parsed = parse(datagram)
        assert parsed is not None
        self.sent.append(parsed)


class Clock:
    """The test's own time, which is also the wheel's."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def bridge(law: Law = Law.ALAW) -> tuple[MediaBridge, Socket, Wheel]:
    clock = Clock()
    wheel = Wheel(0.0)
    media = MediaBridge(law, RtpSession(law.payload_type, ssrc=1), wheel, BargeIn(law, BargeInSettings()), clock)
    socket = Socket()
    media.start(cast("Any", socket), ASTERISK)
    return media, socket, wheel


class Talk:
    """A call at the rate of frames: every 20 ms one of the caller comes in and the wheel turns once."""

    def __init__(self) -> None:
        self.media, self.socket, self.wheel = bridge(Law.ULAW)
        self.told: list[tuple[str, object]] = []
        self.model: list[bytes] = []
        self.media.to_model = self.model.append
        self.media.on_talk = lambda item: self.told.append(("talk", item))
        self.media.on_quiet = lambda: self.told.append(("quiet", None))
        self.media.on_resume = lambda ms: self.told.append(("resume", ms))
        self.media.on_cut = self._cut
        self.said: list[bytes] = []
        self._at = 0

    def _cut(self) -> None:
        self.told.append(("cut", (self.media.stop_ms(), self.media.flush())))

    def hear(self, frames: list[bytes]) -> None:
        for frame in frames:
            cast("Clock", self.media._clock).now = self._at * 0.02
            datagram = bytes(RtpPacket(0, self._at, self._at * 160, 5, frame))
            self.media.on_datagram(datagram)
            self.said.append(frame)
            self.wheel.turn(self._at * 0.02)
            self._at += 1

    @property
    def spoken(self) -> list[bytes]:
        """What left for the caller and was not silence."""
        return [p.payload for p in self.socket.sent if p.payload != SILENCE_FRAME[Law.ULAW]]


def test_silence_leaves_at_once_so_that_strict_rtp_locks_on() -> None:
    _, socket, _ = bridge()
    assert [p.payload for p in socket.sent] == [SILENCE_FRAME[Law.ALAW]]


def test_a_talkspurt_is_marked_and_told() -> None:
    media, socket, wheel = bridge()
    told: list[str] = []
    media.on_talk, media.on_quiet = told.append, lambda: told.append("quiet")
    media.play("i", b"\x01" * 320)
    media.play_end("i")
    for tick in range(60):
        wheel.turn(tick * 0.002)
    markers = [p.marker for p in socket.sent]
    speech = [n for n, p in enumerate(socket.sent) if p.payload == b"\x01" * 160]
    assert len(speech) == 2
    assert [n for n, m in enumerate(markers) if m] == [speech[0]]
    assert told == ["i", "quiet"]


def test_barge_in_is_silence_from_the_very_next_frame() -> None:
    media, socket, wheel = bridge()
    media.play("i", b"\x01" * 16000)
    for tick in range(30):
        wheel.turn(tick * 0.002)
    flushed = media.flush()
    before = len(socket.sent)
    for tick in range(30, 90):
        wheel.turn(tick * 0.002)
    assert flushed is not None
    assert flushed.played_ms == 20 * sum(p.payload == b"\x01" * 160 for p in socket.sent)
    assert {p.payload for p in socket.sent[before:]} == {SILENCE_FRAME[Law.ALAW]}


def test_every_caller_frame_reaches_the_model_while_the_agent_speaks() -> None:
    media, _, wheel = bridge()
    model: list[bytes] = []
    media.to_model = model.append
    media.play("i", b"\x01" * 16000)
    frames = [bytes([n]) * 160 for n in range(50)]
    for n, frame in enumerate(frames):
        wheel.turn(n * 0.02)
        media.on_datagram(bytes(RtpPacket(8, n, n * 160, 5, frame)))
    assert model == frames


ANSWER = sounds.frames(sounds.vowel(3000, level=2500, pitch_hz=200))


def talking() -> Talk:
    talk = Talk()
    talk.media.play("i", b"".join(ANSWER))
    talk.media.play_end("i")
    talk.hear(sounds.silence(400))
    return talk


def test_a_cough_is_waited_out_and_the_answer_goes_on_where_it_stopped() -> None:
    talk = talking()
    talk.hear([*sounds.frames(sounds.cough(200)), *sounds.silence(3400)])
    assert talk.spoken == ANSWER
    assert [what for what, _ in talk.told] == ["talk", "resume", "quiet"]
    paused_ms = cast("int", talk.told[1][1])
    speech = [n for n, p in enumerate(talk.socket.sent) if p.payload in ANSWER]
    assert speech[-1] - speech[0] + 1 - len(ANSWER) == paused_ms // 20
    markers = [n for n, p in enumerate(talk.socket.sent) if p.marker]
    assert len(markers) == 2  # the pause ends a talkspurt
    assert talk.model == talk.said


def test_speech_cuts_the_answer_to_the_millisecond_sent() -> None:
    talk = talking()
    before = len(talk.spoken)
    talk.hear(sounds.frames(sounds.vowel(600)))
    what, facts = talk.told[1]
    stop_ms, flushed = cast("tuple[float, Flushed]", facts)
    assert what == "cut"
    assert len(talk.spoken) - before <= 2  # two frames of the caller, and it is silent
    assert stop_ms <= 40
    assert flushed.played_ms == 20 * len(talk.spoken)
    assert flushed.played_ms + flushed.dropped_ms == 3000
    assert talk.told[2:] == [("quiet", None)]
    assert talk.model == talk.said


def test_a_last_word_is_not_interrupted() -> None:
    talk = talking()
    talk.media.interruptible = False
    talk.hear([*sounds.frames(sounds.vowel(600)), *sounds.silence(3000)])
    assert talk.spoken == ANSWER
    assert [what for what, _ in talk.told] == ["talk", "quiet"]


def test_a_talkspurt_is_told_with_its_first_voiced_frame() -> None:
    talk = Talk()
    talk.media.play("i", b"".join([*sounds.silence(100), *ANSWER[:5]]))
    talk.media.play_end("i")
    talk.hear(sounds.silence(60))
    assert talk.told == []
    talk.hear(sounds.silence(400))
    assert talk.told == [("talk", "i"), ("quiet", None)]
    assert talk.media.agent_voiced_at - talk.media.spurt_at == pytest.approx(0.18)


def test_the_models_word_ends_a_pause_for_good() -> None:
    talk = talking()
    talk.hear(sounds.frames(sounds.vowel(80)))
    assert talk.media.barge_in.paused_at is not None
    assert talk.media.flush() is not None
    talk.hear(sounds.silence(400))
    assert talk.told[1:] == [("quiet", None)]
    assert len(talk.spoken) < 30


def test_a_stall_moves_the_timestamp_and_not_the_answer() -> None:
    talk = talking()
    stamps = [p.timestamp for p in talk.socket.sent]
    for tick in range(3):  # half a second in which nothing could be sent
        talk.wheel.turn(talk._at * 0.02 + 0.5 + tick * 0.002)
    sent = talk.socket.sent
    assert len(sent) - len(stamps) == 2
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in itertools.pairwise(sent[len(stamps) - 1 :])]
    assert sum(steps) == pytest.approx(500 * 8, abs=2 * 160)
    talk.hear(sounds.silence(3600))
    assert talk.spoken == ANSWER


def test_nothing_is_sent_after_stop() -> None:
    media, socket, wheel = bridge()
    media.stop()
    media.stop()
    wheel.turn(1.0)
    assert len(socket.sent) == 1
    assert len(wheel) == 0


def test_a_rest_that_nobody_will_finish_is_not_waited_for() -> None:
    """A model whose socket died within a frame: what is left of it is no talk, or a menu would wait for its end."""
    queue = PlayoutQueue(Law.ULAW)
    queue.put("item", b"x" * 170)
    assert queue.take_frame() is not None
    assert not queue.ready
    queue.end("item")
    assert queue.ready
