"""What the operator may ask of the node: finds the worker that has the call, brings the order, waits for its word."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from sipagent import orders
from sipagent.config import Settings
from sipagent.control.hub import Hub
from sipagent.control.live import Live
from sipagent.dialling import DialGuard
from sipagent.errors import NoSuchCall, NoWorker, OrderRefused

ORDER_TIMEOUT_S = 5.0
RING_TIMEOUT_S = 90.0
"""A supervisor's phone rings for [call] dial_within_s at most; a little more than usual settings have."""
PROBE_GRACE_S = 15.0
"""Beyond what a probe may take itself: a wait for the trunk's `cps`, Asterisk's own grace, the clearing up."""

REMEMBERED = 10_000
"""Keys whose calls have begun lately; older ones are in the records."""


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

    def __init__(
        self,
        hub: Hub,
        live: Live,
        settings: Callable[[], Settings],
        known: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """`settings` gives the configuration in force; `known` says whether the records have a call of this id."""
        self._hub, self._live, self._settings = hub, live, settings
        self._known = known or _unheard_of
        self._begun: dict[str, asyncio.Future[str]] = {}

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
        """The same; a key that was seen before gives the id of its call, also after a restart.

        The id is made of the key, so the records know whether there has been such a call.
        """
        if not key:
            return await self.dial(wanted)
        call_id = "out-" + hashlib.sha256(key.encode()).hexdigest()[:32]
        if call_id not in self._begun:
            # In one step, so that two requests that come together find one call.
            self._begun[call_id] = asyncio.ensure_future(self._dial_unless_known(replace(wanted, call_id=call_id)))
            while len(self._begun) > REMEMBERED:
                self._begun.pop(next(iter(self._begun)))
        try:
            return await asyncio.shield(self._begun[call_id])
        except OrderRefused:
            self._begun.pop(call_id, None)  # the records know whether it was a call; if not, it may be tried again
            raise

    async def _dial_unless_known(self, wanted: Wanted) -> str:
        if wanted.call_id in self._live.calls or await self._known(wanted.call_id):
            return wanted.call_id
        return await self.dial(wanted)

    async def dial(self, wanted: Wanted) -> str:
        """Call somebody; the call's id as soon as it has begun. What becomes of it is told by its events.

        Raises:
            OrderRefused: it is not allowed, or no worker can; its text says why. NoWorker: nobody was asked.
            Unanswered: it may have begun all the same, which its events tell; after this it does not begin any more.
        """
        order = self._order(wanted)
        await self._hub.ask(self._least_busy(), order, ORDER_TIMEOUT_S)
        return order.call_id

    async def probe(self, order: orders.Probe) -> orders.ProbeResult:
        """Have a worker place a probe; returns when it is over.

        Raises:
            OrderRefused: no worker can, or it has not said how it went.
        """
        patience_s = order.within_s + order.listen_s + PROBE_GRACE_S
        answer = await self._hub.ask(self._least_busy(), order, patience_s)
        return msgspec.json.decode(answer.detail, type=orders.ProbeResult)

    def checked(self, to: str, agent: str, trunks: tuple[str, ...] = (), caller_id: str = "") -> str:
        """The number in E.164 where the trunk tells how to read it.

        Raises:
            OrderRefused: no such agent, no trunk that may be used, a caller id that is not ours.
        """
        settings = self._settings()
        allowed = settings.outbound.trunks
        if not allowed:
            raise OrderRefused("nobody may be called: [outbound] trunks is empty")
        if foreign := [trunk for trunk in trunks if trunk not in allowed]:
            raise OrderRefused(f"trunk {foreign[0]!r} is not in [outbound] trunks: {', '.join(allowed)}")
        if agent not in settings.agents:
            raise OrderRefused(f"there is no agent {agent!r}; there is {', '.join(sorted(settings.agents))}")
        used = [settings.trunks[name] for name in trunks or allowed if name in settings.trunks]
        if caller_id and any(caller_id not in trunk.caller_id.allow for trunk in used):
            raise OrderRefused(f"caller id {caller_id!r} is not in caller_id.allow of every trunk asked for")
        number = str(used[0].e164(to)) if used else to
        if why := DialGuard(settings.dial_policy).forbidden(number):
            raise OrderRefused(f"refused by the dial policy: {why}")
        return number

    def _order(self, wanted: Wanted) -> orders.Originate:
        outbound = self._settings().outbound
        number = self.checked(wanted.to, wanted.agent, wanted.trunks, wanted.caller_id)
        machine = wanted.machine or outbound.machine
        message = outbound.message if wanted.message is None else wanted.message
        if machine == "message" and not message:
            raise OrderRefused("message: what should be left on a machine?")
        return orders.Originate(
            call_id=wanted.call_id or f"out-{uuid.uuid4().hex}",
            to=number,
            trunks=wanted.trunks or outbound.trunks,
            agent=wanted.agent,
            shown=wanted.caller_id,
            ring_s=wanted.ring_s or outbound.ring_s,
            variables=dict(wanted.variables),
            detect=outbound.detect if wanted.detect is None else wanted.detect,
            machine=machine,
            message=message,
            expires_at=time.time() + ORDER_TIMEOUT_S,
        )

    def _least_busy(self) -> int:
        ready = [worker for worker in self._live.workers.values() if worker.ready]
        if not ready:
            raise NoWorker("no worker takes calls")
        return min(ready, key=lambda worker: worker.state.calls if worker.state else 0).number

    def _worker(self, call_id: str) -> int:
        call = self._live.calls.get(call_id)
        if call is None:
            raise NoSuchCall("no live call has this id")
        return call.worker


async def _unheard_of(_call_id: str) -> bool:
    return False
