"""What a process uses is not looked at with every event."""

from __future__ import annotations

import asyncio

from sipagent.vitals import EVERY_S, Vitals


async def test_a_look_is_good_for_a_moment() -> None:
    vitals = Vitals()
    before = vitals.read(10.0)
    assert before["rss_bytes"] > 1_000_000
    other = asyncio.create_task(asyncio.sleep(0))
    assert vitals.read(10.0 + EVERY_S * 0.9)["tasks"] == before["tasks"]
    assert vitals.read(10.0 + EVERY_S)["tasks"] == before["tasks"] + 1
    await other
