"""What the caller hears: the play-out queue and the bridge, frame by frame, without a clock."""

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sipagent.audio import FRAME_BYTES, SILENCE_FRAME, Law, encode
from sipagent.media import MAX_QUEUED_MS, Flushed, MediaBridge, PlayoutQueue
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.packet import RtpPacket, parse
from sipagent.rtp.session import RtpSession

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
    assert queue.flush() == Flushed("one", 60, 140)
    assert queue.flush() is None
    assert queue.take_frame() is None


def test_flush_before_the_first_frame_and_in_the_second_item() -> None:
    queue = PlayoutQueue(Law.ULAW)
    queue.put("one", b"x" * 160)
    assert queue.flush() == Flushed("one", 0, 20)
    queue.put("two", b"x" * 240)
    queue.end("two")
    queue.put("three", b"y" * 400)
    queue.take_frame()
    queue.take_frame()  # 80 bytes of each
    assert queue.flush() == Flushed("three", 10, 40)


def test_an_hour_in_one_message_is_bounded() -> None:
    queue = PlayoutQueue(Law.ULAW)
    queue.put("i", bytes(MAX_QUEUED_MS * 8 + 80_000))
    assert queue.queued_ms == MAX_QUEUED_MS
    assert queue.overflow_ms == 10_000


class Socket:
    def __init__(self) -> None:
        self.sent: list[RtpPacket] = []

    def send(self, datagram: bytes, remote: tuple[str, int]) -> None:
        assert remote == ASTERISK
        parsed = parse(datagram)
        assert parsed is not None
        self.sent.append(parsed)


def bridge() -> tuple[MediaBridge, Socket, Wheel]:
    wheel = Wheel(0.0)
    media = MediaBridge(Law.ALAW, RtpSession(8, ssrc=1), wheel, lambda: 42.0)
    socket = Socket()
    media.start(cast("Any", socket), ASTERISK)
    return media, socket, wheel


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
        media.on_datagram(memoryview(bytes(RtpPacket(8, n, n * 160, 5, frame))), ASTERISK)
    assert model == frames


def test_the_last_voiced_frame_of_the_caller_is_noted() -> None:
    media, _, _ = bridge()
    loud = encode(b"\x00\x20\x00\xe0" * 80, Law.ALAW)
    media.on_datagram(memoryview(bytes(RtpPacket(8, 1, 0, 5, SILENCE_FRAME[Law.ALAW]))), ASTERISK)
    assert media.caller_voiced_at is None
    media.on_datagram(memoryview(bytes(RtpPacket(8, 2, 160, 5, loud))), ASTERISK)
    assert media.caller_voiced_at == 42.0


def test_nothing_is_sent_after_stop() -> None:
    media, socket, wheel = bridge()
    media.stop()
    media.stop()
    wheel.turn(1.0)
    assert len(socket.sent) == 1
    assert len(wheel) == 0
