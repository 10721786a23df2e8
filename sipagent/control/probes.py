"""Places probes on their schedule, one at a time through each trunk, and keeps what came of the last of each.

A probe that is still under way when its time comes again is not begun a second time.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from sipagent.config import Settings
from sipagent.config.watching import Probe
from sipagent.control.live import Live
from sipagent.control.operator import Operator
from sipagent.errors import OrderRefused
from sipagent.orders import Probe as ProbeOrder
from sipagent.orders import ProbeResult

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
FIRST_AFTER_S = 10.0
"""From when the node is ready, or a probe is new: registrations and OPTIONS have been answered by then."""


@dataclass(slots=True)
class Place:
    """One probe through one trunk."""

    due: float
    """Monotonic seconds."""
    last: ProbeResult | None = None
    running: asyncio.Task[ProbeResult] | None = None
    passed: int = 0
    failed: int = 0


class Probes:
    """`run` until cancelled; `now` beside it."""

    def __init__(self, operator: Operator, live: Live, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force."""
        self._operator, self._live, self._settings = operator, live, settings
        self._places: dict[tuple[str, str], Place] = {}

    @property
    def places(self) -> Mapping[tuple[str, str], Place]:
        """As of the last look, by name and trunk. Another thread may read it: it is replaced, never changed."""
        return self._places

    def all(self) -> Iterator[tuple[str, str, Probe, Place]]:
        """Name, trunk, what the configuration says, and how it stands."""
        for (name, trunk), place in self._places_at(asyncio.get_running_loop().time()).items():
            yield name, trunk, self._settings().probes[name], place

    async def run(self) -> None:
        """Begin what is due, again and again, once the node takes calls."""
        loop = asyncio.get_running_loop()
        await self._live.until_ready()
        try:
            while True:
                self.look(loop.time())
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await self._cancel()

    def look(self, now: float) -> None:
        """Begin what is due at `now` (monotonic seconds)."""
        probes = self._settings().probes
        for (name, trunk), place in self._places_at(now).items():
            every_s = probes[name].every_s
            if every_s and now >= place.due:
                place.due = now + every_s
                if place.running is None:
                    self._begin(name, trunk, place)

    async def now(self, name: str) -> list[ProbeResult]:
        """Probe each trunk of it; one that is under way already is waited for. KeyError: no such probe."""
        trunks = self._settings().probes[name].trunks
        places = self._places_at(asyncio.get_running_loop().time())
        tasks = [self._begin(name, trunk, places[name, trunk]) for trunk in trunks]
        # Shielded: whoever asked may lose patience, and the probe is not theirs alone.
        return list(await asyncio.gather(*(asyncio.shield(task) for task in tasks)))

    def _places_at(self, now: float) -> dict[tuple[str, str], Place]:
        """As the configuration in force has them; what was known of those that stay, stays."""
        wanted = [(name, trunk) for name, probe in self._settings().probes.items() for trunk in probe.trunks]
        known = self._places
        self._places = {key: known.get(key) or Place(now + FIRST_AFTER_S) for key in wanted}
        return self._places

    def _begin(self, name: str, trunk: str, place: Place) -> asyncio.Task[ProbeResult]:
        if place.running is None:
            place.running = asyncio.create_task(self._probe(name, trunk, place), name=f"probe-{name}-{trunk}")
        return place.running

    async def _probe(self, name: str, trunk: str, place: Place) -> ProbeResult:
        probe, call_id, began_at = self._settings().probes[name], f"probe-{uuid.uuid4().hex}", time.time()
        order = ProbeOrder(
            call_id=call_id,
            name=name,
            trunk=trunk,
            to=probe.number,
            within_s=probe.within_s,
            listen_s=probe.listen_s,
            voice=probe.expect == "voice",
        )
        try:
            result = await self._operator.probe(order)
        except OrderRefused as error:
            result = ProbeResult(name=name, trunk=trunk, call_id=call_id, at=began_at, ok=False, why=str(error))
        finally:
            place.running = None
        place.last = result
        place.passed, place.failed = place.passed + result.ok, place.failed + (not result.ok)
        figures = {"answer_ms": result.answer_ms, "voice_ms": result.voice_ms, "mos": result.mos}
        if result.ok:
            log.info("probe_passed", probe=name, trunk=trunk, call_id=call_id, **figures)
        else:
            log.error("probe_failed", probe=name, trunk=trunk, call_id=call_id, why=result.why, **figures)
        return result

    async def _cancel(self) -> None:
        tasks = [place.running for place in self._places.values() if place.running is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
