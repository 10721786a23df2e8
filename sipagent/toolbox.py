"""Composition root of the toolbox process: ``python -m sipagent.toolbox FILENO LOG``, started by a worker alone."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from sipagent import coredumps
from sipagent.config import LogSettings
from sipagent.observe import logs
from sipagent.tools import toolbox


def main(fileno: int, log_settings: str) -> None:
    """Serve the socket of this number until its other end is closed; `log_settings` is [log] as JSON."""
    settings = LogSettings(**json.loads(log_settings))
    coredumps.follow(wanted=settings.core_dumps)
    logs.configure(settings, process="toolbox")
    asyncio.run(toolbox.serve(fileno))
    # Not the ordinary way out: that waits for threads, and a function of the operator's may never return.
    sys.stdout.flush()
    logs.leave()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
