"""What a benchmark finds out, as values: one run, its figures, its verdict; a sitting of runs as JSON.

`Figures` is, name for name, what the load generator prints (`bench/load/figures.c`). Times are milliseconds.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from sipagent.config.sections import WebSocketName

MAX_P99_MS = 5.0
"""For uplink and pacing each, of the worker alone."""
LOAD_LIMIT = 0.9
"""Share of its core beyond which the load generator may be what fails (real-time processes get 95 %)."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution."""

    count: int
    p50: float
    p99: float
    max: float
    p95: float = 0.0
    """Of results from 2026-11-28 on."""


@dataclass(frozen=True, slots=True)
class Up:
    """Callers' frames, from the caller's socket to the model's."""

    sent: int
    received: int
    lost: int
    disordered: int
    garbled: int
    crosstalk: int
    delay_ms: Spread
    """RTP send to WebSocket message read."""
    send_late_ms: Spread
    """The load generator's own lateness: what it cannot tell from the bridge's."""
    filled: int = 0
    """Frames of pure silence, which no caller sends: the bridge filled a hole."""


@dataclass(frozen=True, slots=True)
class Down:
    """The agent's frames, from the model to the caller's socket, by the kernel's receive time."""

    frames: int
    silence: int
    lost: int
    disordered: int
    garbled: int
    crosstalk: int
    stale: int
    """Frames of an answer whose successor has begun already."""
    foreign: int
    """Packets from elsewhere than the call's port: other work on the machine, or a bridge that mixes up sockets."""
    rtp_lost: int
    """Holes in the RTP sequence numbers."""
    pacing_ms: Spread
    """How far the gap between two frames of an answer is from 20 ms."""
    grid_ms: Spread
    """How far a frame is from the ideal grid that starts at its answer's first frame."""
    drift_ms: Spread
    """How late the last frame of a whole answer (4 s) is on that grid."""
    first_audio_ms: Spread
    """First delta written to first frame received."""
    turn_added_ms: Spread | None = None
    """That, and how long the caller's last frame before the answer was under way to the model: what all that lies
    between a caller and their model adds to a turn. None in results from before 2026-11-28."""
    fell_silent: int = 0
    """Calls in which the caller heard nothing at all any more (whole node: for 200 ms)."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers, and what interruptions did."""

    begun: int
    whole: int
    cut: int
    truncate_missing: int
    truncate_wrong: int
    """Truncations at another place than the one the caller heard."""
    after_frames: Spread
    """Frames an interrupted answer still sent after speech_started."""
    after_ms: Spread
    """How long after it these were sent."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All of one window."""

    load_busy: float
    """Share of its core that the load generator used."""
    sessions_lost: int
    up: Up
    down: Down
    answers: Answers


@dataclass(frozen=True, slots=True)
class Case:
    """What is run."""

    bridge: str
    calls: int
    tls: bool = True
    seconds: float = 6.0
    settle_s: float = 5.0
    rate: float = 25.0
    """Calls that come in per second in the ramp."""
    fifo: bool = False
    sabotage: str = ""
    """One of the floor's ways to be wrong (`bench/floor.c`)."""
    awake: bool = False
    """No core sleeps, as with `[worker] cpu_dma_latency_us = 0`."""
    pure: bool = False
    """The worker without its compiled modules, as on a machine without a compiler."""
    websocket: WebSocketName = "picows"
    """The worker's `[realtime] websocket`."""
    stages: str = ""
    """The worker with clocks in it, and the file that they are told in (`bench/staged.py`)."""

    def __str__(self) -> str:
        return f"{self.bridge}{':' + self.sabotage if self.sabotage else ''}, {self.calls} calls, {self.wire}"

    @property
    def wire(self) -> str:
        """The model's scheme."""
        return "wss" if self.tls else "ws"

    @property
    def unusual(self) -> str:
        """What is not as it comes, each with a comma before it."""
        words = {"cores awake": self.awake, "not compiled": self.pure, self.websocket: self.websocket != "picows"}
        return "".join(f", {word}" for word, true in words.items() if true)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case."""

    case: Case
    scheduling: str
    """Of bridge and load: `fifo` or `other`."""
    cpu_ms_per_cs: float
    """CPU of the bridge per call and second."""
    user_share: float
    core_busy: float
    """Share of its core that the bridge used."""
    waited: float
    """Share of the window in which the bridge could have run, but something else had its core."""
    stolen: float
    """Share in which the host had taken the core away. More than a little of either spoils a run."""
    rss_start_kb: int
    """Before the first call."""
    rss_kb: int
    """With every call up, as the window begins."""
    figures: Figures
    complaints: dict[str, int] = field(default_factory=dict)
    """Warnings and errors in the worker's log, by event."""
    counters: dict[str, int] = field(default_factory=dict)
    """The worker's own, of all its calls together."""
    faults: list[str] = field(default_factory=list)
    """Why this run does not pass; empty when it does."""

    @property
    def kb_per_call(self) -> float:
        """Growth of the resident set."""
        return (self.rss_kb - self.rss_start_kb) / self.case.calls


