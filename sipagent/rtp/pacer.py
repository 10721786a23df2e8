"""The playout clock (core): a wheel of ten 2 ms slots, one turn of it is one frame.

ExternalMedia has neither clock nor jitter buffer, so the moment we send is the moment the caller
hears. Each stream sits in one slot and is asked for one frame a turn, for as long as it is up: silence
between talkspurts keeps Asterisk's strict RTP on us. When a talkspurt starts, the stream hops to the
next slot, so that its first frame waits at most 2 ms instead of up to 20; when it ends the stream goes
home and waits for its place on the home grid, which gives back what the hop had taken. So it is never
more than one frame ahead, and over a call it does not drift.

Time is an argument. A late tick runs the slots it missed, but no slot twice: what is still owed follows
with the next ticks, so no call gets two frames at once. At most two turns are owed (two frames a call);
beyond that the timeline moves, counted in `shifted_ms`. An empty wheel needs no ticks: `on_first` tells when
it has something to turn again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sipagent.meter import Meter

SLOT_MS = 2
SLOTS = 10
CATCH_UP_SLOTS = 2 * SLOTS
_SLOT_S = SLOT_MS / 1000


class Stream(Protocol):
    """What the wheel turns: once a turn it sends one frame."""

    def send_frame(self) -> bool:
        """Send one 20 ms frame now; True while a talkspurt goes on, False for silence."""


class _Seat:
    __slots__ = ("due", "home", "hop", "slot", "stream")

    def __init__(self, stream: Stream, due: int) -> None:
        self.stream = stream
        self.due = due  # where on the home grid the next frame belongs; grows by one turn a frame
        self.home = self.slot = due % SLOTS
        self.hop = False  # in a talkspurt, so ahead of `due` by less than one turn


class Wheel:
    """All streams of one worker. `turn(now)` is called by a timer about every 2 ms."""

    def __init__(self, now: float) -> None:
        self.shifted_ms = 0
        self.lateness = Meter(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)
        """Of each tick with something to send, against the oldest slot that was due."""
        self.on_first: Callable[[], None] | None = None
        """A stream is about to join an empty wheel; call `resume`, and have the ticks begin when it says."""
        self._epoch = now
        self._position = 0  # the next slot number to run, counted from the epoch
        self._slots: list[dict[Stream, _Seat]] = [{} for _ in range(SLOTS)]
        self._seats: dict[Stream, _Seat] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def add(self, stream: Stream) -> None:
        """Start a stream in the emptiest slot, so that a tick's work stays even."""
        if not self._seats and self.on_first:
            self.on_first()
        ahead = min(range(SLOTS), key=lambda i: len(self._slots[(self._position + i) % SLOTS]))
        seat = self._seats[stream] = _Seat(stream, self._position + ahead)
        self._slots[seat.slot][stream] = seat

    def remove(self, stream: Stream) -> None:
        """Stop a stream; one that is not there is no error."""
        if seat := self._seats.pop(stream, None):
            self._slots[seat.slot].pop(stream, None)

    def talk(self, stream: Stream) -> None:
        """A talkspurt begins: its first frame goes out with the next slot (never two frames ahead)."""
        if (seat := self._seats.get(stream)) and not seat.hop:
            seat.hop = True
            self._move(seat, max(self._position, seat.due - SLOTS + 1) % SLOTS)

    def resume(self, now: float) -> float:
        """The empty wheel stood still until `now` (monotonic seconds); nobody missed anything.

        Returns when the next slot is due. The ticks belong there: one that comes late in its slot would now and then
        come so late that it takes the next one with it, whose frames would leave 2 ms early.
        """
        self._position = max(self._position, self._due(now))
        return self._epoch + self._position * _SLOT_S

    def _due(self, now: float) -> int:
        return int((now - self._epoch) * 1000 / SLOT_MS) + 1  # slots 0..due-1 have come

    def turn(self, now: float) -> None:
        """Run the slots that are due at `now` (monotonic seconds), at most one turn of them."""
        due = self._due(now)
        if due - self._position > CATCH_UP_SLOTS:
            skipped = due - self._position - CATCH_UP_SLOTS
            self.shifted_ms += skipped * SLOT_MS
            # The clock is set back rather than the position forward, so nobody's slot changes.
            self._epoch += skipped * SLOT_MS / 1000
            due -= skipped
        if self._seats and due > self._position:
            self.lateness.observe(now - self._epoch - self._position * _SLOT_S)
        end = min(due, self._position + SLOTS)
        while self._position < end:
            position = self._position
            self._position += 1
            if slot := self._slots[position % SLOTS]:
                for seat in list(slot.values()):
                    if seat.hop or position >= seat.due:
                        self._run(seat)

    def _run(self, seat: _Seat) -> None:
        seat.due += SLOTS
        if not seat.stream.send_frame() and seat.hop and seat.stream in self._seats:
            seat.hop = False
            self._move(seat, seat.home)

    def _move(self, seat: _Seat, slot: int) -> None:
        del self._slots[seat.slot][seat.stream]
        seat.slot = slot
        self._slots[slot][seat.stream] = seat
