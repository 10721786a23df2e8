"""Somebody of the operator's in a live call: listening, speaking to both, or taking it over.

One supervisor a call. Listening goes by a snoop of the caller's channel into a bridge of the supervisor's own, so
neither caller nor model can hear them, and the call's own bridge stays as it is. On their phone 1 listens, 2 lets
them speak, 3 takes the call over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from sipagent import model
from sipagent.ari.client import new_id
from sipagent.ari.objects import ChannelHandle, mixing_bridge, snoop
from sipagent.errors import AriError, DialingRefused, OrderRefused
from sipagent.flow.steps.dial import target_of
from sipagent.house import House
from sipagent.leg import ANSWERED, Errand, Leg, leg_out
from sipagent.room import Room
from sipagent.talk import Emit
from sipagent.transfer import Joined

log = structlog.get_logger()

MONITOR, BARGE, TAKEOVER = "monitor", "barge", "takeover"
_KEYS = {"1": MONITOR, "2": BARGE, "3": TAKEOVER}


class Supervision:
    """Of one call, for as long as it lasts; supervisors come and go."""

    def __init__(self, call_id: str, house: House, emit: Emit, take_over: Callable[[Joined], bool]) -> None:
        """`take_over` gives the caller to a leg; False when they are with no agent now."""
        self._call_id, self._house, self._emit, self._take_over = call_id, house, emit, take_over
        self._name = ""
        self._leg: Leg | None = None
        self._undo, self._listening = AsyncExitStack(), AsyncExitStack()
        self._staying: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self._room: Room | None = None
        self._caller: ChannelHandle | None = None

    async def let_in(self, name: str, how: str, caller: ChannelHandle, room: Room | None) -> None:
        """Ring the supervisor, unless they are here already, and let them in.

        Raises:
            OrderRefused: they did not answer, or it cannot be done now; the text says why.
        """
        async with self._one:
            if self._leg is not None and name != self._name:
                raise OrderRefused(f"{self._name} is supervising this call already")
            self._caller, self._room = caller, room
            result = "ok"
            try:
                if self._leg is None:
                    await self._ring(name)
                await self._move(how)
            except (OrderRefused, DialingRefused, AriError) as error:
                result = str(error)
                if not self._in_place:
                    await self._leave()
                raise OrderRefused(result) from None
            finally:
                self._emit(model.Supervised, what=how, who=name, result=result)

    async def dismiss(self) -> None:
        """They leave, and somebody may come again; twice is fine."""
        if self._staying is not None:
            self._staying.cancel()
            await asyncio.wait({self._staying})
            self._staying = None
        await self._leave()

    async def aclose(self) -> None:
        """They leave, for the call is over; twice is fine."""
        await self.dismiss()
        self._take_over = _nobody

    @property
    def _in_place(self) -> bool:
        return self._staying is not None and not self._staying.done()

    async def _ring(self, name: str) -> None:
        settings = self._house.settings
        if name not in settings.supervisors:
            there = ", ".join(sorted(settings.supervisors)) or "none"
            raise OrderRefused(f"there is no supervisor {name!r}; there is {there} ([supervisors])")
        leg_id = new_id(self._call_id, "supervisor")
        errand = Errand(leg_id, target_of(settings.supervisors[name].to, settings), "supervisor")
        leg = await self._undo.enter_async_context(leg_out(errand, self._house, self._emit))
        rung = await leg.ring(shown="")
        if rung.result != ANSWERED:
            raise OrderRefused(f"{name}: {rung.result}")
        self._leg, self._name = leg, name

    async def _move(self, how: str) -> None:
        """From wherever they are to where they want to be."""
        leg, room, caller = self._leg, self._room, self._caller
        if leg is None or caller is None:
            raise OrderRefused("they have hung up")
        if how == MONITOR:
            if self._staying is not None:
                await self._stop_listening()
            await self._listen(leg, caller)
        elif room is None or not room.is_open:
            raise OrderRefused("the caller is elsewhere: in a queue, a mailbox or another phone")
        elif how == BARGE:
            await room.admit(leg.channel)
            await self._stop_listening()
        elif how == TAKEOVER:
            await self._stop_listening()
            if not self._take_over(Joined(self._name, leg, self._undo)):
                raise OrderRefused("the caller is with no agent now: barge in instead")
            # The leg is the call's from here on, its keys and its end too.
            self._undo, self._leg = AsyncExitStack(), None
            staying, self._staying = self._staying, None
            if staying is not None and staying is not asyncio.current_task():
                staying.cancel()
            return
        else:
            raise OrderRefused(f"how: monitor, barge or takeover, not {how!r}")
        if self._staying is None or self._staying.done():
            self._staying = asyncio.create_task(self._stay(leg), name=f"call-supervisor-{self._call_id}")

    async def _listen(self, leg: Leg, caller: ChannelHandle) -> None:
        ari = self._house.ari
        spy = await self._listening.enter_async_context(snoop(caller, spy="both"))
        bridge = await self._listening.enter_async_context(mixing_bridge(ari, spy.channel.id))
        await bridge.add(leg.channel, spy.channel)

    async def _stop_listening(self) -> None:
        listening, self._listening = self._listening, AsyncExitStack()
        await listening.aclose()

    async def _stay(self, leg: Leg) -> None:
        """Their keys, until they hang up."""
        while (key := await leg.next_key()) is not None:
            if key in _KEYS and self._caller is not None:
                with contextlib.suppress(OrderRefused):
                    await self.let_in(self._name, _KEYS[key], self._caller, self._room)
                if self._leg is None:
                    return  # taken over: their keys are the call's
        await self._leave()

    async def _leave(self) -> None:
        self._leg = None
        await self._stop_listening()
        undo, self._undo = self._undo, AsyncExitStack()
        await undo.aclose()


def _nobody(_joined: Joined) -> bool:
    return False
