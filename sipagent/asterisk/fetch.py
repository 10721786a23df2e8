"""Fetches Asterisk and the tools beside it into a private root: no root rights, nothing of the system changed.

Run it as `python3 -m sipagent.asterisk.fetch` before any package of ours is installed: standard library
only. A complete root is used as it is; kept packages are used when the mirror does not answer. A root is
unpacked beside and moved into place, so a half-finished one is never used. It refuses systems without apt
and leaves an installed Asterisk of 22.5 or later in charge where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sipagent.asterisk.apt import Download, PrivateApt
from sipagent.asterisk.progress import Progress
from sipagent.asterisk.root import (
    DEFAULT_TOOLS,
    MANIFEST,
    Manifest,
    Package,
    Root,
    cache_dir,
    find_root,
    installed_asterisk,
)
from sipagent.errors import ToolError

TOOL_PACKAGES = {
    "asterisk": ("asterisk", "asterisk-modules"),
    "sipp": ("sip-tester",),
    "flite": ("flite",),
    "baresip": ("baresip-core",),
    "postgres": ("postgresql-18",),
    "prometheus": ("prometheus",),
    "amtool": ("prometheus-alertmanager",),
}
"""Debian's package names. One suite, one loader: a tool more is a name more here."""

KEPT = "kept.json"
_LOCK_TIMEOUT_S = 1200.0  # as long as a download over a slow line may take
_UNPACK_TIMEOUT_S = 120.0  # one package; the largest takes about a second
_OLD_ROOTS_KEPT = 1  # the one before: an Asterisk that runs from it still loads modules


def fetch(tools: tuple[str, ...] = DEFAULT_TOOLS, *, update: bool = False, progress: Progress | None = None) -> Root:
    """The root that serves `tools`: the ready one if there is one, else fetched and unpacked now.

    With `update` the mirror is asked for newer packages even though a root is ready.

    Raises:
        ToolError: no apt, no mirror and nothing kept, a package that does not unpack, or a cache that cannot be
            written.
    """
    if unknown := set(tools) - set(TOOL_PACKAGES):
        raise ToolError(f"unknown tool {', '.join(sorted(unknown))}; known: {', '.join(TOOL_PACKAGES)}")
    if not update and (root := find_root(tools)):
        return root
    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return _fetch(cache, tools, update=update, progress=progress or Progress())
    except OSError as error:  # read-only, another user's, full
        raise ToolError(
            f"the packages cannot be kept in {cache}: {error}. Free some space or give this user rights there, "
            "or set SIPAGENT_CACHE to another folder (400 MB)"
        ) from error


def _fetch(cache: Path, tools: tuple[str, ...], *, update: bool, progress: Progress) -> Root:
    with _lock(cache / "lock", progress):
        if not update and (root := find_root(tools)):  # another run has just made it
            return root
        asterisk = installed_asterisk()
        present = Manifest.load(cache / "current" / MANIFEST)
        # A root never shrinks: what an earlier run asked for stays.
        wanted = {t for t in tools if not (t == "asterisk" and asterisk)} | set(present.tools if present else ())
        try:
            manifest = _download(cache, sorted(wanted), progress)
        finally:
            progress.close()
        return Root(_install(cache, manifest, progress), asterisk)


def _download(cache: Path, tools: list[str], progress: Progress) -> Manifest:
    """Bring the package files; fall back to the kept set when the mirror does not answer."""
    debs = cache / "debs"
    apt = PrivateApt(cache / "apt", debs)
    apt.prepare()
    packages = [package for tool in tools for package in TOOL_PACKAGES[tool]]
    try:
        progress.step("Asking the Debian mirror for its package list")
        apt.update(progress.update)
        downloads = apt.resolve(packages)
        progress.done(f"{len(downloads)} packages needed")
        missing = [d for d in downloads if not _complete(debs / d.file, d.size)]
        if missing:
            megabytes = sum(d.size for d in missing) / 1e6
            progress.step(f"Fetching {len(missing)} packages, {megabytes:.0f} MB ({', '.join(tools)})")
            apt.download(packages, progress.update)
            progress.done()
    except ToolError as error:
        return _kept_set(debs, apt.architecture, tools, error, progress)
    manifest = Manifest(apt.architecture, tuple(tools), tuple(_record(debs, d) for d in downloads))
    _write(debs / KEPT, manifest.to_json())
    _forget_old(debs, manifest)
    return manifest


def _kept_set(debs: Path, architecture: str, tools: list[str], error: ToolError, progress: Progress) -> Manifest:
    """The last complete download, if all of it is still there and unchanged; else the mirror's error."""
    kept = Manifest.load(debs / KEPT)
    if kept is None or kept.architecture != architecture or not set(tools) <= set(kept.tools):
        raise ToolError(
            f"the Debian mirror did not deliver and no kept set of packages serves {', '.join(tools)}: {error}. "
            "Check the network and the mirror in /etc/apt, then run again; what was fetched is kept"
        ) from error
    for package in kept.packages:
        if _sha256(debs / package.file) != package.sha256:
            raise ToolError(
                f"the mirror did not deliver and {package.file} of the kept set in {debs} is missing or damaged: "
                f"{error}. Check the network and the mirror in /etc/apt, then run again to fetch it anew"
            )
    progress.note(f"The mirror does not answer; using the {len(kept.packages)} packages kept in {debs} ({error})")
    return kept


