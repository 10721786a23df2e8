"""One call's RTP, both ways (core: datagrams and values in, values and datagrams out; no socket, no clock).

What is received becomes the model's timeline in `jitter`. All of it is Asterisk's: the kernel keeps others away
(`transport`).
Sending, it numbers: sequence continuous, timestamp advanced by what was sent or skipped, marker where the
caller of `send` says that a talkspurt starts.
"""

from __future__ import annotations

import secrets

from sipagent import native
from sipagent.audio import SAMPLE_RATE_HZ
from sipagent.rtp.jitter import Counters, Timeline
from sipagent.rtp.packet import MARKER

ORDER_BUFFER_MS = 40
"""Two frames: what routes of unequal length and Wi-Fi's repetitions put out of order comes back within that."""
_TICKS_A_MS = SAMPLE_RATE_HZ // 1000


class RtpSession:
    """Sequence, timestamps and identity of one RTP leg towards Asterisk.

    `order_buffer_ms` is the longest that a packet waits for a missing one before it; 0 waits for none.
    """

    def __init__(
        self,
        payload_type: int,
        *,
        order_buffer_ms: int = ORDER_BUFFER_MS,
        ssrc: int | None = None,
        sequence_number: int | None = None,
    ) -> None:
        self.payload_type = payload_type
        self.counters = Counters()
        # Random starts as RFC 3550 section 5.1 asks; the sequence stays away from the first wrap.
        self._ssrc = secrets.randbits(32) if ssrc is None else ssrc
        self._sequence_number = secrets.randbits(15) if sequence_number is None else sequence_number
        self._timestamp = secrets.randbits(32)
        self.timeline = Timeline(payload_type, self.counters, order_buffer_ms)
        """What was received: ask it for what the model is to hear."""

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter of what we receive (RFC 3550, 6.4.1)."""
        return self.timeline.jitter_ms

    def send(self, payload: bytes, marker: bool = False) -> bytes:
        """The next packet's bytes; G.711 has one tick a byte, so the timestamp advances by its length."""
        marker_and_type = self.payload_type | MARKER if marker else self.payload_type
        datagram = native.rtp_packet(marker_and_type, self._sequence_number, self._timestamp, self._ssrc, payload)
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF
        self._timestamp = (self._timestamp + len(payload)) & 0xFFFF_FFFF
        self.counters.sent += 1
        return datagram

    def skip(self, milliseconds: int) -> None:
        """Time for which nothing was sent: only the timestamp advances (RFC 3550, 5.1)."""
        self._timestamp = (self._timestamp + milliseconds * _TICKS_A_MS) & 0xFFFF_FFFF
