"""Passwords nobody chose: made at random on first use, kept in the run folder, readable by its user only.

They are files as other secrets are (`section__key`), but whatever somebody wrote goes over them.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from sipagent.config.base import GENERATED
from sipagent.errors import ToolError


def ensure(run_dir: Path) -> Path:
    """Make what is missing in `run_dir`/secrets; returns the folder.

    Raises:
        ToolError: it cannot be made there.
    """
    try:
        return _ensure(run_dir)
    except OSError as error:
        what = f"{error.filename or run_dir}: {error.strerror}"
        raise ToolError(f"{what}: run_dir (SIPAGENT_RUN_DIR) must be a folder of this user's own") from None


def _ensure(run_dir: Path) -> Path:
    folder = run_dir / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    folder.chmod(0o700)
    for name in GENERATED:
        if not (folder / name).exists():
            # Two processes may start at once: a file appears whole, and the first one stays.
            new = folder / f".{name}-{secrets.token_hex(4)}"
            new.touch(mode=0o600)
            # Letters and digits only: a softphone's user types it.
            new.write_text("".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(16)))
            with contextlib.suppress(FileExistsError):
                (folder / name).hardlink_to(new)
            new.unlink()
    return folder
