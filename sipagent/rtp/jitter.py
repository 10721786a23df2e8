"""The caller's packets made an even timeline (core: datagrams and `now` in, payloads out).

The model counts samples, not seconds: what it is not sent has not happened for it. So every 20 ms of the
call must reach it once and in order, and nothing may wait that need not. A packet that follows its
predecessor passes in the call that brought it. Behind a hole packets wait up to `order_buffer_ms` for
what is missing, then the hole is filled. When nothing comes at all, silence is lent to the timeline at the
pace of time; the next packet's timestamp tells what that was. A pause (the phone sends nothing while
nobody speaks): the timestamp has stepped over it, the loan is paid and the rest of the step filled. A
stalled line: the speech comes after all and is passed whole, and the silence in the middle of it stays,
counted as `inserted`.

What Asterisk 22 sends here (found by running it): the caller's own packets, at once, in whatever order and
size they came, also twice; never a marker, never comfort noise or digits (their numbers stay free); one
SSRC for the whole call. Holes in the caller's sequence stay holes up to 100 numbers; a longer one, a
change of SSRC and a loss just where the caller's numbers wrap arrive as the next number, with only the
timestamp stepping. So the number tells what is missing, and the timestamp how much time that was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import NamedTuple

from sipagent import native
from sipagent.audio import FRAME_BYTES, PTIME_MS, SAMPLE_RATE_HZ, SILENCE_FRAME, Law
from sipagent.rtp import concealment
from sipagent.rtp.packet import HEADER_BYTES, PT_COMFORT_NOISE, parse, seq_delta, ts_delta

RESYNC_PACKETS = 100
"""A number further off than this is another stream (RFC 3550, A.1), if the one after it agrees. Asterisk's limit."""
RESYNC_S = 1.0
"""A timestamp that is further from the clock than this was set anew: no network delays so unevenly."""
QUIET_S = 0.08
"""A packet so late (beyond its 20 ms) makes a tick suspicious; the next tick believes it and lends all the silence
that is owed, 100 to 120 ms after the packet was due. Less would cut into speech whenever a line or a busy machine
hesitates; more is not needed: a voice detector waits 200 ms or longer before the caller has finished."""
MAX_QUIET_S = 0.2
"""A line that stalls now and then is given more time, up to this much."""
LESS_PATIENCE = 0.8
SHORTEST_WAIT_S = 0.01
"""A line that only loses and never reorders: seven holes waited for in vain, and the next ones are filled at once."""
MAX_LENT_A_TICK = 10
"""Frames. A tick lends at most this, so that a worker that slept does not send a minute at once."""

_TICK_S = PTIME_MS / 1000
_SAMPLE_S = 1 / SAMPLE_RATE_HZ
_RESYNC_TICKS = int(RESYNC_S * SAMPLE_RATE_HZ)
_JITTER_GAIN = 1 / 16  # RFC 3550, A.8
_PLAIN_HEAD = 0x8000  # version 2, no padding, extension, CSRC, marker
_NEXT_NUMBER = 1 << 32
_NOT_PLAIN = -1  # no SSRC


