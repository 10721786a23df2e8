"""Who may stop a recording, who may let it go on, and what the others are told of it."""

from typing import Any, cast

from sipagent import model, tap
from sipagent.audio import SILENCE_FRAME, Law
from sipagent.barge_in import BargeIn
from sipagent.config import BargeInSettings
from sipagent.media import MediaBridge
from sipagent.recording import Recording
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.packet import RtpPacket
from sipagent.rtp.session import RtpSession
from sipagent.tap import Block

ASTERISK = ("127.0.0.1", 14000)


class Socket:
    foreign = 0

    def connect(self, remote: tuple[str, int]) -> None:
        pass

    def send(self, datagram: bytes) -> None:
        pass


class Line:
    """A call on a line that loses nothing."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.blocks: list[Block] = []
        self.recording = Recording("call", self._emit, lambda data: self.blocks.append(tap.decode(data)))
        self.wheel, self.now = Wheel(0.0), 0.0
        quiet = BargeIn(Law.ULAW, BargeInSettings(enabled=False))
        self.media = MediaBridge(Law.ULAW, RtpSession(0, ssrc=1), self.wheel, quiet, lambda: self.now)
        self.media.start(cast("Any", Socket()), ASTERISK)
        self._frame = 0

    def _emit(self, kind: type[model.CallEvent], **facts: str) -> None:
        self.told.append((kind.__name__, facts.get("by", "")))

    def hear(self, *frames: bytes) -> None:
        for frame in frames:
            self.media.on_datagram(bytes(RtpPacket(0, self._frame, self._frame * 160, 5, frame)))
            self.wheel.turn(self.now)
            self._frame += 1
            self.now += 0.02


def loud(*numbers: int) -> list[bytes]:
    return [bytes([number]) * 160 for number in numbers]


def test_both_sides_pass_the_tap_as_they_pass_the_line() -> None:
    line = Line()
    line.hear(*loud(1))
    line.recording.begin(line.media, Law.ULAW)
    line.media.play("i", b"".join(loud(101, 102)))
    line.media.play_end("i")
    line.hear(*loud(2, 3, 4))
    line.recording.end()
    line.hear(*loud(5))
    line.recording.end()
    [block] = line.blocks
    assert block.caller == b"".join(loud(2, 3, 4))
    assert block.agent == b"".join(loud(101, 102)) + SILENCE_FRAME[Law.ULAW]
    assert (block.call_id, block.law, block.at, block.last) == ("call", Law.ULAW, 0, True)
    assert line.media.tap is None


def test_the_pacers_stall_is_time_for_the_tap_too() -> None:
    line = Line()
    line.recording.begin(line.media, Law.ULAW)
    line.hear(*loud(1))
    line.now += 1.0
    line.hear(*loud(2, 3))
    line.recording.end()
    assert abs(sum(len(block.agent) for block in line.blocks) - 1060 * 8) <= 2 * 160


def test_each_party_answers_for_its_own_pause() -> None:
    line, recording = Line(), None
    recording = line.recording
    recording.begin(line.media, Law.ULAW)
    recording.pause("operator")
    with recording.paused("collect_digits"):
        recording.pause("operator")
        recording.resume("nobody")
        recording.resume("operator")
        assert recording.state == "paused"
        line.hear(*loud(1))
    assert recording.state == "on"
    line.hear(*loud(2))
    recording.resume("operator")
    assert line.told == [
        ("RecordingStarted", ""),
        ("RecordingPaused", "operator"),
        ("RecordingResumed", "collect_digits"),
    ]
    recording.end()
    assert b"".join(block.caller for block in line.blocks) == loud(2)[0]


def test_a_pause_before_the_beginning_holds_from_the_beginning_and_over_a_second_stay() -> None:
    line = Line()
    with line.recording.paused("agent"):
        assert line.recording.state == ""
        for _ in range(2):
            line.recording.begin(line.media, Law.ULAW)
            line.hear(*loud(1, 2))
            line.recording.end()
    assert [what for what, _ in line.told] == ["RecordingStarted", "RecordingPaused"] * 2
    assert not any(block.caller or block.agent for block in line.blocks)
    assert len({block.recording_id for block in line.blocks}) == 2


def test_a_call_that_is_not_recorded_may_be_paused_all_the_same() -> None:
    recording = Recording.of_nobody()
    with recording.paused("agent"):
        pass
    recording.end()
    assert not recording.due
