"""The systemd units, judged by systemd itself; skipped where there is none (Debian: apt-get install systemd)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sipagent.app import STOP_WITHIN_S
from sipagent.control.supervisor import BACKOFF_S

UNITS = Path(__file__).resolve().parents[2] / "asterisk-conf/systemd"
NAMES = ("sipagent.service", "sipagent-asterisk.service")
INSTALLED = "/opt/sipagent/bin"
EXPOSURE = 20
"""Of 100, as `systemd-analyze security` counts: 20 is "2.0 OK"."""

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here: not verified")


def analyzed(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as installed, except that the programs are this environment's."""
    for name in NAMES:
        text = (UNITS / name).read_text()
        assert INSTALLED in text
        (tmp_path / name).write_text(text.replace(INSTALLED, str(Path(sys.executable).parent)))
    return tmp_path


def test_systemd_has_nothing_to_say(units: Path) -> None:
    assert analyzed(units, "verify", "--man=no", *(f"./{name}" for name in NAMES)) == (0, "")


def test_it_would_have(units: Path) -> None:
    """What the test above rests on: a slip is told."""
    with (units / "sipagent.service").open("a") as unit:
        unit.write("[Service]\nKillMod=mixed\n")
    assert "KillMod" in analyzed(units, "verify", "--man=no", "./sipagent.service")[1]


@pytest.mark.parametrize("name", NAMES)
def test_little_is_left_to_do_harm_with(units: Path, name: str) -> None:
    code, told = analyzed(units, "security", "--offline=yes", f"--threshold={EXPOSURE}", f"./{name}")
    assert code == 0, told


def setting(name: str, key: str) -> str:
    (line,) = [line for line in (UNITS / name).read_text().splitlines() if line.startswith(f"{key}=")]
    return line.partition("=")[2]


def test_times_fit() -> None:
    """A worker's longest wait for its restart must not starve the watchdog, nor the stop be cut short."""
    assert float(setting("sipagent.service", "WatchdogSec")) / 2 > max(BACKOFF_S) + 3
    assert float(setting("sipagent.service", "TimeoutStopSec")) > STOP_WITHIN_S


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_leaves_no_memory_on_the_disk(name: str) -> None:
    assert setting(name, "LimitCORE") == "0"


def test_only_the_control_process_gets_sigterm() -> None:
    """It drains first; workers that hear it too would end their calls at once."""
    for name in NAMES:
        assert setting(name, "KillMode") == "mixed"
