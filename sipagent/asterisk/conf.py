"""Asterisk's configuration for one run: `asterisk-conf/` copied with a dozen variables filled in.

A variable is a word in at-signs (`@SIP_PORT@`), because Asterisk's own syntax is full of dollars and
braces. There are no conditions and no loops; an unknown variable is an error. The rendered files hold
passwords, so the folder is 0700 and each file 0600.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sipagent.asterisk.root import Root
from sipagent.audio import SAMPLE_RATE_HZ, write_wav
from sipagent.config.base import ASTERISK_NAME, ASTERISK_SECRET, ASTERISK_SECTIONS, RTP_PORTS_A_CALL
from sipagent.errors import ConfigError
from sipagent.tones import hold_music

MAX_FILES = 65536
"""Asked for where the hard limit allows: 20 sockets a call leave room for some thousands."""

SOCKET_PATH_BYTES = 107
"""A Unix socket's path, sockaddr_un's 108 bytes less the closing zero."""

_FOLDERS = ("lib/agi-bin", "lib/keys", "log", "spool/recording", "spool/tmp", "spool/voicemail", "spool/monitor",
            "spool/cache", "music")  # fmt: skip
_INCLUDED = ("trunks.d", "dialplan.d", "acl.d", "queues.d", "voicemail.d")
_VARIABLE = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True, slots=True)
class AsteriskConfig:
    """Everything a run of Asterisk depends on. Ports are UDP and TCP port numbers; addresses are IP literals."""

    run_dir: Path
    ari_password: str = field(repr=False)
    phone_password: str = field(repr=False)
    conf_dir: Path | None = None
    """The folder to render; None for the one that comes with sipagent."""
    http_port: int = 8088
    sip_host: str = "127.0.0.1"
    sip_port: int = 5060
    rtp_ports: tuple[int, int] = (10000, 10999)
    """First and last; a call takes four."""
    workers: int = 1
    app: str = "sipagent"
    ari_user: str = "sipagent"
    phone_user: str = "phone"
    trunks_dir: Path | None = None
    """Hand-written trunk sections (`*.conf`), copied to `trunks.d`."""
    files: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Further files under `etc` and their text: trunks and transports (`asterisk/trunks.py`). They hold passwords."""
    tls_port: int = 0
    """Where the files make Asterisk hear SIP over TLS; 0: nowhere."""
    ice: bool = False
    """For browsers; off without them, since it has deadlocked (asterisk/asterisk #1946)."""

    def __post_init__(self) -> None:
        if not self.run_dir.is_absolute():
            object.__setattr__(self, "run_dir", self.run_dir.absolute())
        first, last = self.rtp_ports
        if not 1024 <= first < last <= 65535 or last - first + 1 < RTP_PORTS_A_CALL:
            raise ConfigError(f"asterisk.rtp_ports {first}-{last}: first and last of 1024-65535, four ports a call")
        for name in ("http_port", "sip_port"):
            if not 0 < getattr(self, name) < 65536:
                raise ConfigError(f"asterisk.{name} is {getattr(self, name)}: a port is 1 to 65535")
        if not 0 <= self.tls_port < 65536:
            raise ConfigError(f"asterisk.tls_port is {self.tls_port}: a port is 1 to 65535, or 0 for no TLS")
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}: at least one worker takes calls")
        for name in ("app", "ari_user", "phone_user"):
            value = getattr(self, name)
            if not ASTERISK_NAME.fullmatch(value) or value in ASTERISK_SECTIONS:
                raise ConfigError(f"asterisk.{name} is {value!r}: letters, digits, dot, dash; no name of Asterisk's")
        for name in ("ari_password", "phone_password"):
            if not ASTERISK_SECRET.fullmatch(getattr(self, name)):
                raise ConfigError(f"asterisk.{name} must be printable ASCII without blanks and semicolons")

    @property
    def etc(self) -> Path:
        """The rendered configuration."""
        return self.run_dir / "etc"

    @property
    def log_file(self) -> Path:
        """Asterisk's log (logger.conf)."""
        return self.run_dir / "log" / "messages.log"

    @property
    def console_file(self) -> Path:
        """What Asterisk prints before its logger is up."""
        return self.run_dir / "log" / "console.log"

    @property
    def ari_url(self) -> str:
        """The base of ARI's requests; the events socket is beside it."""
        return f"http://127.0.0.1:{self.http_port}/ari"

    @property
    def socket_dir(self) -> Path:
        """Where the command socket is: the run folder, or a short one where its path would be too long."""
        if len(os.fsencode(self.run_dir / "asterisk.ctl")) <= SOCKET_PATH_BYTES:
            return self.run_dir
        digest = hashlib.sha256(os.fsencode(self.run_dir)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"sipagent-{os.getuid()}-{digest}"


def default_conf_dir() -> Path:
    """`asterisk-conf/`: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).parent / "asterisk-conf"
    return package if package.is_dir() else Path(__file__).parents[2] / "asterisk-conf"


def render(config: AsteriskConfig, root: Root) -> Path:
    """Write the run folder; returns the path of its asterisk.conf.

    Raises:
        ConfigError: the configuration folder is missing, or names a variable that there is not.
    """
    texts = rendered(config, root)
    for directory in (config.run_dir, config.etc, config.socket_dir):
        _private(directory)
    for part in _FOLDERS:
        (config.run_dir / part).mkdir(parents=True, exist_ok=True)
    for part in _INCLUDED:
        (config.etc / part).mkdir(exist_ok=True)
    for name, text in texts.items():
        _write(config.etc / name, text)
    (config.run_dir / "music" / "hold.wav").write_bytes(write_wav(hold_music(), SAMPLE_RATE_HZ))
    for old in config.etc.rglob("*.conf"):
        if str(old.relative_to(config.etc)) not in texts:
            old.unlink()
    return config.etc / "asterisk.conf"


def rendered(config: AsteriskConfig, root: Root) -> dict[str, str]:
    """The whole configuration as text by file name under `etc`, nothing written. Raises as `render`."""
    source = config.conf_dir or default_conf_dir()
    if not (source / "asterisk.conf").is_file():
        raise ConfigError(f"{source} is not a folder of Asterisk configuration: asterisk.conf is missing there")
    variables = _variables(config, root)
    out = {file.name: fill(file.read_text(), variables, str(file)) for file in sorted(source.glob("*.conf"))}
    by_hand = config.trunks_dir or source / "trunks.d"
    out |= {f"trunks.d/{file.name}": file.read_text() for file in sorted(by_hand.glob("*.conf"))}
    if both := out.keys() & config.files.keys():
        raise ConfigError(f"{source}: {min(both)} is rendered from sipagent.toml too; rename one of the trunks")
    return out | dict(config.files)


def fill(text: str, variables: dict[str, str], name: str) -> str:
    """Replace each `@VARIABLE@`; ConfigError with file and line for one that there is not."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            line = text.count("\n", 0, match.start()) + 1
            known = ", ".join(sorted(variables))
            raise ConfigError(f"{name} line {line}: unknown variable @{match[1]}@; known: {known}")
        return variables[match[1]]

    return _VARIABLE.sub(value, text)


def _variables(config: AsteriskConfig, root: Root) -> dict[str, str]:
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    unlimited = hard_limit == resource.RLIM_INFINITY
    return {
        "RUN_DIR": str(config.run_dir),
        "SOCKET_DIR": str(config.socket_dir),
        "MODULES_DIR": str(root.asterisk_modules),
        "DATA_DIR": str(root.asterisk_data),
        "MAX_FILES": str(MAX_FILES if unlimited else min(MAX_FILES, hard_limit)),
        "SYSTEM_NAME": f"{config.app}-{config.sip_port}",
        "HTTP_PORT": str(config.http_port),
        "SIP_HOST": f"[{config.sip_host}]" if ":" in config.sip_host else config.sip_host,
        "SIP_PORT": str(config.sip_port),
        "RTP_START": str(config.rtp_ports[0]),
        "RTP_END": str(config.rtp_ports[1]),
        "ARI_USER": config.ari_user,
        "ARI_PASSWORD": config.ari_password,
        "PHONE_USER": config.phone_user,
        "PHONE_PASSWORD": config.phone_password,
        "ICE": "yes" if config.ice else "no",
        "APP": config.app,
        "WORKERS": str(config.workers),
    }


def _private(directory: Path) -> None:
    """A folder of this user's own: nobody else may read its passwords or put a socket there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise ConfigError(f"{directory} belongs to another user: set asterisk.run_dir to a folder of your own")
    directory.chmod(0o700)


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a running Asterisk may read it at any moment."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def remove_socket_dir(config: AsteriskConfig) -> None:
    """Take away the short folder of the command socket, if there was one."""
    if config.socket_dir != config.run_dir:
        shutil.rmtree(config.socket_dir, ignore_errors=True)
