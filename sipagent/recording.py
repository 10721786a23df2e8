"""A call's recording as the call knows it: wanted or not, announced or not, on, paused (thin: it names and notes).

Whoever hears something that must not be written says so here, by `pause` and `resume` or for the length of a block::

    with room.recording.paused(COLLECTING):
        ...

Each party answers for its own pause: it goes on when the last of them has let go. All of it may be called of a call
that is not recorded, and does nothing then, or is kept for when it is.

One recording is one stay with us in one room. A caller who comes back from a queue gets a second one, without a second
announcement; once anything of a call is recorded, all of its stays are.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import time
from collections.abc import Callable, Iterator

from sipagent import model, tap
from sipagent.audio import Law
from sipagent.media import MediaBridge
from sipagent.tap import Tap

COLLECTING = "collect_digits"
"""Who pauses it while keys are collected."""


class Recording:
    """One call's. `begin` and `end` are the room's, `pause` and `resume` everybody's."""

    def __init__(self, call_id: str, emit: Callable[..., None], send: Callable[[bytes], object]) -> None:
        """`emit(kind of CallEvent, **its facts)`; `send` takes the blocks to whoever writes them, and never waits."""
        self.wanted = False
        """A route or an agent says that this call is recorded."""
        self.announced = False
        """The caller has been told."""
        self.announcing = False
        """They are being told."""
        self._call_id, self._emit, self._send = call_id, emit, send
        self._pausing: dict[str, None] = {}  # in the order they came
        self._id = ""
        self._media: MediaBridge | None = None
        self._tap: Tap | None = None

    @classmethod
    def of_nobody(cls) -> Recording:
        """For a room that is never recorded."""
        return cls("", lambda *_, **__: None, lambda _message: None)

    @property
    def due(self) -> bool:
        """It should be on and is not yet."""
        return self.wanted and self._tap is None and not self.announcing

    @property
    def paused_by(self) -> tuple[str, ...]:
        """Who has something against it, and would have against another worker's as well: keys go with who collects."""
        return tuple(by for by in self._pausing if by != COLLECTING)

    @property
    def state(self) -> str:
        """on, paused, or empty."""
        if self._tap is None:
            return ""
        return "paused" if self._pausing else "on"

    def begin(self, media: MediaBridge, law: Law) -> None:
        """From the next frame on."""
        now = time.time()
        # The name tells the day, so that nobody needs an index to find the file; nothing in it is the caller's.
        self._id = f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(8)}"
        self._tap = Tap(self._call_id, self._id, law, now, lambda block: self._send(tap.encode(block)))
        self._media, media.tap = media, self._tap
        self._emit(model.RecordingStarted, recording_id=self._id)
        if self._pausing:
            self._tap.pause(self._by())
            self._emit(model.RecordingPaused, recording_id=self._id, by=self._by())

    def end(self) -> None:
        """We have the caller no more; twice is fine."""
        if self._tap is not None and self._media is not None:
            self._media.tap = None
            self._tap.end()
        self._tap = self._media = None

    def pause(self, by: str) -> None:
        """From now on nothing is written, until `by` (collect_digits, agent, operator) and all others let go."""
        if by in self._pausing:
            return
        self._pausing[by] = None
        if self._tap is not None:
            self._tap.pause(self._by())
            if len(self._pausing) == 1:
                self._emit(model.RecordingPaused, recording_id=self._id, by=by)

    def resume(self, by: str) -> None:
        """`by` has nothing against it any more; nothing happens if it never had."""
        if by not in self._pausing:
            return
        del self._pausing[by]
        if self._tap is not None:
            self._tap.pause(self._by())
            if not self._pausing:
                self._emit(model.RecordingResumed, recording_id=self._id, by=by)

    @contextlib.contextmanager
    def paused(self, by: str) -> Iterator[None]:
        """Nothing is written within the block, however it is left."""
        self.pause(by)
        try:
            yield
        finally:
            self.resume(by)

    def _by(self) -> str:
        return "+".join(self._pausing)
