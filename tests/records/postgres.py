"""A real PostgreSQL for tests: the system's, or Debian's fetched into a folder of its own in the cache.

It listens on a Unix socket in its own data folder only. It refuses to run as root, so it runs as nobody there, who is
lent the right to look into folders that are not his.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.root import Root, cache_dir

USER = "sipagent"
START_TIMEOUT_S = 30.0


def programs(folder: Path) -> tuple[str, str]:
    """`initdb` and `postgres`, ready to run."""
    # A cache of its own: what PostgreSQL needs is none of Asterisk's business.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIPAGENT_CACHE", str(cache_dir() / "postgres"))
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        root = Root(None) if installed or shutil.which("postgres") else fetch(("postgres",))
    if root.path is None:
        postgres = (installed[-1] if installed else Path(shutil.which("postgres") or "")).resolve()
        return str(postgres.parent / "initdb"), str(postgres)
    return _shadow(root, root.path, folder)


def _shadow(root: Root, path: Path, folder: Path) -> tuple[str, str]:
    """initdb runs the postgres beside itself and reads files relative to it: both behind the root's own loader."""
    real = Path(root.command("postgres")[-1]).parent
    home = folder / real.relative_to(path).parent
    binaries = home / "bin"
    binaries.mkdir(parents=True)
    (folder / "usr/share").mkdir()
    (home / "lib").symlink_to(real.parent / "lib")
    for shared in ("postgresql", "zoneinfo"):
        (folder / "usr/share" / shared).symlink_to(path / "usr/share" / shared)
    loader, *options = root.loader()
    for name in ("initdb", "postgres"):
        script = binaries / name
        script.write_text(f'#!/bin/sh\nexec {loader} --argv0 "$0" {" ".join(options)} {real / name} "$@"\n')
        script.chmod(0o755)
    return str(binaries / "initdb"), str(binaries / "postgres")


@dataclass
class Postgres:
    """One server; `stop` and `start` as a test likes."""

    program: str
    data: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    databases: int = 0

    def start(self) -> None:
        command = [self.program, "-D", str(self.data), "-k", str(self.data), "-c", "listen_addresses=", "-F"]
        with (self.data / "log").open("ab") as log:
            self.process = subprocess.Popen([*_as_nobody(), *command], stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with psycopg.connect(self._address("postgres")):
                    return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    pytest.fail((self.data / "log").read_text())
                time.sleep(0.05)

    def stop(self) -> None:
        """At once, clients or not, as a power cut would."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(10)
            self.process = None

    def new_url(self) -> str:
        """A database that nobody has used."""
        self.databases += 1
        name = f"test_{self.databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{USER}@/{name}?host={self.data}"

    def _address(self, database: str) -> str:
        return f"host={self.data} user={USER} dbname={database}"


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    """A server for the length of the block. Its socket's path must be short: the kernel allows 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    initdb, program = programs(folder)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
    options = ["-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync"]
    subprocess.run([*_as_nobody(), initdb, *options], check=True, capture_output=True, timeout=60)
    postgres = Postgres(program, data)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    return ["setpriv", "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups", *rights]
