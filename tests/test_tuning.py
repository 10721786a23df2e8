"""Who goes before other work of the machine: workers, and with them Asterisk; and cores that stay awake for them."""

from __future__ import annotations

import contextlib
import importlib
import io
import linecache
import os
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from sipagent import switch, tuning
from sipagent.asterisk.root import Root
from sipagent.config import AsteriskSettings, Settings, WorkerSettings
from tests.asterisk.fixtures import free_port

PRIORITY = 7
NOBODY = 2**22 + 1
"""Beyond the greatest process id there is."""
ASKED = AsteriskSettings(realtime_priority=PRIORITY)
NONE = AsteriskSettings(realtime_priority=0)
PROGRAM = """
import sys, threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()                       # given priority meanwhile
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("another", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """Of four threads; one line more, and it has five."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.fixture(scope="module")
def permitted() -> bool:
    """Whether this user may give priority at all: root of a machine may, most containers may not."""
    tried = [sys.executable, "-c", "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(7))"]
    return subprocess.run(tried, stderr=subprocess.DEVNULL, check=False).returncode == 0


def policies(pid: int) -> dict[int, int]:
    """Of each thread."""
    found: dict[int, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            found[int(task.name)] = os.sched_getscheduler(int(task.name))
    return found


def test_every_thread_has_it_and_those_that_come(program: subprocess.Popen[str], permitted: bool) -> None:
    refusals = tuning.prioritise(program.pid, ASKED)
    assert len(policies(program.pid)) == 4
    assert set(policies(program.pid).values()) == {os.SCHED_RR if permitted else os.SCHED_OTHER}
    assert [refusal.key for refusal in refusals] == ([] if permitted else ["asterisk.realtime_priority"])
    assert program.stdin
    assert program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "another\n"
    assert len(policies(program.pid)) == 5
    assert len(set(policies(program.pid).values())) == 1


def test_nobody_has_it_who_was_not_given_it(program: subprocess.Popen[str]) -> None:
    before = policies(program.pid)
    tuning.prioritise(program.pid, NONE)
    assert policies(program.pid) == before


def test_what_is_not_to_be_had_is_told_and_no_more() -> None:
    with capture_logs() as logs:
        for refusal in (
            *tuning.prioritise(NOBODY, ASKED),
            *tuning.settle(WorkerSettings(cpus=(100_000,), realtime_priority=0), 1),
        ):
            refusal.tell()
    assert [entry["key"] for entry in logs] == ["asterisk.realtime_priority", "worker.cpus"]
    assert all(entry["mend"] for entry in logs)
    assert {entry["log_level"] for entry in logs} == {"warning"}


def test_priority_is_the_default_and_no_warning_where_it_is_not_permitted() -> None:
    assert AsteriskSettings().realtime_priority == WorkerSettings().realtime_priority > 0
    with capture_logs() as logs:
        for refusal in tuning.prioritise(NOBODY, AsteriskSettings()):
            refusal.tell()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("tuning_refused", "info")]


SETTLES = """
import os
from sipagent import tuning
from sipagent.config import WorkerSettings
tuning.settle(WorkerSettings(), 1)
print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
"""


def test_a_worker_has_it(permitted: bool) -> None:
    ran = subprocess.run([sys.executable, "-c", SETTLES], capture_output=True, text=True, check=True)
    policy, priority = map(int, ran.stdout.split()[-2:])
    wanted = (os.SCHED_RR | os.SCHED_RESET_ON_FORK, WorkerSettings().realtime_priority)
    assert (policy, priority) == (wanted if permitted else (os.SCHED_OTHER, 0))


@pytest.fixture
def spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker that has started."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(linecache, "updatecache", linecache.updatecache)
    linecache.clearcache()
    tuning.spare_the_disk()


