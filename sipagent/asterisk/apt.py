"""A private apt: its own state, lists and archive; reads the system's mirror and proxy, changes nothing.

apt checks signatures (InRelease by Debian's keyring, packages by the signed lists) as it always does; we
only tell it where to keep things. Needs no root. Standard library only.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sipagent.asterisk.sources import Source, debian_mirror
from sipagent.errors import ToolError

SUITE = "sid"
"""Asterisk left Debian's stable releases; sid alone carries 22."""

KEYRINGS = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
_UPDATE_TIMEOUT_S = 120.0  # 11 MB of lists; with the mirror silent apt itself gives up sooner (below)
_DOWNLOAD_TIMEOUT_S = 1200.0  # about 110 MB over a slow line of 1 Mbit/s
_CONNECT_TIMEOUT_S = 10  # apt's default of 30 s and retries would leave a user without network waiting
_RESOLVE_TIMEOUT_S = 60.0
_THE_SYSTEMS = re.compile(r"Acquire::(https?|ForceIPv[46]|tor|Check-Date|Max-FutureTime)\b")
_DISK_FULL = ("enough free space", os.strerror(errno.ENOSPC))  # apt looks beforehand; its methods do not
_COMPLAINTS = ("E:", "W:", "Err:", "Error:", "Warning:")  # the longer words are those of apt 3

_SETTINGS = """\
Dir::Etc::parts "{dir}/parts";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{dir}/state";
Dir::State::lists "{dir}/state/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Cache::archives "{debs}";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
APT::Architecture "{architecture}";
Debug::NoLocking "1";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "1";
Acquire::http::Timeout "{timeout}";
Acquire::https::Timeout "{timeout}";
// Mirrors that lag, or a machine whose clock is off, hold a sid InRelease past its Valid-Until (7 days).
// What is lost is protection from a replay of an old, but still signed, archive.
Acquire::Check-Valid-Until "false";
"""

