"""The private root: what it says it holds, and how its programs are run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sipagent.asterisk import root as root_module
from sipagent.asterisk.root import Manifest, Package, Root, asterisk_version, cache_dir, find_root
from sipagent.errors import ToolError

MANIFEST = Manifest("amd64", ("sipp", "asterisk"), (Package("b", "2:1-1", "b_2%3a1-1_amd64.deb", "00"),))


def test_manifest_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(MANIFEST.to_json())
    again = Manifest.load(file)
    assert again == Manifest("amd64", ("asterisk", "sipp"), MANIFEST.packages)
    assert again.version("b") == "2:1-1"
    assert again.version("none") == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "architecture": "x"}', "null"])
def test_a_damaged_manifest_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(text)
    assert Manifest.load(file) is None
    assert Manifest.load(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Asterisk 22.10.1+dfsg+~cs6.17", (22, 10)),
        ("Asterisk 20.4.0", (20, 4)),
        ("Asterisk certified/20.7-cert3", (20, 7)),
        ("Asterisk certified-22.8-cert1", (22, 8)),
        ("Asterisk GIT-master-1234", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_asterisk_version(text: str, version: tuple[int, int]) -> None:
    assert asterisk_version(text) == version


def fake_program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{text}'\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("text", "used"), [("Asterisk 22.5.0", True), ("Asterisk 22.4.1", False), ("x", False)])
def test_an_installed_asterisk_is_used_when_recent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, used: bool
) -> None:
    for name in ("asterisk", "sipp", "flite"):
        fake_program(tmp_path / "bin", name, text)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("SIPAGENT_CACHE", str(tmp_path / "cache"))
    found = find_root()
    assert (found is not None) == used
    if found:
        assert found.command("asterisk") == [str(tmp_path / "bin" / "asterisk")]
        assert found.command("sipp") == [str(tmp_path / "bin" / "sipp")]


def test_a_missing_tool_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_module, "_on_path", lambda _: "")
    with pytest.raises(ToolError, match="--tool baresip"):
        Root(None).command("baresip")


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SIPAGENT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "sipagent"
    monkeypatch.setenv("SIPAGENT_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


@pytest.mark.e2e
@pytest.mark.parametrize(("tool", "arguments", "says"), [("sipp", ["-v"], "SIPp"), ("flite", ["-lv"], "slt")])
def test_the_tools_run_from_the_root(root: Root, tool: str, arguments: list[str], says: str) -> None:
    answer = subprocess.run([*root.command(tool), *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert says in answer.stdout


@pytest.mark.e2e
def test_flite_speaks_from_the_root(root: Root, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    command = [*root.command("flite"), "-voice", "slt", "-t", "good morning", "-o", str(out)]
    subprocess.run(command, timeout=10, check=True)
    assert out.read_bytes()[:4] == b"RIFF"
    assert out.stat().st_size > 10_000
