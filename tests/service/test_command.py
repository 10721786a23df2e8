"""`sipagent` as it is installed beside the units: what the service knows, an operator's command knows too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "asterisk-conf/systemd"
CONFIG = """
[agents.reception]
instructions = "Be kind."
[numbers]
"*" = "reception"
[trunks.carrier]
preset = "telnyx"
numbers = ["+12125550123"]
auth = { user = "acme" }
"""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """As installed, except that its places lie in `tmp_path` and that sudo changes nobody."""
    text = (FOLDER / "sipagent").read_text()
    text = re.sub(r"(?<=[ =])/(?=etc|var|run)", f"{tmp_path}/", text)
    script = tmp_path / "sipagent"
    script.write_text(text.replace("/opt/sipagent/bin", str(Path(sys.executable).parent)))
    (tmp_path / "sudo").write_text('#!/bin/sh\n[ "$1 $2" = "-u sipagent" ] && shift 2 && exec env "$@"\n')
    for made in (script, tmp_path / "sudo"):
        made.chmod(0o755)
    for made in ("etc/sipagent", "var/lib/sipagent", "run/credentials/sipagent.service"):
        (tmp_path / made).mkdir(parents=True)
    (tmp_path / "etc/sipagent/sipagent.toml").write_text(CONFIG)
    return script


def run(script: Path, *arguments: str) -> tuple[int, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SIPAGENT_", "CREDENTIALS_"))}
    env |= {"PATH": f"{script.parent}:{env['PATH']}"}
    (script.parent / "here").mkdir(exist_ok=True)
    done = subprocess.run(
        [script, *arguments], cwd=script.parent / "here", env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_password_that_systemd_handed_to_the_service_is_there(command: Path) -> None:
    code, told = run(command, "asterisk", "render")
    assert code == 1
    assert "trunks.carrier.auth.password: needed" in told
    secret = command.parent / "run/credentials/sipagent.service/trunks__carrier__auth__password"
    secret.write_text("from-systemd")
    code, told = run(command, "asterisk", "render")
    assert (code, "[carrier]" in told) == (0, True), told


def test_its_folders_are_the_services() -> None:
    unit = (FOLDER / "sipagent.service").read_text()
    folders = re.findall(r"SIPAGENT_\w+=\S+", (FOLDER / "sipagent").read_text())
    assert folders
    assert set(folders) <= set(re.findall(r"SIPAGENT_\w+=\S+", unit))
