"""What the stand-in's tests share: where flite is."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest


@pytest.fixture(scope="session")
def flite() -> tuple[str, ...]:
    """The synthesizer's command: SIPAGENT_FLITE if set, else flite on PATH."""
    command = os.environ.get("SIPAGENT_FLITE")
    if command:
        return tuple(shlex.split(command))
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed (set SIPAGENT_FLITE to the command)")
    return ("flite",)
