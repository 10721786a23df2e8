"""What only the garbage collector would find: a worker never collects while calls are up."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def left_by_a_call() -> Iterator[list[object]]:
    """Filled at the end of the block: our objects (but the stand-in's and the phone's) that are in a cycle by then."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += filter(_is_of_a_call, gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _is_of_a_call(item: object) -> bool:
    module = type(item).__module__
    return module.startswith("sipagent.") and not module.startswith(("sipagent.standin", "sipagent.phone"))
