"""The 20 ms heart: joins one call's RTP to its realtime session, and owns what the caller hears.

Who owns the playout clock? We do: ExternalMedia forwards a packet the moment it comes, so everything
the caller hears (agent, prompts, silence) stands in one queue here and leaves it one frame per turn of
the pacer's wheel. Barge-in is emptying that queue. Towards the model nothing is queued: a caller frame
goes on in the socket callback that brought it, also while the agent speaks.

The queue holds as much as the model sends ahead (it speaks faster than real time), at most
`MAX_QUEUED_MS`; beyond that the oldest is kept and the newest dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sipagent import audio
from sipagent.audio import FRAME_BYTES, PTIME_MS, SAMPLE_RATE_HZ, SILENCE_FRAME, Law
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.session import RtpSession
from sipagent.rtp.transport import RtpSocket

MAX_QUEUED_MS = 5 * 60 * 1000
"""Five minutes of speech in advance: more than any answer, and 2.4 MB."""
VOICED_RMS = 300
"""Of 32768, -41 dBov: above line noise, below soft speech. Only for the latency figure, nobody is gated by it."""
_BYTES_A_MS = SAMPLE_RATE_HZ // 1000


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a barge-in cut: the item under way and how much of it had been sent to the caller."""

    item_id: str
    played_ms: int
    dropped_ms: int


class PlayoutQueue:
    """Audio in any pieces, each belonging to an item; whole 20 ms frames out (core: no clock)."""

    def __init__(self, law: Law) -> None:
        self.item_id = ""
        """The item last heard, also after its end."""
        self.overflow_ms = 0
        self._silence = bytes([law.silence])
        self._pieces: deque[tuple[str, memoryview]] = deque()
        self._queued = 0
        self._played: dict[str, int] = {}
        self._open_item = ""

    @property
    def queued_ms(self) -> int:
        """How much is still to be heard."""
        return self._queued // _BYTES_A_MS

    def put(self, item_id: str, g711: bytes) -> None:
        """Append audio of an item; more of it may follow until `end`."""
        self._open_item = item_id
        room = MAX_QUEUED_MS * _BYTES_A_MS - self._queued
        if len(g711) > room:
            self.overflow_ms += (len(g711) - room) // _BYTES_A_MS
            g711 = g711[:room]
        if g711:
            self._pieces.append((item_id, memoryview(g711)))
            self._queued += len(g711)

    def end(self, item_id: str | None = None) -> None:
        """No more of this item (None: of any): its last frame is filled up with silence instead of waited for."""
        if item_id in {None, self._open_item}:
            self._open_item = ""

    def take_frame(self) -> bytes | None:
        """The next 160 bytes, or None when nothing whole is there."""
        if self._queued < FRAME_BYTES and (self._open_item or not self._queued):
            return None
        out = bytearray()
        while self._pieces and len(out) < FRAME_BYTES:
            item_id, piece = self._pieces.popleft()
            head = piece[: FRAME_BYTES - len(out)]
            out += head
            if len(head) < len(piece):
                self._pieces.appendleft((item_id, piece[len(head) :]))
            if item_id != self.item_id:
                self.item_id = item_id
                self._played = {item_id: 0}
            self._played[item_id] += len(head)
            self._queued -= len(head)
        return bytes(out.ljust(FRAME_BYTES, self._silence))

    def flush(self) -> Flushed | None:
        """Throw away what has not been heard; None when there was nothing."""
        if not self._queued and not self._open_item:
            return None
        item_id = self._pieces[0][0] if self._pieces else self._open_item
        flushed = Flushed(item_id, self._played.get(item_id, 0) // _BYTES_A_MS, self.queued_ms)
        self._pieces.clear()
        self._queued, self._open_item = 0, ""
        return flushed


class MediaBridge:
    """One call's audio: the caller's frames to `to_model`, the queue's frames to the caller.

    `on_talk(item_id)` is called when the first frame of a talkspurt has left, `on_quiet()` when the
    queue ran empty; both from the pacer, so they must only take note. `clock` gives monotonic seconds.
    """

    def __init__(self, law: Law, rtp: RtpSession, wheel: Wheel, clock: Callable[[], float]) -> None:
        self.rtp = rtp
        self.queue = PlayoutQueue(law)
        self.to_model: Callable[[bytes], object] | None = None
        self.on_talk: Callable[[str], None] = lambda _item_id: None
        self.on_quiet: Callable[[], None] = lambda: None
        self.caller_voiced_at: float | None = None
        """When the last voiced frame of the caller came in; None before the first."""
        self._law = law
        self._clock = clock
        self._silence = SILENCE_FRAME[law]
        self._wheel = wheel
        self._socket: RtpSocket | None = None
        self._talking = False

    @property
    def talking(self) -> bool:
        """Something is being played, or is there to be played."""
        return self._talking or self.queue.queued_ms > 0

    def start(self, socket: RtpSocket, remote: tuple[str, int]) -> None:
        """Send silence at once, so that Asterisk's strict RTP locks on to us, then a frame every 20 ms."""
        self._socket = socket
        self.rtp.latch(remote)
        self.send_frame()
        self._wheel.add(self)

    def stop(self) -> None:
        """Nothing more is sent; twice is fine."""
        self._wheel.remove(self)
        self._socket = None

    def on_datagram(self, datagram: memoryview, source: tuple[str, int]) -> None:
        """From the socket's callback: a caller frame is at the model's socket when this returns."""
        payload = self.rtp.receive(datagram, source)
        if payload is None:
            return
        if self.to_model is not None:
            self.to_model(payload)
        if audio.rms(payload, self._law) > VOICED_RMS:
            self.caller_voiced_at = self._clock()

    def play(self, item_id: str, g711: bytes) -> None:
        """Queue audio; a new talkspurt leaves within one slot of the wheel."""
        self.queue.put(item_id, g711)
        if not self._talking and self.queue.queued_ms >= PTIME_MS:
            self._wheel.talk(self)

    def play_end(self, item_id: str | None = None) -> None:
        """The item is whole; None: whatever was under way is."""
        self.queue.end(item_id)

    def flush(self) -> Flushed | None:
        """Barge-in: silence from the very next frame."""
        return self.queue.flush()

    def send_frame(self) -> bool:
        """From the wheel, once a turn: a frame of speech (True) or of silence (False)."""
        socket, remote = self._socket, self.rtp.remote
        if socket is None or remote is None:
            return False
        frame = self.queue.take_frame()
        if frame is None:
            socket.send(self.rtp.send(self._silence), remote)
            if self._talking:
                self._talking = False
                self.on_quiet()
            return False
        starts = not self._talking
        socket.send(self.rtp.send(frame, marker=starts), remote)
        if starts:
            self._talking = True
            self.on_talk(self.queue.item_id)
        return True
