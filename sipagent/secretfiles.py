"""Passwords nobody chose: made at random on first use, kept in the run folder, readable by its user only.

They are ordinary secrets files (`section__key`), so the configuration reads them like any other.
"""

from __future__ import annotations

import secrets
from pathlib import Path

GENERATED = ("asterisk__password", "asterisk__phone_password")


def ensure(run_dir: Path) -> Path:
    """Make what is missing in `run_dir`/secrets; returns the folder."""
    folder = run_dir / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    folder.chmod(0o700)
    for name in GENERATED:
        file = folder / name
        if not file.exists():
            file.touch(mode=0o600)
            # Letters and digits only: a softphone's user types it.
            file.write_text("".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(16)))
    return folder