_NOT_NEEDED = (
    # Interpreters and account tools of maintainer scripts, which never run here.
    "adduser", "debconf", "gnupg", "gpg", "passwd", "perl", "perl-base", "python3", "python3-minimal",
    "openssl-provider-legacy", "libasound2-data",
    # Libraries of modules that asterisk-conf/modules.conf does not load.
    "libcodec2-1.2",          # codec_codec2
    "libgmime-3.0-0t64",      # res_http_post
    "libical3t64",            # res_calendar; brings ICU, 10 MB
    "libiksemel3", "libiksemel-3.1t64",  # res_xmpp, chan_motif
    "libjack-jackd2-0",       # app_jack
    "libneon27t64",           # res_calendar_*
    "libodbc2",               # *_odbc
    "libportaudio2",          # chan_console
    "libpq5",                 # *_pgsql
    "libradcli4",             # *_radius
    "libsnmp45",              # res_snmp; brings Perl's library
    "libspandsp2t64",         # res_fax_spandsp
    "libsybdb5",              # *_tds
    "libunbound8",            # res_resolver_unbound
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Download:
    """One package file that the set needs, by apt's name for it in its archive directory."""

    file: str
    size: int

    @property
    def name(self) -> str:
        """The package's name: the part before the first underscore."""
        return self.file.split("_", 1)[0]

    @property
    def version(self) -> str:
        """The package's version; apt writes an epoch's colon as %3a."""
        return urllib.parse.unquote(self.file.split("_")[1])


class PrivateApt:
    """apt-get with everything of its own under `directory`; package files go to `debs`."""

    def __init__(self, directory: Path, debs: Path) -> None:
        self._dir, self._debs = directory, debs
        self._environment = dict(os.environ)
        self.architecture = ""

    def prepare(self) -> None:
        """Write apt's settings.

        Raises:
            ToolError: no apt or dpkg, or no Debian mirror in the system's lists.
        """
        for program in ("apt-get", "dpkg-deb", "dpkg", "apt-config"):
            if not shutil.which(program):
                raise ToolError(
                    f"{program} was not found, so Asterisk cannot be fetched here (that works on Debian 12 and 13): "
                    "use `docker compose up`, or install Asterisk 22.5 or later, SIPp and flite on this system"
                )
        mirror = system_mirror()
        if mirror is None:
            raise ToolError(
                "no Debian archive was found in /etc/apt/sources.list or /etc/apt/sources.list.d: Asterisk is "
                "fetched from Debian's mirror only; on other systems use `docker compose up`, or install "
                "Asterisk 22.5 or later, SIPp and flite"
            )
        self.architecture = _output(["dpkg", "--print-architecture"]).strip()
        for part in ("state/lists/partial", "cache", "nothing/partial", "parts"):
            (self._dir / part).mkdir(parents=True, exist_ok=True)
        (self._debs / "partial").mkdir(parents=True, exist_ok=True)
        (self._dir / "sources.list").write_text(f"deb [signed-by={keyring(mirror)}] {mirror.uri} {SUITE} main\n")
        (self._dir / "status").write_text(pretended(self.architecture))
        settings = _SETTINGS.format(
            dir=self._dir, debs=self._debs, architecture=self.architecture, timeout=_CONNECT_TIMEOUT_S
        )
        conf = self._dir / "apt.conf"
        conf.write_text(_system_network_settings() + settings)
        self._environment = {**os.environ, "APT_CONFIG": str(conf), "LC_ALL": "C.UTF-8"}

    def update(self, progress: Callable[[str], None]) -> None:
        """Fetch the package lists of sid."""
        self._run(["apt-get", "update"], _UPDATE_TIMEOUT_S, progress)

    def resolve(self, packages: list[str]) -> list[Download]:
        """Every package file that `packages` need, whether kept already or not."""
        try:
            return self._resolve(packages)
        except ToolError:
            # Perhaps Debian now wants an exact version of what we pretend to have: 60 MB more, then.
            (self._dir / "status").write_text("")
            return self._resolve(packages)

    def _resolve(self, packages: list[str]) -> list[Download]:
        # An empty archive directory: apt prints only what it does not have yet.
        command = ["apt-get", "-y", "-o", f"Dir::Cache::archives={self._dir}/nothing", "--print-uris", "install"]
        answer = self._run([*command, *packages], _RESOLVE_TIMEOUT_S)
        found = re.findall(r"^'[^']+' (\S+\.deb) (\d+)", answer, re.MULTILINE)
        if not found:
            raise ToolError(f"apt found nothing to fetch for {' '.join(packages)} in {SUITE}")
        return [Download(file, int(size)) for file, size in found]

    def download(self, packages: list[str], progress: Callable[[str], None]) -> None:
        """Fetch what is missing of a resolved set; partial files of a broken run are taken up again."""
        command = ["apt-get", "-y", "--download-only", "install", *packages]
        self._run(command, _DOWNLOAD_TIMEOUT_S, progress)

    def _run(self, command: list[str], timeout_s: float, progress: Callable[[str], None] | None = None) -> str:
        """Run apt-get; its status lines (`dlstatus:n:percent:text`) become progress.

        Raises:
            ToolError: with apt's own words, on failure or when the time is up.
            OSError: the disk is full.
        """
        # The status lines share one pipe with the normal output, so that one reader serves both.
        options = ["-q", "-o", "APT::Status-Fd=1"] if progress else ["-q"]
        with subprocess.Popen(
            [command[0], *options, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            text=True,
        ) as process:
            try:
                lines = _read(process, timeout_s, progress)
            except BaseException:  # Ctrl-C as well as a time-out: partial files stay and are resumed
                process.kill()
                raise
        if process.returncode:
            words = [line for line in lines if line.startswith(_COMPLAINTS)] or lines[-5:]
            step = "update" if "update" in command else "install"
            text = f"apt-get {step} failed: " + " | ".join(dict.fromkeys(words))
            if any(sign in text for sign in _DISK_FULL):
                raise OSError(errno.ENOSPC, text)  # no fault of the mirror's
            raise ToolError(text)
        return "\n".join(lines)


def _read(process: subprocess.Popen[str], timeout_s: float, progress: Callable[[str], None] | None) -> list[str]:
    lines: list[str] = []
    late = threading.Timer(timeout_s, process.kill)
    late.start()
    try:
        assert process.stdout is not None  # noqa: S101  (PIPE above)
        for line in process.stdout:
            match = re.match(r"dlstatus:\d+:([\d.]+):(.*)", line)
            if match and progress:
                progress(f"{float(match[1]):.0f} %")
            elif not match:
                lines.append(line.rstrip())
        process.wait()
    finally:
        timed_out = not late.is_alive()
        late.cancel()
    if timed_out:
        raise ToolError(f"apt-get was stopped after {timeout_s:.0f} s; what it got is kept: run again")
    return lines


def system_mirror(etc: Path = Path("/etc/apt")) -> Source | None:
    """The Debian archive that the system itself uses."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    return debian_mirror(
        (f.name, f.read_text(errors="replace")) for f in files if f.suffix in (".list", ".sources") and f.is_file()
    )


def keyring(mirror: Source, directory: Path = Path("/usr/share/keyrings")) -> str:
    """Debian's whole archive keyring; the source's own key file where that is missing."""
    for name in KEYRINGS:
        if (directory / name).exists():
            return str(directory / name)
    if mirror.signed_by:
        return mirror.signed_by
    raise ToolError(f"no Debian keyring in {directory}: install the package debian-archive-keyring")


def pretended(architecture: str) -> str:
    """A dpkg status that declares as installed what no program of ours ever uses (the way of `equivs`).

    A name that Debian has since changed merely brings its package back: a larger download, nothing broken.
    """
    stanza = "Package: {}\nStatus: install ok installed\nVersion: 999:0\nArchitecture: {}\nMulti-Arch: allowed\n"
    return "\n".join(stanza.format(name, architecture) for name in _NOT_NEEDED)


def _system_network_settings() -> str:
    """The system's own proxy, TLS and clock settings for apt; its hooks (`Post-Invoke`) stay out."""
    dump = _output(["apt-config", "dump", "Acquire"])
    kept = [line for line in dump.splitlines() if _THE_SYSTEMS.match(line)]
    return "\n".join(kept) + "\n" if kept else ""


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"{' '.join(command)} failed: {error}") from error
