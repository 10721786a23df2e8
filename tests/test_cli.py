"""The command line as a whole: every command is found, and loads what it needs."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sipagent import cli
from sipagent.cli import node, policy
from sipagent.errors import ToolError

CONFIG = '[agents.a]\ninstructions = "x"\n[numbers]\n"*" = "a"\n'
HEAVY = ("fastapi", "uvicorn", "sqlalchemy", "mcp", "opentelemetry", "pocketsphinx", "sipagent.app", "sipagent.demo")


def test_every_command_of_every_module_is_listed() -> None:
    declared: dict[str, str] = {}
    for module in pkgutil.iter_modules(cli.__path__):
        if app := getattr(importlib.import_module(f"sipagent.cli.{module.name}"), "app", None):
            declared |= dict.fromkeys(typer.main.get_group(app).commands, module.name)
    assert declared == cli.MODULES
    told = CliRunner().invoke(cli.app, ["--help"])
    assert told.exit_code == 0
    assert [line.split()[0] for line in told.output.partition("Commands:\n")[2].splitlines() if line[2:3].isalpha()][
        : len(cli.MODULES)
    ] == list(cli.MODULES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], "Did you mean 'check'?"),
        (["worker", "0"], "greater than or equal to 1"),
        ([], "Usage: sipagent"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str) -> None:
    told = CliRunner().invoke(cli.app, arguments)
    assert told.exit_code == 2
    assert said in told.output


def test_a_reload_tells_what_did_not_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answered(work: Coroutine[Any, Any, Any]) -> tuple[int, dict[str, Any]]:
        work.close()
        return 200, {"needs_restart": [], "note": "no Asterisk answers"}

    monkeypatch.setattr(node, "run_async", answered)
    (tmp_path / "sipagent.toml").write_text(CONFIG)
    told = CliRunner().invoke(node.app, ["reload", "--config", str(tmp_path / "sipagent.toml")])
    assert told.output.splitlines() == ["reloaded; new calls follow the new configuration", "but no Asterisk answers"]


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "sipagent.toml").write_text(CONFIG)
    arguments = ["flow-graph", "--config", str(tmp_path / "sipagent.toml"), "--svg", str(tmp_path / "none" / "x.svg")]
    told = CliRunner().invoke(policy.app, arguments)
    assert isinstance(told.exception, ToolError)
    assert str(told.exception) == f"{tmp_path}/none/x.svg: No such file or directory"


def test_a_worker_is_started_with_what_a_worker_needs() -> None:
    """A caller may be waiting for it."""
    code = f"import sys, sipagent.cli as c; c.Commands()['worker']; print([n for n in {HEAVY!r} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
