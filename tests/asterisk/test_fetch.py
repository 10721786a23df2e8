"""The fetch: locked, never half done, and able to live on what it kept."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sipagent.asterisk import apt as apt_module
from sipagent.asterisk import fetch as fetch_module
from sipagent.asterisk.apt import Download, PrivateApt, keyring, pretended, system_mirror
from sipagent.asterisk.fetch import KEPT, fetch, main
from sipagent.asterisk.progress import Progress
from sipagent.asterisk.root import MANIFEST, Manifest, find_root
from sipagent.asterisk.sources import Source
from sipagent.errors import ToolError

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="not a Debian system")
MIRROR_AWAY = ToolError("apt-get update failed: E: no route")


def quiet() -> Progress:
    return Progress(io.StringIO())


def make_deb(folder: Path, name: str, files: dict[str, str]) -> Path:
    """A real package with a few files."""
    tree = folder / f"{name}-tree"
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@t.test>\nDescription: t\n"
    )
    (folder / "debs").mkdir(exist_ok=True)
    deb = folder / "debs" / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True, timeout=20)
    return deb


class FakeApt(PrivateApt):
    """Delivers packages that are in the cache already; `away` is what the mirror fails with."""

    away: ToolError | None = None
    downloads = 0

    def prepare(self) -> None:
        self.architecture = "amd64"

    def update(self, progress: object) -> None:
        if self.away:
            raise self.away

    def resolve(self, packages: list[str]) -> list[Download]:
        assert packages
        return [Download(f.name, f.stat().st_size) for f in sorted(self._debs.glob("*.deb"))]

    def download(self, packages: list[str], progress: object) -> None:
        type(self).downloads += 1


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two small packages and an apt that finds them; no Asterisk is installed."""
    monkeypatch.setenv("SIPAGENT_CACHE", str(tmp_path))
    monkeypatch.setattr(FakeApt, "away", None)
    monkeypatch.setattr(FakeApt, "downloads", 0)
    monkeypatch.setattr(fetch_module, "PrivateApt", FakeApt)
    monkeypatch.setattr(fetch_module, "installed_asterisk", lambda: "")
    monkeypatch.setattr("sipagent.asterisk.root.installed_asterisk", lambda: "")
    make_deb(tmp_path, "asterisk", {"usr/sbin/asterisk": "x", "usr/lib/tri/ld-linux-x.so.2": "x"})
    make_deb(tmp_path, "sounds", {"usr/share/asterisk/sounds/en_US_f_Allison/hello.gsm": "x"})
    return tmp_path


@needs_dpkg
def test_a_root_is_made_and_then_found(cache: Path) -> None:
    root = fetch(("asterisk",), progress=quiet())
    assert root.path is not None
    assert (root.path / "usr/share/asterisk/sounds/en/hello.gsm").read_text() == "x"
    assert root.command("asterisk")[-1] == str(root.path / "usr/sbin/asterisk")
    assert root.command("asterisk")[0].endswith("ld-linux-x.so.2")
    manifest = root.manifest()
    assert manifest is not None
    assert [(p.name, p.version, len(p.sha256)) for p in manifest.packages] == [
        ("asterisk", "1.0", 64),
        ("sounds", "1.0", 64),
    ]
    FakeApt.away = MIRROR_AWAY  # a ready root asks nobody
    assert find_root(("asterisk",)) == fetch(("asterisk",), progress=quiet()) == root


@needs_dpkg
def test_the_kept_set_serves_when_the_mirror_is_away(cache: Path) -> None:
    first = fetch(("asterisk",), progress=quiet())
    shutil.rmtree(cache / "roots")
    FakeApt.away = MIRROR_AWAY
    out = io.StringIO()
    again = fetch(("asterisk",), progress=Progress(out))
    assert again == first
    assert "mirror does not answer" in out.getvalue()


@needs_dpkg
def test_without_a_kept_set_the_mirrors_error_is_shown(cache: Path) -> None:
    FakeApt.away = MIRROR_AWAY
    with pytest.raises(ToolError, match=r"no kept set.*no route.*Check the network"):
        fetch(("asterisk",), progress=quiet())
    assert not (cache / "current").exists()


@needs_dpkg
def test_a_kept_set_that_was_changed_is_refused(cache: Path) -> None:
    fetch(("asterisk",), progress=quiet())
    shutil.rmtree(cache / "roots")
    (cache / "debs" / "sounds_1.0_all.deb").write_bytes(b"changed")
    FakeApt.away = MIRROR_AWAY
    with pytest.raises(ToolError, match=r"sounds_1\.0_all\.deb of the kept set in .* is missing or damaged"):
        fetch(("asterisk",), progress=quiet())


