"""Processes of a run: started on a core of their own, measured from /proc, stopped by their id whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sipagent import tuning
from sipagent.errors import ToolError

STOP_TIMEOUT_S = 6.0
LINE_BYTES = 1 << 20
_MANY_FILES = 16384
_FIFO_PRIORITY = 10
_TICKS_A_S = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, slots=True)
class Cores:
    """One for the bridge, one for the load; whatever else there is for us."""

    bridge: int
    load: int

    @classmethod
    def take(cls) -> Cores:
        """The first two we may use."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise ToolError("the benchmark needs two cores: one for the bridge, one for its load")
        return cls(*allowed[:2])


@contextlib.asynccontextmanager
async def only_one(lock: Path) -> AsyncIterator[None]:
    """Two runs on the same cores would measure each other, so the second waits for the first."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            await asyncio.sleep(0.5)
        yield  # closing the file lets go of it


@contextlib.asynccontextmanager
async def process(
    command: Sequence[str], core: int | None, *, env: Mapping[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program on one core (None: on any); SIGTERM at the end of the block, SIGKILL if it does not listen.

    With `log` its output goes there; without, stdin and stdout are ours.
    """
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("ab")) if log else None
        started = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            stdin=asyncio.subprocess.DEVNULL if log else asyncio.subprocess.PIPE,
            stdout=out or asyncio.subprocess.PIPE,
            stderr=out,
            start_new_session=True,  # Ctrl-C is ours, and we stop them in our order
            limit=LINE_BYTES,
        )
    try:
        if core is not None:
            os.sched_setaffinity(started.pid, {core})
        yield started
    finally:
        await _stop(started)


async def _stop(started: asyncio.subprocess.Process) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if started.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                started.send_signal(how)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await started.wait()


def make_fifo(*pids: int) -> str:
    """Real-time scheduling for all of them, so that other work on the machine stays out; or none of them."""
    try:
        for pid in pids:
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(_FIFO_PRIORITY))
    except PermissionError:
        return "other (fifo was not permitted)"
    return "fifo"


@contextlib.contextmanager
def cores_awake(wanted: bool) -> Iterator[None]:
    """What `[worker] cpu_dma_latency_us = 0` asks of the kernel, for whatever is measured in the block."""
    cores = tuning.Cores(0 if wanted else None)
    try:
        cores.mind(1)
    except OSError as error:
        raise ToolError(f"the cores cannot be kept awake: {error}") from error
    try:
        yield
    finally:
        cores.mind(0)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    at_s: float
    cpu_s: float
    waited_s: float
    """Ready to run, but something else had the core."""
    stolen_s: float
    """The host had taken the core away."""
    user_ticks: int
    system_ticks: int

    @classmethod
    def of(cls, pid: int, core: int) -> Usage:
        """Every thread; the total is exact to the nanosecond, user, system and stolen to 10 ms."""
        root = Path(f"/proc/{pid}")
        threads = [(task / "schedstat").read_text().split() for task in (root / "task").iterdir()]
        fields = (root / "stat").read_text().rpartition(")")[2].split()
        lines = Path("/proc/stat").read_text().splitlines()
        stolen = next(int(line.split()[8]) for line in lines if line.startswith(f"cpu{core} "))
        return cls(
            at_s=asyncio.get_running_loop().time(),
            cpu_s=sum(int(ran) for ran, _, _ in threads) / 1e9,
            waited_s=sum(int(waited) for _, waited, _ in threads) / 1e9,
            stolen_s=stolen / _TICKS_A_S,
            user_ticks=int(fields[11]),
            system_ticks=int(fields[12]),
        )

    def user_share_since(self, earlier: Usage) -> float:
        """Of the CPU time between the two."""
        user, system = self.user_ticks - earlier.user_ticks, self.system_ticks - earlier.system_ticks
        return user / (user + system) if user + system else 0.0


def allow_many_files() -> None:
    """Calls are sockets: more than most shells allow, for us and all that we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(_MANY_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def cpu_s(pid: int) -> float:
    """Of the process with its threads, those that have ended too (Asterisk's live as long as a call), to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_S


def machine_idle_s() -> float:
    """Time that the machine's cores had nothing to do, all of them together, to 10 ms.

    What they did is not asked: the kernel samples that by its ticks, and our bursts are shorter than those.
    """
    idle, waiting = map(int, Path("/proc/stat").read_text().split()[4:6])
    return (idle + waiting) / _TICKS_A_S


def descriptors(pid: int) -> int:
    """Open files and sockets."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def open_files(pid: int) -> dict[str, int]:
    """How many descriptors of each kind or file, by the name without its folder: "socket", "records.db-wal"."""
    names: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = str(descriptor.readlink())
            names[target.rpartition("/")[2] if target.startswith("/") else target.partition(":[")[0]] += 1
    return dict(names)


def threads(pid: int) -> int:
    """Of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def udp_sockets(pid: int) -> int:
    """Of these, UDP sockets."""
    inodes = {line.split()[9] for name in ("udp", "udp6") for line in _lines(Path(f"/proc/net/{name}"))[1:]}
    return sum(_inode(link) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _inode(link: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return str(link.readlink()).removeprefix("socket:[").removesuffix("]")
    return ""


def rss_kb(pid: int) -> int:
    """Resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB
