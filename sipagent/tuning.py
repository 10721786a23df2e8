"""What keeps a worker's loop undisturbed: its place on the machine, and a garbage collector that waits.

With other work on the same cores a worker at normal priority was seen to send 13 ms late at half a core's load; with
priority, 0.3 ms. Every packet passes Asterisk, too: on a full machine a worker with priority beside an Asterisk
without carried 50 calls and not 100, with the same priority for both 150.

And a full collection stops the loop for 9 to 46 ms: so what stands at the start is frozen, calls are built without
reference cycles, and what libraries leave behind is collected when no call is up (or when there is so much of it that
it must be).

A core that sleeps between two packets wakes with cold caches, on a virtual machine by way of the host too: there, a
worker that had a core to itself took a fifth to a third less of it when the core was kept awake (bench/RESULTS.md).
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import linecache
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import structlog

from sipagent.config import AsteriskSettings, WorkerSettings

log = structlog.get_logger()

CPU_DMA_LATENCY = "worker.cpu_dma_latency_us"
MEMORY = Path("/dev/shm")  # noqa: S108 - files have names that nobody foresees, and mode 600
SWITCH_S = 0.0005
MAX_NEW_OBJECTS = 500_000
"""Containers born since the last collection: some 60 MB. Then even a busy worker collects."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting that this user or this machine does not permit."""

    key: str
    error: str
    mend: str
    asked: bool
    """False for a default: many machines do not permit it, and the operator did not choose it."""

    def tell(self) -> None:
        """In the log; it is no reason not to start."""
        tell = log.warning if self.asked else log.info
        tell("tuning_refused", key=self.key, error=self.error, mend=self.mend)


def settle(settings: WorkerSettings, number: int) -> list[Refusal]:
    """Put this thread, the loop's, where the operator wants worker `number` (from 1); what of it is not permitted."""
    # A configuration is read anew in a thread; the loop must not wait the usual 5 ms for its turn.
    sys.setswitchinterval(SWITCH_S)
    return list(_settle(settings, number))


def _settle(settings: WorkerSettings, number: int) -> Iterator[Refusal]:
    if settings.cpus:
        cpu = settings.cpus[(number - 1) % len(settings.cpus)]
        mend = f"is there a core {cpu}? `nproc` tells how many"
        yield from _attempt("worker.cpus", lambda: os.sched_setaffinity(0, {cpu}), mend)
    if settings.nice:
        yield from _attempt("worker.nice", lambda: os.setpriority(os.PRIO_PROCESS, 0, settings.nice), _NEEDS)
    if settings.realtime_priority:
        # What a worker starts (nothing today) must not inherit it.
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        yield from _attempt(
            "worker.realtime_priority",
            lambda: os.sched_setscheduler(0, policy, os.sched_param(settings.realtime_priority)),
            _NEEDS,
            asked="realtime_priority" in settings.model_fields_set,
        )
    if settings.cpu_dma_latency_us is not None:
        cores = Cores(settings.cpu_dma_latency_us)
        yield from _attempt(CPU_DMA_LATENCY, lambda: cores.mind(1), _NEEDS_DEVICE)
        cores.mind(0)


def spare_the_disk() -> None:
    """The loop, and all its calls with it, would wait for what is read and written in it from now on.

    Temporary files of libraries go to memory: aiofastnet writes the server's certificate to one, to read it, with
    every session that is opened. And who imports a module only now is told of: of NumPy's Fourier transform, at the
    first interruption, from a disk whose cache was cold, 0.8 s of silence came in every call.
    """
    if os.access(MEMORY, os.W_OK | os.X_OK):
        tempfile.tempdir = str(MEMORY)
    for encoding in ("ascii", "idna"):
        codecs.lookup(encoding)  # of hosts' names, with the first session
    sys.meta_path.insert(0, LateImports())
    # A traceback names files and lines; their text would be read for the first one, ten files and more.
    linecache.updatecache = _no_text


def _no_text(filename: str, module_globals: object = None) -> list[str]:
    del filename, module_globals
    return []


class LateImports(MetaPathFinder):
    """It finds nothing, and tells what this thread, the loop's, looks for."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._telling = False

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """A module that is not there yet is wanted."""
        del path, target
        if threading.get_ident() != self._thread or self._telling:
            return
        self._telling = True  # what the log itself imports would be told of for ever
        try:
            log.warning("imported_late", module=fullname)
        finally:
            self._telling = False


def prioritise(pid: int, settings: AsteriskSettings) -> list[Refusal]:
    """Asterisk, with all its threads and those that they start, before everything of normal priority; 0: as it is."""
    if not (priority := settings.realtime_priority):
        return []
    asked = "realtime_priority" in settings.model_fields_set
    return list(_attempt("asterisk.realtime_priority", lambda: _round_robin(pid, priority), _NEEDS, asked=asked))


def _round_robin(pid: int, priority: int) -> None:
    done: set[int] = set()
    # Until no thread is new: those that were started by one without priority meanwhile have none.
    while new := {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()} - done:
        for thread in new:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(priority))
        done |= new


_NEEDS = (
    "needs CAP_SYS_NICE, or the limits for it: LimitRTPRIO=90 and LimitNICE=-20 of systemd, rtprio and nice of a "
    "container's ulimits"
)
_NEEDS_DEVICE = "needs to write /dev/cpu_dma_latency, which is root's: a udev rule, or a container's devices"


def _attempt(key: str, act: Callable[[], object], mend: str, *, asked: bool = True) -> Iterator[Refusal]:
    try:
        act()
    except (OSError, ValueError) as error:
        yield Refusal(key, str(error), mend, asked)


class Cores:
    """Kept from sleep that takes longer than `latency_us` to end: all of this machine's, while calls are up.

    A request to the kernel that stands as long as its descriptor is open, so it ends with us, however we end
    (Documentation/power/pm_qos_interface.rst). None asks for nothing.
    """

    DEVICE = Path("/dev/cpu_dma_latency")

    def __init__(self, latency_us: int | None) -> None:
        self._latency_us = latency_us
        self._request: int | None = None

    def mind(self, calls: int) -> None:
        """So many are up now. OSError where it is not permitted."""
        if calls and self._request is None and self._latency_us is not None:
            request = os.open(self.DEVICE, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(request, struct.pack("@i", self._latency_us))
            except OSError:
                os.close(request)
                raise
            self._request = request
        elif not calls and self._request is not None:
            os.close(self._request)
            self._request = None


def waited_s(pid: int | None = None) -> float:
    """How long this process, or another one of this machine, had no core while it wanted one; 0 where nobody counts.

    Of its main thread, which is the loop's (the kernel's Documentation/scheduler/sched-stats.rst: run_delay).
    """
    try:
        _on_core_ns, waited_ns, _slices = Path(f"/proc/{pid or 'self'}/schedstat").read_text("ascii").split()
        return int(waited_ns) / 1e9
    except (OSError, ValueError):  # it has ended, or the kernel does not count
        return 0.0


def is_first() -> bool:
    """This process has priority: it waits only for what has the same."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK in {os.SCHED_RR, os.SCHED_FIFO}


def resident_bytes() -> int:
    """Memory of this process that is in use now (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def freeze() -> None:
    """What stands now stands for good; from here on nothing is collected by itself."""
    gc.collect()
    gc.freeze()
    gc.disable()


def between_calls(calls: int) -> None:
    """One has begun or ended, and `calls` are up now: the moment to collect, if there is one."""
    if calls == 0 or gc.get_count()[0] > MAX_NEW_OBJECTS:
        gc.collect()