@needs_dpkg
def test_a_kept_set_does_not_serve_a_tool_it_lacks(cache: Path) -> None:
    fetch(("asterisk",), progress=quiet())
    FakeApt.away = MIRROR_AWAY
    with pytest.raises(ToolError, match="no kept set of packages serves asterisk, baresip"):
        fetch(("asterisk", "baresip"), progress=quiet())
    assert find_root(("asterisk",)) is not None  # what was there stays


@needs_dpkg
def test_a_broken_package_leaves_no_half_root_and_is_fetched_anew(cache: Path) -> None:
    broken = cache / "debs" / "broken_1.0_all.deb"
    broken.write_bytes(b"no package")
    with pytest.raises(ToolError, match=r"broken_1\.0_all\.deb does not unpack and was removed"):
        fetch(("asterisk",), progress=quiet())
    assert not broken.exists()
    assert not list((cache / "roots").iterdir())
    assert fetch(("asterisk",), progress=quiet()).path is not None


def on_path(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of ours in front of the system's."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@needs_dpkg
def test_a_full_disk_is_no_fault_of_the_packages(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(
        cache / "bin",
        "dpkg-deb",
        "echo 'dpkg-deb: error: cannot write: No space left on device' >&2; exit 2",
        monkeypatch,
    )
    with pytest.raises(ToolError, match=r"No space left on device while unpacking.*SIPAGENT_CACHE"):
        fetch(("asterisk",), progress=quiet())
    assert len(list((cache / "debs").glob("*.deb"))) == 2
    assert not list((cache / "roots").iterdir())


def test_a_cache_that_cannot_be_written_names_the_setting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("SIPAGENT_CACHE", str(cache / "file" / "cache"))
    with pytest.raises(ToolError, match=r"cannot be kept in .*/file/cache: .*SIPAGENT_CACHE"):
        fetch(("asterisk",), progress=quiet())


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SIPAGENT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ToolError, match=r"no home folder.*SIPAGENT_CACHE"):
        find_root(("asterisk",))


@needs_dpkg
def test_a_tool_more_makes_a_new_root_and_keeps_the_old_tools(cache: Path) -> None:
    first = fetch(("asterisk",), progress=quiet())
    make_deb(cache, "sipp", {"usr/bin/sipp": "x"})
    second = fetch(("sipp",), progress=quiet())
    assert second.path != first.path
    assert first.path is not None
    assert first.path.exists()  # an Asterisk may still run from it
    manifest = second.manifest()
    assert manifest is not None
    assert set(manifest.tools) == {"asterisk", "sipp"}


@needs_dpkg
def test_leftovers_of_a_killed_run_are_removed(cache: Path) -> None:
    stale = cache / "roots" / ".new-1"
    stale.mkdir(parents=True)
    fetch(("asterisk",), progress=quiet())
    assert not stale.exists()


@needs_dpkg
def test_old_package_files_are_forgotten(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = cache / "debs" / "sounds_0.9_all.deb"
    old.write_bytes(b"old")
    only_new = [Download(f.name, f.stat().st_size) for f in (cache / "debs").glob("*_1.0_all.deb")]
    monkeypatch.setattr(FakeApt, "resolve", lambda *_: only_new)
    fetch(("asterisk",), progress=quiet())
    assert not old.exists()
    kept = Manifest.load(cache / "debs" / KEPT)
    assert kept is not None
    assert {p.name for p in kept.packages} == {"asterisk", "sounds"}


@needs_dpkg
def test_two_runs_at_once_make_one_root(cache: Path, tmp_path: Path) -> None:
    """The second waits for the lock and then finds the root of the first."""
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(cache / "lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    with holder:
        holder.stdout.readline()

        class Release(io.StringIO):
            def write(self, text: str) -> int:
                if "waiting" in text:
                    holder.stdin.close()  # type: ignore[union-attr]
                return super().write(text)

        out = Release()
        assert fetch(("asterisk",), progress=Progress(out)).path is not None
    assert "Another fetch is running" in out.getvalue()


def test_an_unknown_tool_is_named() -> None:
    with pytest.raises(ToolError, match="unknown tool nmap"):
        fetch(("nmap",))


def test_the_command_says_what_is_wrong(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sipagent.asterisk.root._on_path", lambda _: "")
    monkeypatch.setattr(FakeApt, "away", MIRROR_AWAY)
    assert main([]) == 1
    assert "error: the Debian mirror did not deliver" in capsys.readouterr().err


class TestPrivateApt:
    @needs_dpkg
    def test_its_settings_point_nowhere_into_the_system(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mirror = Source("http://127.0.0.1:9/debian", ("bookworm",), ("main",), "/k.gpg")
        monkeypatch.setattr(apt_module, "system_mirror", lambda: mirror)
        apt = PrivateApt(tmp_path / "apt", tmp_path / "debs")
        apt.prepare()
        dump = subprocess.run(
            ["apt-config", "dump", "Dir"], env={**os.environ, "APT_CONFIG": str(tmp_path / "apt/apt.conf")},
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout  # fmt: skip
        settings = dict(line.rstrip(";").split(" ", 1) for line in dump.splitlines())
        for key in ("Dir::State", "Dir::State::lists", "Dir::Cache", "Dir::Cache::archives", "Dir::Etc::sourcelist"):
            assert json.loads(settings[key]).startswith(str(tmp_path)), key
        assert "http://127.0.0.1:9/debian sid main" in (tmp_path / "apt/sources.list").read_text()

    @needs_dpkg
    def test_an_unreachable_mirror_is_an_error_in_apts_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mirror = Source("http://127.0.0.1:9/debian", ("bookworm",), ("main",))
        monkeypatch.setattr(apt_module, "system_mirror", lambda: mirror)
        apt = PrivateApt(tmp_path / "apt", tmp_path / "debs")
        apt.prepare()
        with pytest.raises(ToolError, match=r"apt-get.*failed.*127\.0\.0\.1"):
            apt.update(lambda _: None)

    @needs_dpkg
    def test_a_full_disk_is_not_the_mirrors_fault(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mirror = Source("http://127.0.0.1:9/debian", ("bookworm",), ("main",), "/k.gpg")
        monkeypatch.setattr(apt_module, "system_mirror", lambda: mirror)
        apt = PrivateApt(tmp_path / "apt", tmp_path / "debs")
        on_path(
            tmp_path / "bin",
            "apt-get",
            "echo 'E: You don'\"'\"'t have enough free space in /x.'; exit 100",
            monkeypatch,
        )
        apt.prepare()
        with pytest.raises(OSError, match=r"apt-get install failed.*enough free space"):
            apt.download(["asterisk"], lambda _: None)

    def test_without_apt_it_points_to_other_ways(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ToolError, match=r"apt-get was not found.*docker compose.*22\.5"):
            PrivateApt(tmp_path / "apt", tmp_path / "debs").prepare()

    @needs_dpkg
    def test_without_a_debian_mirror_it_points_to_other_ways(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(apt_module, "system_mirror", lambda: None)
        with pytest.raises(ToolError, match="no Debian archive was found"):
            PrivateApt(tmp_path / "apt", tmp_path / "debs").prepare()


def test_the_systems_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/old.list.save").write_text("deb http://old.test/debian bookworm main\n")
    assert system_mirror(tmp_path) is None
    (tmp_path / "sources.list").write_text("deb http://mirror.test/debian trixie main\n")
    mirror = system_mirror(tmp_path)
    assert mirror is not None
    assert mirror.uri == "http://mirror.test/debian"


def test_the_keyring_is_debians_or_the_sources(tmp_path: Path) -> None:
    source = Source("http://m.test", ("sid",), ("main",), "/own.gpg")
    assert keyring(source, tmp_path) == "/own.gpg"
    (tmp_path / "debian-archive-keyring.gpg").touch()
    assert keyring(source, tmp_path) == str(tmp_path / "debian-archive-keyring.gpg")
    with pytest.raises(ToolError, match="debian-archive-keyring"):
        keyring(Source("http://m.test", ("sid",), ("main",)), tmp_path / "none")


def test_a_files_name_gives_package_and_version() -> None:
    download = Download("asterisk_1%3a22.10.1+dfsg-1_amd64.deb", 1)
    assert (download.name, download.version) == ("asterisk", "1:22.10.1+dfsg-1")


def test_pretended_packages_are_a_dpkg_status() -> None:
    stanzas = pretended("arm64").strip().split("\n\n")
    assert all("Status: install ok installed" in s and "Architecture: arm64" in s for s in stanzas)


def test_nothing_third_party_is_imported() -> None:
    """The fetch runs before the venv has any package."""
    check = (
        "import sys, sipagent.asterisk.fetch; "
        "sys.exit(','.join(m for m in sys.modules if m.split('.')[0] in ('numpy','soxr','aiohttp','pydantic')) or 0)"
    )
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-S", "-c", check], cwd=repository, check=True, timeout=20)


def test_a_root_without_its_manifest_is_not_used(cache: Path) -> None:
    root = fetch(("asterisk",), progress=quiet())
    assert root.path is not None
    (root.path / MANIFEST).unlink()
    assert find_root(("asterisk",)) is None
