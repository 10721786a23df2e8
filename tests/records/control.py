"""A control process's hub and records alone, to be killed: `python -m tests.records.control RUN_DIR URL`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sipagent.config import Agent, RecordsSettings, Settings
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.records.service import Records


async def main(run_dir: Path, url: str) -> None:
    settings = Settings(
        run_dir=run_dir, records=RecordsSettings(url=url), agents={"a": Agent(instructions="Be brief.")}
    )
    records = Records(settings)
    hub = Hub(settings.control_socket, Live(2), records.recorder)
    records.recorder.on_safe = hub.safe
    async with records.running(lambda: hub.linked):
        await hub.start()
        print("up", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
