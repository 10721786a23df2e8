"""What would be read, imported or worked out when the first call needs it, with all other calls waiting: it is there.

In a thread, so that a worker takes calls meanwhile. The checker of functions' arguments is imported when a model first
calls one, numbering plans when a country first calls: some 20 and 150 ms, and many times that from a disk whose cache
is cold (the plans two seconds beside other work; the checker ten, with all that the tests install for it).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable

import structlog
from phonenumbers import SUPPORTED_SHORT_REGIONS, PhoneMetadata

from sipagent.audio import Law
from sipagent.house import Policy
from sipagent.tasks import told_if_failed
from sipagent.tones import SOUNDS, looped
from sipagent.tools import arguments

log = structlog.get_logger()

AFTER_S = 3.0
"""In its first seconds a worker takes over the calls of one that has died: nothing is to come between. No call has come
to a function by then."""
LOOK_AHEAD_EVERY_S = 600.0


def keep_ready(policy: Callable[[], Policy]) -> asyncio.Task[None]:
    """Until the task is cancelled; `policy` is the one in force."""
    keeping = asyncio.create_task(_keep_ready(policy), name="keep-ready")
    keeping.add_done_callback(told_if_failed)
    return keeping


async def _keep_ready(policy: Callable[[], Policy]) -> None:
    await asyncio.sleep(AFTER_S)
    began_s = time.monotonic()
    await asyncio.to_thread(prepare)
    log.info("prepared", seconds=round(time.monotonic() - began_s, 3))
    while True:
        await asyncio.to_thread(policy().routes.look_ahead, dt.datetime.now(dt.UTC))
        await asyncio.sleep(LOOK_AHEAD_EVERY_S)


def prepare() -> None:
    """Once in a process."""
    for name in SOUNDS:
        for law in Law:
            looped(name, law)
    arguments.prepare({"type": "object"})
    PhoneMetadata.load_all()
    for region in SUPPORTED_SHORT_REGIONS:
        PhoneMetadata.short_metadata_for_region(region)
