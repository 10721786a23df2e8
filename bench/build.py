"""Makes what the benchmark needs beside Python: the C programs and a certificate for wss on loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sipagent.errors import ToolError

HERE = Path(__file__).parent
BUILD = HERE / ".build"
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
_LIBRARIES = ("-lssl", "-lcrypto", "-lm")


def program(name: str) -> Path:
    """`load`, `floor` or `flood`, compiled anew when a source is younger."""
    sources = sorted((HERE / "load").glob("*.c")) if name == "load" else [HERE / f"{name}.c"]
    sources.append(HERE / "wire.c")
    target = BUILD / name
    inputs = [*sources, HERE / "wire.h", *(HERE / "load").glob("*.h")]
    if not target.exists() or target.stat().st_mtime < max(path.stat().st_mtime for path in inputs):
        BUILD.mkdir(exist_ok=True)
        # Beside and renamed, so that a run that has just begun keeps its own.
        half = BUILD / f"{name}.part"
        _run("cc", *_FLAGS, "-o", str(half), *map(str, sources), *_LIBRARIES)
        half.replace(target)
    return target


def certificate() -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    file, key = BUILD / "cert.pem", BUILD / "key.pem"
    if not file.exists():
        BUILD.mkdir(exist_ok=True)
        _run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(file), "-days", "3650", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        )
    return file, key


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(f"{command[0]}: {error.strerror}: install gcc, OpenSSL and its headers") from None
    if done.returncode:
        raise ToolError(f"{' '.join(command[:2])} failed:\n{done.stderr}")