@pytest.mark.usefixtures("spared")
def test_who_imports_only_now_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with capture_logs() as logs, contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("this")
        importlib.import_module("json")  # is there
        with ThreadPoolExecutor() as threads:  # calls do not wait for another thread
            threads.submit(importlib.import_module, "no_module_of_anybody").exception()
    assert [(entry["event"], entry["module"]) for entry in logs] == [("imported_late", "this")]


@pytest.mark.usefixtures("spared")
def test_a_log_that_imports_is_not_told_of_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def warning(event: str, *, module: str) -> None:
        told.append(module)
        with contextlib.suppress(ImportError):
            importlib.import_module("no_module_of_the_log")

    monkeypatch.setattr(tuning, "log", SimpleNamespace(warning=warning))
    with pytest.raises(ImportError):
        importlib.import_module("no_module_of_anybody")
    assert told == ["no_module_of_anybody"]


@pytest.mark.usefixtures("spared")
def test_a_traceback_names_lines_and_reads_no_files() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        told = traceback.format_exc()
    assert f'"{__file__}", line' in told
    assert "raise ValueError" not in told


@pytest.mark.usefixtures("spared")
def test_temporary_files_lie_in_memory() -> None:
    with tempfile.NamedTemporaryFile() as file:
        kind = subprocess.run(["stat", "-f", "-c", "%T", file.name], capture_output=True, text=True, check=True)
    assert kind.stdout.strip() == "tmpfs"


def requests_of_cores() -> list[Path]:
    """Our own open requests to the kernel."""
    descriptors = Path("/proc/self/fd").iterdir()
    return [one for one in descriptors if one.is_symlink() and one.readlink() == tuning.Cores.DEVICE]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of the kernel's."""
    file = tmp_path / "cpu_dma_latency"
    file.touch()
    monkeypatch.setattr(tuning.Cores, "DEVICE", file)
    return file


def test_cores_stay_awake_while_calls_are_up(device: Path) -> None:
    cores = tuning.Cores(17)
    cores.mind(0)
    assert not requests_of_cores()
    for calls in (1, 2, 1):
        cores.mind(calls)
        assert len(requests_of_cores()) == 1
    assert device.read_bytes() == struct.pack("@i", 17)
    cores.mind(0)
    assert not requests_of_cores()
    tuning.Cores(None).mind(5)
    assert not requests_of_cores()


@pytest.mark.skipif(not os.access(tuning.Cores.DEVICE, os.W_OK), reason="no right to /dev/cpu_dma_latency: not tried")
def test_the_kernel_takes_the_request() -> None:
    cores = tuning.Cores(17)
    cores.mind(1)
    with tuning.Cores.DEVICE.open("rb", buffering=0) as kernel:
        assert struct.unpack("@i", kernel.read(4)) <= (17,)  # another program may ask for less
    cores.mind(0)


def test_cores_that_may_not_be_kept_awake_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.Cores, "DEVICE", tmp_path / "none")
    (refusal,) = tuning.settle(WorkerSettings(realtime_priority=0, cpu_dma_latency_us=0), 1)
    assert (refusal.key, refusal.asked) == ("worker.cpu_dma_latency_us", True)
    assert "udev" in refusal.mend
    assert not tuning.settle(WorkerSettings(realtime_priority=0), 1)


@pytest.mark.e2e
async def test_a_real_asterisk(tmp_path: Path, root: Root, permitted: bool) -> None:
    ports = {"http_port": free_port(), "sip_port": free_port(), "password": "a", "phone_password": "p"}
    settings = Settings(
        run_dir=tmp_path,
        asterisk=ports,
        agents={"a": {"instructions": "x"}},
        numbers={"100": "a"},
    )
    with capture_logs() as logs:
        async with switch.asterisk(settings, root) as server:
            assert server.pid
            await server.cli("core show threads")
            assert set(policies(server.pid).values()) == {os.SCHED_RR if permitted else os.SCHED_OTHER}
            assert len(policies(server.pid)) > 20
    assert bool(logs) is not permitted
