"""The caller's frames on their way into a session's connection: written at once, kept, or dropped and counted.

At most `MAX_WAITING` frames wait here when the network does not take them, and `MAX_UNSENT_BYTES` in the kernel; beyond
that the oldest are dropped, since late words are worse than lost ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pybase64 import b64encode

from sipagent import native
from sipagent.audio import PTIME_MS
from sipagent.xai.events import APPEND_HEAD as HEAD
from sipagent.xai.events import APPEND_TAIL as TAIL
from sipagent.xai.session import RealtimeSession

MAX_WAITING = 200 // PTIME_MS
"""200 ms of the caller."""
MAX_UNSENT_BYTES = 1400
"""In the kernel beyond what is on its way: 100 ms of the caller. More waits here, where it can still be dropped.

Transports are asked in vain: 64 kB may hide in asyncio's TLS, and the kernel's own buffer holds six seconds of audio
before it notices."""


class Uplink:
    """One session's. Until `open` and from `close` on what the session does not keep is gone."""

    def __init__(self, session: RealtimeSession) -> None:
        self.dropped_frames = 0
        self.waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._session, self._ready = session, False
        self._send: Callable[[bytes], None] | None = None
        self._fd = -1

    def open(self, send: Callable[[bytes], None], fd: int) -> None:
        """Messages can be written by `send`, and the TCP connection beneath has this descriptor."""
        self._send, self._fd = send, fd

    def close(self) -> None:
        """Nothing more is written; twice is fine."""
        self._send = None
        self.waiting.clear()

    def append_audio(self, payload: bytes) -> None:
        """One caller frame, written to the socket before this returns (or kept, or dropped and counted)."""
        message: bytes | None
        if self._ready:  # as `events.append`; written here, it is compiled
            message = native.joined(HEAD, b64encode(payload), TAIL)
        else:
            message = self._session.append_audio(payload)
            self._ready = self._session.ready  # for good
        if message is None or self._send is None:
            return
        if self.waiting or self._full():
            self.dropped_frames += len(self.waiting) == MAX_WAITING
            self.waiting.append(message)
            while self.waiting and not self._full():
                self._send(self.waiting.popleft())
        else:
            self._send(message)

    def _full(self) -> bool:
        try:
            return native.unsent_bytes(self._fd) > MAX_UNSENT_BYTES
        except OSError:  # closed by its library, which tells us of it in the loop's next turn
            return False
