"""What one packet costs in each part of the hot path, in nanoseconds of CPU.

No socket, no loop: what the worker's own code adds, and where. Each figure is the best and the median of
several rounds, so that other work on the machine shows as a wide spread instead of as a result.
"""

from __future__ import annotations

import base64
import json
import platform
import timeit
from collections.abc import Callable
from statistics import median

from sipagent.audio import SILENCE_FRAME, Law, rms
from sipagent.barge_in import BargeIn
from sipagent.config import BargeInSettings
from sipagent.media import MediaBridge, PlayoutQueue
from sipagent.rtp import packet
from sipagent.rtp.pacer import SLOT_MS, Wheel
from sipagent.rtp.session import RtpSession
from sipagent.xai import events
from sipagent.xai.dialect import SessionConfig
from sipagent.xai.session import RealtimeSession

ROUNDS = 7
REMOTE = ("127.0.0.1", 4000)
FRAME = bytes(range(160))
DELTA = json.dumps(
    {
        "type": "response.output_audio.delta",
        "event_id": "0d3b",
        "previous_item_id": None,
        "response_id": "r",
        "item_id": "i",
        "output_index": 0,
        "content_index": 0,
        "delta": base64.b64encode(bytes(1600)).decode(),
        "rid": "x",
        "audio_duration_ms": 200,
        "ts": 1790000000000,
    }
)


class _NullSocket:
    def connect(self, remote: tuple[str, int]) -> None:
        pass

    def send(self, datagram: bytes) -> None:
        pass


def _bridge(wheel: Wheel) -> MediaBridge:
    return MediaBridge(Law.ULAW, RtpSession(0), wheel, BargeIn(Law.ULAW, BargeInSettings()), lambda: 0.0)


def _uplink() -> Callable[[], object]:
    """One caller frame: datagram in, message for the model out (no sockets)."""
    media = _bridge(Wheel(0.0))
    session = RealtimeSession(SessionConfig(Law.ULAW, "", "", ""))
    session.receive('{"type":"session.created","session":{}}', 0.0)
    session.receive('{"type":"session.updated","session":{}}', 0.0)
    media.to_model = session.append_audio
    number = iter(range(1 << 62))

    def step() -> None:
        n = next(number)
        media.on_datagram(packet.build(0, n & 0xFFFF, n * 160 & 0xFFFFFFFF, 9, FRAME, False))

    return step


def _downlink() -> Callable[[], object]:
    """One 20 ms turn of a wheel with one talking stream (no socket)."""
    wheel = Wheel(0.0)
    media = _bridge(wheel)
    media.start(_NullSocket(), REMOTE)  # type: ignore[arg-type]
    media.queue = PlayoutQueue(Law.ULAW)
    turns = iter(range(1 << 62))

    def step() -> None:
        if media.queue.queued_ms < 20:
            media.play("i", bytes(160 * 500))
        wheel.turn(next(turns) * 10 * SLOT_MS / 1000)

    return step


PACKET = bytes(packet.RtpPacket(0, 1, 2, 3, FRAME))
PARTS: tuple[tuple[str, Callable[[], object]], ...] = (
    ("RTP parse", lambda: packet.parse(PACKET)),
    ("RTP build", lambda: packet.build(0, 1, 2, 3, FRAME, False)),
    ("input_audio_buffer.append of 20 ms", lambda: events.append(FRAME)),
    ("output_audio.delta of 200 ms", lambda: events.parse(DELTA)),
    ("level of a frame", lambda: rms(SILENCE_FRAME[Law.ULAW], Law.ULAW)),
    ("uplink: datagram in to message out", _uplink()),
    ("downlink: a frame out of the queue, paced", _downlink()),
)


def main() -> None:
    """Print the table."""
    print(f"Python {platform.python_version()}, {platform.machine()}; ns per operation, best and median of {ROUNDS}")
    for name, step in PARTS:
        count, _ = timeit.Timer(step).autorange()
        rounds = [1e9 * t / count for t in timeit.repeat(step, number=count, repeat=ROUNDS)]
        print(f"  {name:<44} {min(rounds):>8.0f} {median(rounds):>8.0f}")
