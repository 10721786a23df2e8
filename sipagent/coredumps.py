"""No core dumps: a process image holds keys, passwords and what callers are saying.

The limit goes on to whatever the process starts, Asterisk among it. It does not bind a kernel that pipes dumps to a
program (`kernel.core_pattern`), so the process says for itself as well that it is not to be dumped; then nobody else of
the same user can read its memory or attach to it either. That mark ends with exec: each process of ours makes its own.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4
"""prctl(2)."""


def follow(*, wanted: bool) -> None:
    """`[log] core_dumps`: nothing is changed where they are wanted, the machine decides."""
    if wanted:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
