"""What a worker's process uses of the machine, for its state."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sipagent import tuning

EVERY_S = 0.2
"""With a hundred calls a look takes 0.2 ms, most of it to count the tasks, and the state goes up with every event."""


class Vitals:
    """The last look."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self._found: dict[str, Any] = {}

    def read(self, now_s: float) -> dict[str, Any]:
        """Fields of `orders.WorkerState`, `EVERY_S` old at most. `now_s` of the loop's clock."""
        if now_s >= self._due_s:
            self._due_s = now_s + EVERY_S
            self._found = {
                "cpu_s": round(time.process_time(), 3),
                "waited_s": round(tuning.waited_s(), 3),
                "rss_bytes": tuning.resident_bytes(),
                "tasks": len(asyncio.all_tasks()),
            }
        return self._found
