"""What the stand-in's tests share: flite, a session with a fake clock, a server on a free port."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.standin.harness import Rig


@pytest.fixture(scope="session")
def flite() -> tuple[str, ...]:
    """The synthesizer's command: SIPAGENT_FLITE if set, else flite on PATH."""
    command = os.environ.get("SIPAGENT_FLITE")
    if command:
        return tuple(shlex.split(command))
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed (set SIPAGENT_FLITE to the command)")
    return ("flite",)


@pytest.fixture
def rig() -> Iterator[Any]:
    """Makes sessions with a fake clock."""
    yield Rig
