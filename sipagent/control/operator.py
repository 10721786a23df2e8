"""What the operator may ask of the node: finds the worker that has the call, brings the order, waits for its word."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sipagent import orders
from sipagent.config import Settings
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.errors import NoSuchCall, OrderRefused

ORDER_TIMEOUT_S = 5.0
RING_TIMEOUT_S = 90.0
"""A supervisor's phone rings for [call] dial_within_s at most; a little more than usual settings have."""

REMEMBERED = 10_000
"""Idempotency keys; a day of calls of a busy node."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call out as somebody asks for it; what is None is as [outbound] says."""

    to: str
    agent: str
    trunks: tuple[str, ...] = ()
    caller_id: str = ""
    ring_s: float | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    detect: bool | None = None
    machine: str | None = None
    message: str | None = None
    call_id: str = ""
    """Chosen by us where it is empty."""


class Operator:
    """Every order of the API, of call-backs and of probes goes through here."""

    def __init__(self, hub: Hub, live: Live, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force."""
        self._hub, self._live, self._settings = hub, live, settings
        self._seen: dict[str, asyncio.Future[str]] = {}

    async def order(self, order: orders.OfCall) -> None:
        """One order about a live call, carried out at once.

        Raises:
            NoSuchCall: it is over, or never was; OrderRefused: it cannot be done, and its text says why.
        """
        await self._hub.ask(self._worker(order.call_id), order, ORDER_TIMEOUT_S)

    async def supervise(self, call_id: str, supervisor: str, how: str) -> None:
        """Let a supervisor in; returns when they are."""
        order = orders.Supervise(call_id=call_id, supervisor=supervisor, how=how)
        await self._hub.ask(self._worker(call_id), order, RING_TIMEOUT_S)

    async def dial_once(self, wanted: Wanted, key: str) -> str:
        """The same; a key that has been seen within `REMEMBERED` calls gives the id of its first call."""
        if not key:
            return await self.dial(wanted)
        if key not in self._seen:
            self._seen[key] = asyncio.ensure_future(self.dial(wanted))
            while len(self._seen) > REMEMBERED:
                self._seen.pop(next(iter(self._seen)))
        try:
            return await asyncio.shield(self._seen[key])
        except OrderRefused:
            self._seen.pop(key, None)  # nothing was dialled: it may be tried again
            raise

    async def dial(self, wanted: Wanted) -> str:
        """Call somebody; the call's id as soon as it has begun. What becomes of it is told by its events.

        Raises:
            OrderRefused: it is not allowed, or no worker can; its text says why.
        """
        order = self._order(wanted)
        ready = [worker for worker in self._live.workers.values() if worker.ready]
        if not ready:
            raise OrderRefused("no worker takes calls")
        least = min(ready, key=lambda worker: worker.state.calls if worker.state else 0)
        await self._hub.ask(least.number, order, ORDER_TIMEOUT_S)
        return order.call_id

    def _order(self, wanted: Wanted) -> orders.Originate:
        settings = self._settings()
        outbound = settings.outbound
        trunks = wanted.trunks or outbound.trunks
        if not trunks:
            raise OrderRefused("nobody may be called: [outbound] trunks is empty")
        if foreign := [trunk for trunk in trunks if trunk not in outbound.trunks]:
            raise OrderRefused(f"trunk {foreign[0]!r} is not in [outbound] trunks: {', '.join(outbound.trunks)}")
        if wanted.agent not in settings.agents:
            raise OrderRefused(f"there is no agent {wanted.agent!r}; there is {', '.join(sorted(settings.agents))}")
        first = settings.trunks.get(trunks[0])
        for trunk in (settings.trunks[name] for name in trunks if name in settings.trunks):
            if wanted.caller_id and wanted.caller_id not in trunk.caller_id.allow:
                raise OrderRefused(f"caller id {wanted.caller_id!r} is not in caller_id.allow of every trunk asked for")
        machine = wanted.machine or outbound.machine
        message = outbound.message if wanted.message is None else wanted.message
        if machine == "message" and not message:
            raise OrderRefused("message: what should be left on a machine?")
        return orders.Originate(
            call_id=wanted.call_id or f"out-{uuid.uuid4().hex}",
            to=str(first.e164(wanted.to)) if first else wanted.to,
            trunks=trunks,
            agent=wanted.agent,
            shown=wanted.caller_id,
            ring_s=wanted.ring_s or outbound.ring_s,
            variables=dict(wanted.variables),
            detect=outbound.detect if wanted.detect is None else wanted.detect,
            machine=machine,
            message=message,
        )

    def _worker(self, call_id: str) -> int:
        call = self._live.calls.get(call_id)
        if call is None:
            raise NoSuchCall("no live call has this id")
        return call.worker