def find_faults(figures: Figures, max_p99_ms: float = MAX_P99_MS) -> list[str]:
    """The PASS rule: nothing lost, doubled, bent or misplaced either way, and both p99 under the limit."""
    up, down = figures.up, figures.down
    counts = {
        "uplink lost": up.lost - up.disordered - up.garbled - up.crosstalk,
        "uplink disordered": up.disordered,
        "uplink garbled": up.garbled,
        "uplink crosstalk": up.crosstalk,
        "downlink lost": down.lost,
        "downlink disordered": down.disordered,
        "downlink garbled": down.garbled,
        "downlink crosstalk": down.crosstalk,
        "downlink stale": down.stale,
        "RTP holes": down.rtp_lost,
        "calls fell silent": down.fell_silent,
        "sessions lost": figures.sessions_lost,
    }
    faults = [f"{name}: {count}" for name, count in counts.items() if count > 0]
    if not (up.received and down.frames):
        faults.append("no audio")
    if up.delay_ms.p99 >= max_p99_ms:
        faults.append(f"uplink p99: {up.delay_ms.p99:.1f} ms")
    if down.pacing_ms.p99 >= max_p99_ms:
        faults.append(f"pacing p99: {down.pacing_ms.p99:.1f} ms")
    if faults and figures.load_busy > LOAD_LIMIT:
        faults.append(f"the load generator itself was at its limit ({figures.load_busy:.0%})")
    return faults


@dataclass(frozen=True, slots=True)
class Compared:
    """A bridge over the rounds of a sitting."""

    bridge: str
    calls: int
    rounds: int
    passed: int
    cpu_ms_per_cs: float
    """Median, as all below."""
    cpu_ms_per_cs_min: float
    to_floor: float | None
    """Ratio to the floor's run of the same round; None without one."""
    uplink_p50_ms: float
    uplink_p99_ms: float
    pacing_p50_ms: float
    pacing_p99_ms: float
    kb_per_call: float


def compare(rounds: list[list[Run]]) -> list[Compared]:
    """Rounds of the same cases, put side by side."""
    out = []
    for runs in zip(*rounds, strict=True):
        floors = [next((run for run in others if run.case.bridge == "floor"), None) for others in rounds]
        ratios = [run.cpu_ms_per_cs / floor.cpu_ms_per_cs for run, floor in zip(runs, floors, strict=True) if floor]
        cpu = [run.cpu_ms_per_cs for run in runs]
        out.append(
            Compared(
                bridge=runs[0].case.bridge,
                calls=runs[0].case.calls,
                rounds=len(runs),
                passed=sum(not run.faults for run in runs),
                cpu_ms_per_cs=median(cpu),
                cpu_ms_per_cs_min=min(cpu),
                to_floor=median(ratios) if ratios else None,
                uplink_p50_ms=median(run.figures.up.delay_ms.p50 for run in runs),
                uplink_p99_ms=median(run.figures.up.delay_ms.p99 for run in runs),
                pacing_p50_ms=median(run.figures.down.pacing_ms.p50 for run in runs),
                pacing_p99_ms=median(run.figures.down.pacing_ms.p99 for run in runs),
                kb_per_call=median(run.kb_per_call for run in runs),
            )
        )
    return out


@dataclass(frozen=True, slots=True)
class Attempt:
    """One step of a capacity search; `run` is None when the calls did not even come up."""

    calls: int
    faults: list[str]
    run: Run | None


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many calls one core carries."""

    bridge: str
    tls: bool
    carried: int
    """The highest number tried that passed; 0: none."""
    failed: int | None
    """The first that failed (and failed again); None: none did."""
    attempts: list[Attempt]


@dataclass(frozen=True, slots=True)
class Sitting:
    """What was measured in one go, and where."""

    started_at: str
    machine: str
    runs: list[Run]
    compared: list[Compared]
    capacities: list[Capacity]
    kind: Literal["alone"] = "alone"


def stamp() -> tuple[str, str]:
    """When and where: the first two fields of every sitting."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    machine = f"{cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    now = dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
    return now, machine


def save(found: object, path: Path) -> None:
    """A sitting, of whatever kind, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
