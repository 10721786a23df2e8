"""The private root: Debian programs unpacked beside the system and run with their own loader.

`Root.command("asterisk")` is the one seam: a list of arguments to put in front of a program's own. It
names either the root's `ld-linux --library-path ...` or a program of the system. Reads the file system and
asks an installed Asterisk for its version; downloads nothing (`fetch` does).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipagent.errors import ToolError

PROGRAMS = {
    "asterisk": "usr/sbin/asterisk",
    "sipp": "usr/bin/sipp",
    "flite": "usr/bin/flite",
    "baresip": "usr/bin/baresip",
    "postgres": "usr/lib/postgresql/18/bin/postgres",
    "prometheus": "usr/bin/prometheus",
    "promtool": "usr/bin/promtool",
    "amtool": "usr/bin/amtool",
}
"""What a root may hold: name and place in it."""

DEFAULT_TOOLS = ("asterisk", "sipp", "flite")
"""What `make run` needs. The others are for the tests only: baresip judges our RTP, Prometheus our metrics and rules,
postgres serves."""

MINIMUM_ASTERISK = (22, 5)
"""REST over the events WebSocket came in March 2025, just before 22.5."""

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
_VERSION_TIMEOUT_S = 5.0  # `asterisk -V` prints and ends; a hung program must not hang the start


def cache_dir() -> Path:
    """Where kept packages and roots live: SIPAGENT_CACHE, else the XDG cache, else ~/.cache.

    Raises:
        ToolError: there is no place for it.
    """
    if own := os.environ.get("SIPAGENT_CACHE"):
        return Path(own).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "sipagent"
    try:
        return Path.home() / ".cache" / "sipagent"
    except RuntimeError:  # no HOME and no line in passwd: a container that runs as a bare number
        raise ToolError("this user has no home folder to keep packages in: set SIPAGENT_CACHE to a folder") from None


@dataclass(frozen=True, slots=True)
class Package:
    """One unpacked package, as the manifest records it."""

    name: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a root was made of: which tools it serves and every package with its sha256."""

    architecture: str
    tools: tuple[str, ...]
    packages: tuple[Package, ...]

    def to_json(self) -> str:
        """The manifest as indented JSON, packages by name."""
        packages = [
            {"name": p.name, "version": p.version, "file": p.file, "sha256": p.sha256}
            for p in sorted(self.packages, key=lambda p: p.name)
        ]
        head = {"format": MANIFEST_FORMAT, "architecture": self.architecture, "tools": sorted(self.tools)}
        return json.dumps({**head, "packages": packages}, indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> Manifest | None:
        """The manifest in a file; None when it is missing, damaged or of another format."""
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            if data["format"] != MANIFEST_FORMAT:
                return None
            packages = tuple(Package(p["name"], p["version"], p["file"], p["sha256"]) for p in data["packages"])
            return cls(data["architecture"], tuple(data["tools"]), packages)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def version(self, package: str) -> str:
        """A package's version, or the empty string."""
        return next((p.version for p in self.packages if p.name == package), "")


@dataclass(frozen=True, slots=True)
class Root:
    """Programs to run: from the private root at `path`, or the system's where `path` is None or lacks them."""

    path: Path | None
    asterisk: str = ""
    """An installed Asterisk that is recent enough; it goes before the root's."""

    def has(self, tool: str) -> bool:
        """Whether `command(tool)` would work."""
        return bool((tool == "asterisk" and self.asterisk) or self._inside(tool) or _on_path(tool))

    def command(self, tool: str) -> list[str]:
        """What to put in front of the tool's own arguments.

        Raises:
            ToolError: neither the root nor the system has the tool.
        """
        if tool == "asterisk" and self.asterisk:
            return [self.asterisk]
        if program := self._inside(tool):
            return [*self.loader(), str(program)]
        if program_on_path := _on_path(tool):
            return [program_on_path]
        raise ToolError(
            f"{tool} is neither in the private root nor on PATH: run `python3 -m sipagent.asterisk.fetch"
            f"{'' if tool in DEFAULT_TOOLS else f' --tool {tool}'}` (Debian) or install it"
        )

    def loader(self) -> list[str]:
        """The root's own dynamic loader with its library path; the system's libraries are never mixed in."""
        libraries = self.library_dir
        loaders = sorted(libraries.glob("ld-linux*.so.*"))
        if not loaders:
            raise ToolError(f"no dynamic loader in {libraries}: remove {self.path} and fetch again")
        return [str(loaders[0]), "--library-path", f"{libraries}:{libraries.parent}"]

    @property
    def library_dir(self) -> Path:
        """`usr/lib/<triplet>`, whatever the machine's triplet is."""
        if self.path is None:
            raise ToolError("there is no private root: run `python3 -m sipagent.asterisk.fetch`")
        for loader in sorted(self.path.glob("usr/lib/*/ld-linux*.so.*")):
            return loader.parent
        raise ToolError(f"{self.path} is not a complete root: remove it and fetch again")

    @property
    def asterisk_modules(self) -> Path:
        """Where Asterisk's modules are (`astmoddir`)."""
        if not self.asterisk:
            return self.library_dir / "asterisk" / "modules"
        lib = Path("/usr/lib")
        places = [*_installed("astmoddir"), *lib.glob("*-linux-gnu*/asterisk/modules"), lib / "asterisk/modules"]
        places += [Path("/usr/lib64/asterisk/modules"), Path("/usr/local/lib/asterisk/modules")]
        return _first_with(places, "res_ari.so", "modules")

    @property
    def asterisk_data(self) -> Path:
        """Asterisk's own data (`astdatadir`): sounds, documentation, static HTTP."""
        if not self.asterisk and self.path is not None:
            return self.path / "usr/share/asterisk"
        places = [*_installed("astdatadir"), Path("/usr/share/asterisk"), Path("/var/lib/asterisk")]
        return _first_with(places, "sounds", "data")

    @property
    def baresip_modules(self) -> Path:
        """baresip's `module_path`."""
        root = self.path if self.path and self._inside("baresip") else Path("/")
        return root / "usr/lib/baresip/modules"

    def manifest(self) -> Manifest | None:
        """What the root was made of; None without a root."""
        return Manifest.load(self.path / MANIFEST) if self.path else None

    def _inside(self, tool: str) -> Path | None:
        if self.path is None or tool not in PROGRAMS:
            return None
        program = self.path / PROGRAMS[tool]
        return program if program.exists() else None


def find_root(tools: tuple[str, ...] = DEFAULT_TOOLS) -> Root | None:
    """The root that is ready now and serves all of `tools`, or None: a fetch is needed. Costs milliseconds."""
    asterisk = installed_asterisk() if "asterisk" in tools else ""
    current = cache_dir() / "current"
    manifest = Manifest.load(current / MANIFEST)
    wanted = {tool for tool in tools if not (tool == "asterisk" and asterisk)}
    if manifest and wanted <= set(manifest.tools):
        return Root(current.resolve(), asterisk)
    # No root: the system may hold everything (a container image, a distribution with Asterisk 22).
    if (asterisk or "asterisk" not in tools) and all(_on_path(tool) for tool in wanted):
        return Root(None, asterisk)
    return None


def installed_asterisk() -> str:
    """The path of an installed Asterisk of 22.5 or later, or the empty string."""
    program = shutil.which("asterisk") or shutil.which("asterisk", path="/usr/sbin:/usr/local/sbin")
    if not program:
        return ""
    try:
        command = [program, "-V"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return program if asterisk_version(answer.stdout) >= MINIMUM_ASTERISK else ""


def asterisk_version(text: str) -> tuple[int, int]:
    """Major and minor of `Asterisk 22.10.1~dfsg+...`; (0, 0) when there is none, as in `Asterisk GIT-...`."""
    match = re.search(r"Asterisk (?:certified[/-])?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _on_path(tool: str) -> str:
    # An Asterisk on PATH that is too old must not slip in here.
    return "" if tool == "asterisk" else shutil.which(tool) or ""


def _installed(key: str) -> list[Path]:
    """A directory of the installed Asterisk's own asterisk.conf, if it names one."""
    try:
        text = Path("/etc/asterisk/asterisk.conf").read_text()
    except OSError:
        return []
    return [Path(m) for m in re.findall(rf"^{key}\s*=>?\s*(\S+)", text, re.MULTILINE)]


def _first_with(places: list[Path], entry: str, what: str) -> Path:
    for place in places:
        if (place / entry).exists():
            return place
    looked = ", ".join(str(p) for p in places)
    raise ToolError(f"no {what} of the installed Asterisk in {looked}: name the folder in /etc/asterisk/asterisk.conf")
