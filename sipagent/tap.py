"""What both sides of a call say, cut into blocks for whoever writes it down (core: frames in, blocks out).

Whose time is a recording's? The play-out's: one frame leaves for the caller every 20 ms, gapless, so what has left is
the clock, and the caller's frames stand where that clock stood when they came. They follow each other without a gap
or an overlap as long as the line does: a frame that is late by jitter waits for nobody, since a block is cut no
further than the caller has come. Only a lasting difference is mended, and only where nobody speaks: a caller's clock
that runs differently from ours, or speech that a stalled line delivered after all, moves by silence left out or put in.
A clean line therefore loses no sample and gains none.

A pause cuts hard. What comes while it lasts is not kept, not even in memory: a block says only how long it was. It
counts as time, so that the recording, the events and the transcript go by one clock, and whoever listens to it hears
that something was left out and for how long.

It holds at most `BLOCK` of audio; what is further along than that has been handed over.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import msgspec

from sipagent.audio import SAMPLE_RATE_HZ, Law, rms

_A_MS = SAMPLE_RATE_HZ // 1000
BLOCK = 800 * _A_MS
"""Samples. Of a worker that is killed less than a second is missing: this, and what was on its way."""
SLACK = 60 * _A_MS
"""A caller who for a whole block was further off than this is off for good; jitter comes and goes."""
ABSENT = 400 * _A_MS
"""A caller so far behind sends nothing: the line would have lent silence by now (`rtp.jitter.MAX_QUIET_S`)."""
FLOOD = 5000 * _A_MS
"""So far ahead of the clock is only somebody who sends more than a second a second."""
QUIET_RMS = 184
"""-45 dB below overload: room noise, where 20 ms more or less are not missed."""


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of a recording, G.711 as it was on the line. Any one of them says what it belongs to."""

    recording_id: str
    call_id: str
    law: Law
    begun_at: float
    """Unix seconds, of the recording."""
    at: int
    """Where it belongs, in samples from the beginning."""
    caller: bytes = b""
    agent: bytes = b""
    """As long as the caller's."""
    paused: int = 0
    """Instead of the two: samples for which nobody was listened to ..."""
    paused_by: str = ""
    """... and at whose wish."""
    lost: int = 0
    """Samples of the caller's that were too many to keep."""
    last: bool = False

    @property
    def samples(self) -> int:
        """Its length in time."""
        return self.paused or len(self.caller)


_BLOCK: msgspec.msgpack.Decoder[Block] = msgspec.msgpack.Decoder(Block)


def encode(block: Block) -> bytes:
    """A block as it goes up the link, and into the journal."""
    return msgspec.msgpack.encode(block)


def decode(message: bytes) -> Block:
    """msgspec.DecodeError for anything else."""
    return _BLOCK.decode(message)


class Tap:
    """One recording's ear on the line. `send` gets each block, in order; the last one says so."""

    def __init__(
        self, call_id: str, recording_id: str, law: Law, begun_at: float, send: Callable[[Block], object]
    ) -> None:
        self._facts = (recording_id, call_id, law, begun_at)
        self._law, self._silence, self._send = law, bytes([law.silence]), send
        self._at = 0  # where the block under way begins
        self._caller, self._agent = bytearray(), bytearray()
        self._paused, self._paused_by = 0, ""
        self._lost = 0
        self._least, self._most = inf, -inf  # how far the caller was ahead in this block
        self._off = 0  # by how much they are off for good

    def caller(self, g711: bytes) -> None:
        """A frame of the caller's has come, or stands for one that has not."""
        if self._paused_by:
            return
        ahead = len(self._caller) - len(self._agent)
        if ahead <= -ABSENT:
            self._caller += self._silence * -ahead
            ahead = 0
        elif ahead >= FLOOD:
            self._lost += len(g711)
            return
        elif self._off and self._settles(g711):
            return
        self._caller += g711
        self._least = min(self._least, ahead)
        self._most = max(self._most, ahead)

    def agent(self, g711: bytes) -> None:
        """A frame has left for the caller, silence included: this is the clock."""
        if self._paused_by:
            self._paused += len(g711)
            if self._paused >= BLOCK:
                self._hand_over()
            return
        self._agent += g711
        if len(self._agent) >= BLOCK:
            caller, agent = len(self._caller), len(self._agent)
            self._hand_over(min(agent, max(caller, agent - ABSENT)))
            self._look()

    def skip(self, milliseconds: int) -> None:
        """Time passed in which nothing could be sent."""
        self.agent(self._silence * (milliseconds * _A_MS))

    def pause(self, by: str) -> None:
        """From this frame on nothing is kept; "" and it goes on."""
        ahead = len(self._caller) - len(self._agent)
        if self._paused > 0 or not self._paused_by:
            self._hand_over()
        # What the caller was ahead by has been written beyond the clock, so the pause is that much shorter.
        self._paused = -max(ahead, 0) if by and not self._paused_by else 0
        self._paused_by = by
        self._least, self._most, self._off = inf, -inf, 0

    def end(self) -> None:
        """Hand over what is left; nothing may follow."""
        self._hand_over(last=True)

    def _settles(self, g711: bytes) -> bool:
        """Mend, if nobody speaks. True: this frame is left out."""
        if rms(g711, self._law) > QUIET_RMS:
            return False
        if self._off < 0:
            self._caller += self._silence * -self._off
            self._off = 0
            return False
        self._off = max(self._off - len(g711), 0)
        return True

    def _look(self) -> None:
        """Was the caller off for the whole of the last block?"""
        if self._least == inf:
            return  # nothing of theirs was written, so this is not over
        if self._least > SLACK:
            self._off = int(self._least)
        else:
            self._off = int(self._most) if self._most < -SLACK else 0
        self._least, self._most = inf, -inf

    def _hand_over(self, samples: int | None = None, *, last: bool = False) -> None:
        """A block of so many samples; without a number all there is, the shorter side filled up."""
        if self._paused_by:
            paused, self._paused = max(self._paused, 0), 0
            block = Block(*self._facts, self._at, paused=paused, paused_by=self._paused_by, last=last)
        else:
            size = max(len(self._caller), len(self._agent)) if samples is None else samples
            caller = bytes(self._caller[:size]).ljust(size, self._silence)
            agent = bytes(self._agent[:size]).ljust(size, self._silence)
            del self._caller[:size], self._agent[:size]
            block = Block(*self._facts, self._at, caller, agent, lost=self._lost, last=last)
            self._lost = 0
        self._at += block.samples
        if block.samples or last:
            self._send(block)