@dataclass
class Counters:
    """What came and what went. Every datagram received adds to exactly one of the first eight."""

    received: int = 0
    """Passed on (or waiting to be)."""
    comfort_noise: int = 0
    """RFC 3389: a pause in other words."""
    duplicate: int = 0
    """Came before."""
    late: int = 0
    """Came after its place had been filled; was counted as lost until then."""
    stray: int = 0
    """One packet of a stream that was not heard of again: another SSRC, a number far off."""
    wrong_payload_type: int = 0
    malformed: int = 0
    foreign: int = 0
    """From another address than Asterisk's."""

    lost: int = 0
    """Numbers that never came, their time filled."""
    loss_runs: int = 0
    """Holes that `lost` makes: lost / loss_runs is the mean length of a burst."""
    skipped: int = 0
    """Numbers that bore no audio (Asterisk keeps comfort noise and digits to itself, their numbers stay free)."""
    reordered: int = 0
    """Of `received`: came after a later one and was put in its place."""
    resynced: int = 0
    """New streams, or timestamps set anew."""
    concealed_ticks: int = 0
    """Lost time filled with the last frame again, softer."""
    muted_ticks: int = 0
    """Lost time filled with silence."""
    paused_ticks: int = 0
    """Time for which the caller's phone sent nothing, filled with silence."""
    inserted_ticks: int = 0
    """Silence more than the caller's own timeline has: lent while the line stood still."""
    sent: int = 0

    @property
    def expected(self) -> int:
        """Packets with audio that we know to have been sent to us."""
        return self.received + self.lost + self.late

    def as_dict(self) -> dict[str, int]:
        """For events and logs; ticks (1/8000 s) as milliseconds."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name.replace("_ticks", "_ms"): value // 8 if name.endswith("_ticks") else value
            for name, value in values.items()
        }


class _Arrived(NamedTuple):
    """A packet of ours with its time; no payload for comfort noise."""

    ssrc: int
    number: int
    timestamp: int
    payload: bytes
    at: float
    quiet_s: float = 0.0
    """How long after it was expected anything came."""


class Timeline:
    """One direction of one call. `take` for each datagram of Asterisk's, `tick` every 20 ms."""

    def __init__(self, payload_type: int, counters: Counters, order_buffer_ms: int) -> None:
        self.counters = counters
        self._payload_type = payload_type
        self._law = next(law for law in Law if law.payload_type == payload_type)
        # What the next plain packet starts with, and its SSRC; _NOT_PLAIN while packets wait or silence is lent.
        self._expected, self._expected_ssrc = 0, _NOT_PLAIN
        self._ssrc = 0
        self._last = SILENCE_FRAME[self._law]
        self._jitter_s = 0.0
        self._due = inf  # when the next packet should come: one packet's length after the last one came
        # The three below stand only while there is nothing `_expected`; `_halt` and `_go_on` change over.
        self._next_number = self._next_ts = 0
        self._due_ts = 0  # the timestamp that is expected at `_due`
        self._waiting: list[_Arrived] = []  # in order of their numbers, none of them the next one
        self._order_buffer_s = self._patience_s = order_buffer_ms / 1000
        self._given_up: dict[int, bool] = {}  # numbers that were not waited for longer; True: counted as lost
        self._stray: _Arrived | None = None
        self._lent = 0  # ticks of silence since the last packet
        self._quiet_s = QUIET_S
        self._suspected = (inf, inf)  # the due time that was missed, when the first tick saw it

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter (RFC 3550, 6.4.1 and A.8)."""
        return self._jitter_s * 1000

    def take(self, datagram: bytes, now: float) -> Sequence[bytes]:
        """One datagram in; what the model is to hear now, in order.

        This is the hot path, 50 times a second and call: a packet that differs from its predecessor only as
        it must is known by one comparison. All else, the two wrap-arounds too, goes the long way.
        """
        size = len(datagram)
        if size > HEADER_BYTES:
            head = native.rtp_head(datagram)
            if head == self._expected and native.rtp_ssrc(datagram) == self._expected_ssrc:
                off_s = now - self._due
                self._jitter_s += ((off_s if off_s > 0.0 else -off_s) - self._jitter_s) * _JITTER_GAIN
                self._due = now + (size - HEADER_BYTES) * _SAMPLE_S
                self._expected = head + _NEXT_NUMBER + (size - HEADER_BYTES)
                self._last = payload = datagram[HEADER_BYTES:]
                self.counters.received += 1
                return (payload,)
        return self._take_unusual(datagram, now)

    def tick(self, now: float) -> Sequence[bytes]:
        """What time releases: packets that have waited long enough, silence for what does not come."""
        if now - self._due < self._quiet_s and not self._waiting:
            return ()
        if self._waiting:
            # Give up what the next tick would find overdue, so that nothing waits longer than it may.
            frames = self._release(now + _TICK_S)
            self._go_on()
            return frames
        return self._lend(now)

    # --- the long way

    def _take_unusual(self, datagram: bytes, now: float) -> Sequence[bytes]:
        packet = parse(datagram)
        if packet is None:
            self.counters.malformed += 1
            return ()
        noise = packet.payload_type == PT_COMFORT_NOISE
        if not noise and packet.payload_type != self._payload_type:
            self.counters.wrong_payload_type += 1
            return ()
        if not packet.payload:
            self.counters.malformed += 1
            return ()
        payload = b"" if noise else packet.payload
        arrived = _Arrived(packet.ssrc, packet.sequence_number, packet.timestamp, payload, now)
        self._halt()
        if self._due == inf:
            self._begin(arrived)
        frames = self._place(arrived)
        self._go_on()
        return frames

    def _halt(self) -> None:
        """Read number and timestamp out of `_expected`; wrap-arounds have run over into its upper fields."""
        if self._expected_ssrc != _NOT_PLAIN:
            before = self._expected - _NEXT_NUMBER - len(self._last)
            self._next_number = ((before >> 32) + 1) & 0xFFFF
            self._next_ts = self._due_ts = (before + len(self._last)) & 0xFFFF_FFFF
            self._expected_ssrc = _NOT_PLAIN

    def _go_on(self) -> None:
        """The short way again, if there is nothing to watch for."""
        if not self._waiting and not self._lent:
            # After a packet out of order the next one is not due behind it, but behind the last one in order.
            further = ts_delta(self._next_ts, self._due_ts)
            if abs(further) <= _RESYNC_TICKS:
                self._due += further * _SAMPLE_S
            head = (_PLAIN_HEAD | self._payload_type) << 16 | (self._next_number - 1) & 0xFFFF
            before = head << 32 | (self._next_ts - len(self._last)) & 0xFFFF_FFFF
            self._expected, self._expected_ssrc = before + _NEXT_NUMBER + len(self._last), self._ssrc

    def _begin(self, first: _Arrived) -> None:
        """A stream's first packet. What was sent before it may still come, and is late."""
        self._ssrc, self._next_number, self._next_ts = first.ssrc, first.number, first.timestamp
        self._due, self._due_ts = first.at, first.timestamp
        self._given_up = {(first.number - n) & 0xFFFF: False for n in range(RESYNC_PACKETS, 0, -1)}
        self._lent = 0
        self._stray = None

    def _place(self, packet: _Arrived) -> Sequence[bytes]:
        counters = self.counters
        ahead = seq_delta(packet.number, self._next_number)
        step = ts_delta(packet.timestamp, self._next_ts)
        if packet.ssrc != self._ssrc or abs(ahead) > RESYNC_PACKETS or ahead < 0 <= step:
            return self._doubt(packet)
        if ahead < 0:
            if packet.number in self._given_up:
                counters.late += 1
                counters.lost -= self._given_up.pop(packet.number)
                self._patience_s = self._order_buffer_s
            else:
                counters.duplicate += 1
            return ()
        if any(packet.number == other.number for other in self._waiting):
            counters.duplicate += 1
            return ()
        if not ahead and -_RESYNC_TICKS <= step < -len(self._last):
            # Older than what has passed, though it has the next number: reordered where the caller's numbers wrap.
            counters.late += 1
            self._next_number = (self._next_number + 1) & 0xFFFF
            return self._release(packet.at)
        if packet.payload:
            counters.received += 1
        else:
            counters.comfort_noise += 1
        self._waiting.append(self._time(packet))
        if ahead < max(seq_delta(other.number, self._next_number) for other in self._waiting):
            self._waiting.sort(key=lambda other: seq_delta(other.number, self._next_number))
            counters.reordered += 1
            self._patience_s = self._order_buffer_s
        return self._release(packet.at)

    def _time(self, packet: _Arrived) -> _Arrived:
        """Jitter (RFC 3550, A.8: between any two packets as they arrive), and when the next one is due."""
        quiet_s = packet.at - self._due
        off_s = abs(quiet_s - ts_delta(packet.timestamp, self._due_ts) * _SAMPLE_S)
        if off_s < RESYNC_S:
            self._jitter_s += (off_s - self._jitter_s) * _JITTER_GAIN
        self._due = packet.at + len(packet.payload) * _SAMPLE_S
        self._due_ts = (packet.timestamp + len(packet.payload)) & 0xFFFF_FFFF
        return packet._replace(quiet_s=quiet_s)

    def _doubt(self, packet: _Arrived) -> Sequence[bytes]:
        """Another SSRC or a number far off: a new stream if the next packet agrees, else one packet gone astray.

        RFC 3550, A.1; but the first packet is kept, so that nothing of the new stream is missing.
        """
        first, self._stray = self._stray, packet
        self.counters.stray += 1
        if not first or first.ssrc != packet.ssrc or seq_delta(packet.number, first.number) != 1:
            return ()
        if packet.at - first.at > RESYNC_S:
            return ()
        self.counters.stray -= 2
        self.counters.resynced += 1
        frames = list(self._release(inf))
        self._begin(first)
        return [*frames, *self._place(first), *self._place(packet)]

    def _release(self, by: float) -> Sequence[bytes]:
        """Everything up to the first hole that is still worth waiting for at `by`."""
        frames: list[bytes] = []
        while self._waiting:
            first = self._waiting[0]
            missing = seq_delta(first.number, self._next_number)
            step = ts_delta(first.timestamp, self._next_ts)
            # A step longer than the missing packets holds a pause, and a number without any bore no audio.
            lost = missing > 0 and 0 < step <= missing * max(len(self._last), FRAME_BYTES)
            if lost:
                if by < min(other.at for other in self._waiting) + self._patience_s:
                    break
                # Who waits in vain waits less the next time, until a packet does come out of order.
                less_s = self._patience_s * LESS_PATIENCE
                self._patience_s = less_s if less_s >= SHORTEST_WAIT_S else 0.0
            del self._waiting[0]
            self._give_up(missing, lost=lost)
            frames += self._pass(first, step, lost=lost)
        return frames

    def _give_up(self, missing: int, *, lost: bool) -> None:
        if not missing:
            return
        if lost:
            self.counters.lost += missing
            self.counters.loss_runs += 1
        else:
            self.counters.skipped += missing
        for n in range(missing):
            self._given_up[(self._next_number + n) & 0xFFFF] = lost
        while len(self._given_up) > RESYNC_PACKETS:
            del self._given_up[next(iter(self._given_up))]

    def _pass(self, packet: _Arrived, step: int, *, lost: bool) -> list[bytes]:
        """What fills the step before a packet, and the packet."""
        if step < -_RESYNC_TICKS or step * _SAMPLE_S > packet.quiet_s + RESYNC_S:
            # The timestamps were set anew (the caller's SSRC changed): the time between is what was lent meanwhile.
            self.counters.resynced += 1
            step = self._lent
        if self._lent:
            self._learn(packet.quiet_s, stalled=step < self._lent)
        frames = self._fill(step, lost=lost) if step > 0 else []
        self._lent = 0
        self._next_number = (packet.number + 1) & 0xFFFF
        self._next_ts = (packet.timestamp + len(packet.payload)) & 0xFFFF_FFFF
        if packet.payload:
            self._last = packet.payload
            frames.append(packet.payload)
        return frames

    def _fill(self, step: int, *, lost: bool) -> list[bytes]:
        """What was lent is part of it; after silence there is nothing to repeat."""
        counters = self.counters
        paid = min(self._lent, step)
        counters.inserted_ticks -= paid
        frames = concealment.repeat(self._last, self._law, step) if lost and not paid else []
        repeated = sum(map(len, frames))
        rest = step - paid - repeated
        counters.concealed_ticks += repeated
        if lost:
            counters.muted_ticks += rest + paid
        else:
            counters.paused_ticks += rest + paid
        return frames + concealment.silence(self._law, rest)

    # --- when nothing comes

    def _lend(self, now: float) -> Sequence[bytes]:
        if self._suspected[0] != self._due:
            self._suspected = (self._due, now)
            return ()
        if now - self._suspected[1] < _TICK_S / 2:
            return ()  # two ticks in one turn: it is we who were late, and the packets may lie in the socket
        owed = int((now - self._due) / _TICK_S) - self._lent // FRAME_BYTES
        frames = [SILENCE_FRAME[self._law]] * min(owed, MAX_LENT_A_TICK)
        ticks = len(frames) * FRAME_BYTES
        self._halt()
        self._lent += ticks
        self.counters.inserted_ticks += ticks
        return frames

    def _learn(self, quiet_s: float, *, stalled: bool) -> None:
        """Speech after a stall: be slower to lend. After a real pause: be quicker again."""
        if stalled:
            self._quiet_s = min(max(quiet_s, self._quiet_s), MAX_QUIET_S)
        else:
            self._quiet_s = (self._quiet_s + QUIET_S) / 2
