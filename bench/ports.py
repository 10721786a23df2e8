"""Blocks of UDP ports for a run, chosen at random so that two runs do not meet."""

from __future__ import annotations

import random
import socket

from sipagent.errors import ToolError

LOW, HIGH = 20000, 32700
"""Below the kernel's own choice and above Asterisk's default block, which a worker's must not overlap."""
_TRIES = 50


def free_block(count: int) -> int:
    """The first, even, of `count` UDP ports in a row that nobody holds now."""
    if count > HIGH - LOW - 2:
        raise ToolError(f"{count} UDP ports in a row are wanted, and there are {HIGH - LOW}: fewer calls at once")
    for _ in range(_TRIES):
        first = random.randrange(LOW, HIGH - count, 2)  # noqa: S311 - no secret
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise ToolError(f"no free block of {count} UDP ports in {LOW}-{HIGH}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
