"""The 20 ms heart: joins one call's RTP to its realtime session, and owns what the caller hears.

Who owns the playout clock? We do: ExternalMedia forwards a packet the moment it comes, so everything
the caller hears (agent, prompts, silence) stands in one queue here and leaves it one frame per turn of
the pacer's wheel. Barge-in is holding that queue, then emptying it (or letting it run on: `barge_in`
decides). Towards the model nothing is queued: a caller frame goes on in the socket callback that brought
it, also while the agent speaks.

The queue holds as much as the model sends ahead (it speaks faster than real time), at most
`MAX_QUEUED_MS`; beyond that the oldest is kept and the newest dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sipagent.audio import FRAME_BYTES, PTIME_MS, SAMPLE_RATE_HZ, SILENCE_FRAME, Law
from sipagent.barge_in import BargeIn, Verdict
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.session import RtpSession
from sipagent.rtp.transport import RtpSocket
from sipagent.tap import Tap

MAX_QUEUED_MS = 5 * 60 * 1000
"""Five minutes of speech in advance: more than any answer, and 2.4 MB."""
STILL_SPEAKING_S = 1.0
"""The model's word on the caller's speech comes at most this long after it; later it is about something else."""
LOOP = "loop:"
"""The item that is played again when everything has been."""
_BYTES_A_MS = SAMPLE_RATE_HZ // 1000


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a barge-in cut: the item under way and how much of it had been sent to the caller."""

    item_id: str
    played_ms: int
    dropped_ms: int
    dropped_of_item_ms: int = 0
    """Of that item alone; behind it others may have been queued."""