def _install(cache: Path, manifest: Manifest, progress: Progress) -> Path:
    """Unpack the set beside, move it into place, point `current` at it."""
    roots = cache / "roots"
    roots.mkdir(exist_ok=True)
    for stale in roots.glob(".new-*"):  # a run that was killed; the lock says nobody is at it now
        shutil.rmtree(stale, ignore_errors=True)
    digest = hashlib.sha256("".join(sorted(p.sha256 for p in manifest.packages)).encode()).hexdigest()
    root = roots / digest[:16]
    if Manifest.load(root / MANIFEST) is None:
        shutil.rmtree(root, ignore_errors=True)
        new = roots / f".new-{os.getpid()}"
        try:
            _unpack(cache / "debs", manifest, new, progress)
            _mend(new)
            new.rename(root)
        except BaseException:  # Ctrl-C too: half a root must never be taken for a whole one
            progress.close()
            shutil.rmtree(new, ignore_errors=True)
            raise
    _write(root / MANIFEST, manifest.to_json())
    pointer = cache / f".current-{os.getpid()}"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(Path("roots") / root.name)
    pointer.replace(cache / "current")
    others = sorted((r for r in roots.iterdir() if r != root), key=lambda r: r.stat().st_mtime, reverse=True)
    for old in others[_OLD_ROOTS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return root


def _unpack(debs: Path, manifest: Manifest, target: Path, progress: Progress) -> None:
    """Unpack every package, several at a time: xz keeps each core busy."""
    target.mkdir(parents=True)
    total = len(manifest.packages)
    progress.step(f"Unpacking {total} packages")
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2))
    try:
        files = [debs / package.file for package in manifest.packages]
        files.sort(key=lambda file: file.stat().st_size, reverse=True)  # the large ones first: even load
        for count, _ in enumerate(pool.map(lambda file: _unpack_one(file, target), files), 1):
            progress.update(f"{count} of {total}")
    finally:
        pool.shutdown(cancel_futures=True)
    progress.done()


def _unpack_one(file: Path, target: Path) -> None:
    try:
        subprocess.run(
            ["dpkg-deb", "-x", str(file), str(target)],
            capture_output=True, timeout=_UNPACK_TIMEOUT_S, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()
        if os.strerror(errno.ENOSPC) in words:  # dpkg's message; LC_ALL keeps it English
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} while unpacking {file.name}") from error
        file.unlink(missing_ok=True)
        raise ToolError(f"{file.name} does not unpack and was removed ({words}): run again to fetch it anew") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{file.name} took more than {_UNPACK_TIMEOUT_S:.0f} s to unpack: is the disk full?") from error


def _mend(root: Path) -> None:
    """Do what Debian's postinst would: the one link without which every `sound:` fails."""
    sounds = root / "usr/share/asterisk/sounds"
    voice = sounds / "en_US_f_Allison"
    if voice.exists() and not (sounds / "en").exists():
        (sounds / "en").symlink_to(voice.name)


def _record(debs: Path, download: Download) -> Package:
    return Package(download.name, download.version, download.file, _sha256(debs / download.file))


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError:
        return ""


def _complete(file: Path, size: int) -> bool:
    return file.exists() and file.stat().st_size == size


def _forget_old(debs: Path, manifest: Manifest) -> None:
    """Drop package files of earlier versions: sid moves weekly and the cache would grow by 100 MB each time."""
    needed = {package.file for package in manifest.packages}
    for file in debs.glob("*.deb"):
        if file.name not in needed:
            file.unlink()


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}-{os.getpid()}")
    new.write_text(text)
    new.replace(path)


@contextlib.contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    """Only one run at a time works on the cache; the others wait and say so."""
    with path.open("a") as file:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ToolError(f"another fetch holds {path} for {_LOCK_TIMEOUT_S:.0f} s: end it") from None
            if not told:
                progress.note("Another fetch is running; waiting for it")
                told = True
            time.sleep(0.2)
        yield


def main(arguments: list[str] | None = None) -> int:
    """The command: prints the root's place; 1 with a plain message when it cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python3 -m sipagent.asterisk.fetch",
        description="Fetch Asterisk 22 and its tools into a private root (Debian 12 and 13, no root rights).",
    )
    parser.add_argument("--tool", action="append", default=[], help=f"one tool more of: {', '.join(TOOL_PACKAGES)}")
    parser.add_argument("--update", action="store_true", help="ask the mirror for newer packages")
    parser.add_argument("--list", action="store_true", help="print the packages with version and sha256")
    options = parser.parse_args(arguments)
    try:
        root = fetch((*DEFAULT_TOOLS, *options.tool), update=options.update)
    except ToolError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; what was fetched is kept, run again to go on\n")
        return 130
    manifest = root.manifest()
    if options.list and manifest:
        for package in manifest.packages:
            sys.stdout.write(f"{package.sha256}  {package.name} {package.version}\n")
    sys.stdout.write(f"{root.path or 'all tools are installed on this system'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
