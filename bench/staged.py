"""The worker with a clock around each stage of a frame's way: `python -m bench.staged FILE worker 1 --config ...`.

A stage's time is its own: what it spends in another stage is that one's. Sampled every second; the file gets, at the
end of the process, what the seconds say in which all calls were up. The clocks cost some 0.3 us a stage.
"""

from __future__ import annotations

import atexit
import itertools
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sipagent import cli
from sipagent.barge_in import BargeIn
from sipagent.kept import Kept
from sipagent.media import MediaBridge, PlayoutQueue
from sipagent.rtp.jitter import Timeline
from sipagent.rtp.session import RtpSession
from sipagent.rtp.transport import PacerTimer, RtpSocket
from sipagent.xai import by_picows
from sipagent.xai.by_websockets import WebsocketsSocket
from sipagent.xai.client import RealtimeClient
from sipagent.xai.uplink import Uplink

SEND = "caller's frame: WebSocket frame, TLS and the kernel's TCP send"
"""By either library."""

STAGES: tuple[tuple[str, type, str], ...] = (
    ("caller's frame: UDP read", RtpSocket, "_readable"),
    ("caller's frame: media.py", MediaBridge, "on_datagram"),
    ("caller's frame: order and numbers", Timeline, "take"),
    ("caller's frame: barge-in detector", BargeIn, "caller"),
    ("caller's frame: kept for another session", Kept, "take"),
    ("caller's frame: JSON and base64, xai/client.py", Uplink, "append_audio"),
    ("caller's frame: is there a backlog", Uplink, "_full"),
    (SEND, WebsocketsSocket, "send_text"),
    ("agent's frame: wheel", PacerTimer, "_tick"),
    ("agent's frame: media.py", MediaBridge, "send_frame"),
    ("agent's frame: queue", PlayoutQueue, "take_frame"),
    ("agent's frame: silence that is due", Timeline, "tick"),
    ("agent's frame: barge-in detector", BargeIn, "agent"),
    ("agent's frame: RTP header", RtpSession, "send"),
    ("agent's frame: the kernel's UDP send", RtpSocket, "send"),
    ("the model's messages, from their text to the call", RealtimeClient, "on_text"),
)
_ALL_UP = 0.98
"""Of the most frames a second."""


@dataclass(slots=True)
class _Clock:
    calls: int = 0
    own_ns: int = 0


class Clocks:
    """One a stage."""

    def __init__(self) -> None:
        self.by_stage = {name: _Clock() for name, _, _ in STAGES}
        self._inside_ns = 0  # spent in stages that the running one called

    def around(self, clock: _Clock, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: object, **named: object) -> object:
            outer_ns, self._inside_ns = self._inside_ns, 0
            began_ns = time.perf_counter_ns()
            try:
                return function(*args, **named)
            finally:
                took_ns = time.perf_counter_ns() - began_ns
                clock.calls += 1
                clock.own_ns += took_ns - self._inside_ns
                self._inside_ns = outer_ns + took_ns

        return timed

    def read(self) -> list[int]:
        """Calls and time of each stage, one after the other, then the CPU time of the process; all of them rise."""
        clocks = self.by_stage.values()
        return [*(n for clock in clocks for n in (clock.calls, clock.own_ns)), time.process_time_ns()]


@dataclass(frozen=True, slots=True)
class Staged:
    """What 20 ms of a call cost: a frame of the caller in and out, one of the agent out, a share of all the rest."""

    cpu_us: float
    stages_us: dict[str, float]
    each_us: dict[str, float]
    """One call of the stage; some are not there for every frame."""


def evaluate(samples: list[list[int]]) -> Staged:
    """Of the seconds in which all calls were up."""
    seconds = [[now - before for before, now in zip(*pair, strict=True)] for pair in itertools.pairwise(samples)]
    most = max(second[0] for second in seconds)
    *columns, cpu_ns = map(sum, zip(*(second for second in seconds if second[0] >= _ALL_UP * most), strict=True))
    frames, names = columns[0], [name for name, _, _ in STAGES]
    return Staged(
        cpu_us=cpu_ns / frames / 1000,
        stages_us={name: own_ns / frames / 1000 for name, own_ns in zip(names, columns[1::2], strict=True)},
        each_us={
            name: own_ns / max(calls, 1) / 1000
            for name, calls, own_ns in zip(names, columns[::2], columns[1::2], strict=True)
        },
    )


def main() -> None:
    """The worker, until it ends."""
    file, *arguments = sys.argv[1:]
    clocks = Clocks()
    for name, owner, method in STAGES:
        setattr(owner, method, clocks.around(clocks.by_stage[name], getattr(owner, method)))
    # picows' own method is written in C and cannot be exchanged, so the one that it is bound by.
    sender = by_picows.sender
    by_picows.sender = lambda transport: clocks.around(clocks.by_stage[SEND], sender(transport))
    samples: list[list[int]] = []

    def sample() -> None:
        while True:
            time.sleep(1.0)
            samples.append(clocks.read())

    threading.Thread(target=sample, daemon=True).start()
    atexit.register(lambda: Path(file).write_bytes(msgspec.json.encode(evaluate(samples))))
    sys.argv = ["sipagent", *arguments]
    cli.main()


if __name__ == "__main__":
    main()