class PlayoutQueue:
    """Audio in any pieces, each belonging to an item; whole 20 ms frames out (core: no clock)."""

    def __init__(self, law: Law) -> None:
        self.item_id = ""
        """The item last heard, also after its end."""
        self.overflow_ms = 0
        self._silence = bytes([law.silence])
        self._pieces: deque[tuple[str, bytes]] = deque()
        self._taken = 0
        """Of the first piece."""
        self._queued = 0
        self._played = 0
        """Of the item last heard."""
        self._open_item = ""

    @property
    def queued_ms(self) -> int:
        """How much is still to be heard."""
        return self._queued // _BYTES_A_MS

    @property
    def ready(self) -> bool:
        """There is a frame: a whole one, or the rest of an item that is over."""
        return self._queued >= FRAME_BYTES or bool(self._queued and not self._open_item)

    def put(self, item_id: str, g711: bytes) -> None:
        """Append audio of an item; more of it may follow until `end`."""
        self._open_item = item_id
        room = MAX_QUEUED_MS * _BYTES_A_MS - self._queued
        if len(g711) > room:
            self.overflow_ms += (len(g711) - room) // _BYTES_A_MS
            g711 = g711[:room]
        if g711:
            self._pieces.append((item_id, g711))
            self._queued += len(g711)

    def holds(self, item_id: str) -> bool:
        """Something of this item is still to be heard."""
        return any(of == item_id for of, _ in self._pieces)

    def end(self, item_id: str | None = None) -> None:
        """No more of this item (None: of any): its last frame is filled up with silence instead of waited for."""
        if item_id in {None, self._open_item}:
            self._open_item = ""

    def take_frame(self) -> bytes | None:
        """The next 160 bytes, or None when nothing whole is there."""
        queued = self._queued
        if queued < FRAME_BYTES and (self._open_item or not queued):
            return None
        frame = self._head(FRAME_BYTES)
        if len(frame) == FRAME_BYTES:  # nearly always
            return frame
        while len(frame) < FRAME_BYTES and self._pieces:
            frame += self._head(FRAME_BYTES - len(frame))
        return frame.ljust(FRAME_BYTES, self._silence)

    def _head(self, most: int) -> bytes:
        """What comes next, of one piece."""
        item_id, piece = self._pieces[0]
        at = self._taken
        head = piece[at : at + most]
        length = len(head)
        if at + length == len(piece):
            self._pieces.popleft()
            self._taken = 0
        else:
            self._taken = at + length
        if item_id != self.item_id:
            self.item_id, self._played = item_id, 0
        self._played += length
        self._queued -= length
        return head

    def flush(self) -> Flushed | None:
        """Throw away what has not been heard; None when there was nothing."""
        if not self._queued and not self._open_item:
            return None
        item_id = self._pieces[0][0] if self._pieces else self._open_item
        of_item = sum(len(piece) for owner, piece in self._pieces if owner == item_id) - self._taken
        played_ms = (self._played if item_id == self.item_id else 0) // _BYTES_A_MS
        flushed = Flushed(item_id, played_ms, self.queued_ms, of_item // _BYTES_A_MS)
        self._pieces.clear()
        self._queued, self._taken, self._open_item = 0, 0, ""
        return flushed


class MediaBridge:
    """One call's audio: the caller's frames to `to_model`, the queue's frames to the caller.

    Its owner sets the callbacks; they run in the pacer or in the socket's reader, so they must only take
    note. `clock` gives monotonic seconds.
    """

    def __init__(self, law: Law, rtp: RtpSession, wheel: Wheel, barge_in: BargeIn, clock: Callable[[], float]) -> None:
        self.rtp = rtp
        self.queue = PlayoutQueue(law)
        self.barge_in = barge_in
        self.interruptible = True
        """False for words that must be heard to their end."""
        self.sealed = 0
        """How many sounds of the room's are under way: the caller cannot cut them, and nobody is told of them."""
        self.loop = b""
        """One of those, played again whenever everything has been."""
        self.held = False
        """The caller has put us on hold: what was to be heard waits for them."""
        self.to_model: Callable[[bytes], object] | None = None
        self.tap: Tap | None = None
        """Hears what is recorded: both sides, as they pass."""
        self.on_talk: Callable[[str], None] | None = None
        """The first voiced frame of a talkspurt has left (its item)."""
        self.on_quiet: Callable[[], None] | None = None
        """The queue ran empty."""
        self.on_cut: Callable[[], None] | None = None
        """The caller speaks over the agent, says our own detector."""
        self.on_resume: Callable[[int], None] | None = None
        """It was nothing; the agent had paused for so many milliseconds and goes on."""
        self.spurt_at = 0.0
        """When the first frame of the talkspurt left, voiced or not."""
        self.agent_voiced_at = 0.0
        """When the last voiced frame of the agent left."""
        self._clock = clock
        self._silence = SILENCE_FRAME[law]
        self._wheel = wheel
        self._shifted_ms = wheel.shifted_ms
        self._socket: RtpSocket | None = None
        self._talking = False  # in a talkspurt, a pause of it included
        self._sounding = False  # the last frame that left was of the agent
        self._told = False  # on_talk, of this talkspurt

    @property
    def talking(self) -> bool:
        """Something is being played, or is there to be played."""
        return self._talking or self.queue.ready

    @property
    def breakable(self) -> bool:
        """Who speaks over it ends what is played."""
        return self.interruptible and not self.sealed

    def start(self, socket: RtpSocket, remote: tuple[str, int]) -> None:
        """Send silence at once, so that Asterisk's strict RTP locks on to us, then a frame every 20 ms."""
        self._socket = socket
        socket.connect(remote)
        self.send_frame()
        self._wheel.add(self)

    def detach(self) -> None:
        """The socket goes, and perhaps another one comes (`start`); what is queued waits for it. Twice is fine."""
        self._wheel.remove(self)
        if self._socket is not None:
            self.rtp.counters.foreign += self._socket.foreign
        self._socket = None

    def stop(self) -> None:
        """Nothing more is sent or told; twice is fine. Lets go of everybody, so that nothing is left to collect."""
        self.detach()
        self.to_model, self.loop = None, b""
        self.on_talk = self.on_quiet = self.on_cut = self.on_resume = None

    # --- from the caller

    def on_datagram(self, datagram: bytes) -> None:
        """From the socket's callback: a caller frame is at the model's socket when this returns."""
        now = self._clock()
        for payload in self.rtp.timeline.take(datagram, now):
            self._from_caller(payload, now)

    def _from_caller(self, payload: bytes, now: float) -> None:
        if self.to_model is not None:
            self.to_model(payload)
        if self.tap is not None:
            self.tap.caller(payload)
        paused_at = self.barge_in.paused_at
        verdict = self.barge_in.caller(payload, now, talking=self._talking and self.interruptible and not self.sealed)
        if verdict is None:
            return
        if verdict is Verdict.CUT and self.on_cut:
            self.on_cut()
        elif verdict is Verdict.RESUME and self.on_resume:
            self.on_resume(round((now - (paused_at or now)) * 1000))

    # --- to the caller

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
        self.barge_in.settle()
        return self.queue.flush()

    def give_way(self) -> None:
        """What is played ends with the frame under way, and what comes next is a talkspurt of its own."""
        self.flush()
        self._talking = self._told = False

    def stop_ms(self) -> float | None:
        """How long the caller has been speaking when the agent's last voiced frame left: what barge-in costs them.

        None when our detector did not hear the caller (the model did). 0 when the agent happened to be silent.
        """
        heard = self.barge_in
        if heard.onset_at is None or heard.voiced_at is None or self._clock() - heard.voiced_at > STILL_SPEAKING_S:
            return None
        return round(max(self.agent_voiced_at - max(heard.onset_at, self.spurt_at), 0.0) * 1000, 1)

    def send_frame(self) -> bool:
        """From the wheel, once a turn: a frame of speech (True) or of silence (False)."""
        socket = self._socket
        if socket is None:
            return False
        now = self._clock()
        for payload in self.rtp.timeline.tick(now):
            self._from_caller(payload, now)
        if self._wheel.shifted_ms != self._shifted_ms:
            # Time passed in which nothing could be sent: the far end's clock has moved on, so has ours.
            self.rtp.skip(self._wheel.shifted_ms - self._shifted_ms)
            if self.tap is not None:
                self.tap.skip(self._wheel.shifted_ms - self._shifted_ms)
            self._shifted_ms = self._wheel.shifted_ms
        paused = self.held or self.barge_in.paused_at is not None
        frame = None if paused else self.queue.take_frame()
        if self.tap is not None:
            self.tap.agent(frame or self._silence)
        if frame is None:
            socket.send(self.rtp.send(self._silence))
            self.barge_in.silence(self._silence)
            self._sounding = False
            if self._talking and not paused:
                self._talking = self._told = False
                if self.loop:
                    self.play(LOOP, self.loop)
                    self.play_end(LOOP)
                elif self.on_quiet and not self.sealed:
                    self.on_quiet()
            return self._talking
        socket.send(self.rtp.send(frame, marker=not self._sounding))
        self._sounding = True
        if not self._talking:
            self._talking, self.spurt_at = True, now
        if self.barge_in.agent(frame):
            self.agent_voiced_at = now
            if not self._told and not self.sealed:
                self._told = True
                if self.on_talk:
                    self.on_talk(self.queue.item_id)
        return True
