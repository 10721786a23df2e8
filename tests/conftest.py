"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

import sipagent
from sipagent.asterisk.root import Root
from tests.asterisk.fixtures import root

__all__ = ["flite", "root"]


def pytest_configure() -> None:
    """A compiled module that is older than its source would be tested, and the source would not."""
    package = Path(sipagent.__file__).parent
    native = [package / "native.h", package / "native.pxd"]
    for compiled in package.rglob("*.so"):
        source = compiled.with_name(compiled.name.split(".")[0])
        sources = [source.with_suffix(".py"), source.with_suffix(".pxd"), *native]
        if compiled.stat().st_mtime < max(path.stat().st_mtime for path in sources):
            pytest.exit(f"{compiled.name} is older than its sources: `make venv-dev` compiles them anew", returncode=2)


# No per-example deadline: two cores are shared with a real Asterisk. Benchmarks measure time, tests do not.
settings.register_profile("sipagent", deadline=None)
settings.load_profile("sipagent")


@pytest.fixture(scope="session")
def flite(root: Root) -> tuple[str, ...]:
    """The speech synthesizer's command, from the private root like everything that is not Python."""
    return tuple(root.command("flite"))
