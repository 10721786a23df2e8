"""What all tests share."""

import pytest
from hypothesis import settings

from sipagent.asterisk.root import Root
from tests.asterisk.fixtures import root

__all__ = ["flite", "root"]

# No per-example deadline: two cores are shared with a real Asterisk. Benchmarks measure time, tests do not.
settings.register_profile("sipagent", deadline=None)
settings.load_profile("sipagent")


@pytest.fixture(scope="session")
def flite(root: Root) -> tuple[str, ...]:
    """The speech synthesizer's command, from the private root like everything that is not Python."""
    return tuple(root.command("flite"))
