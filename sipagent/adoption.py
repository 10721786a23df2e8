"""A call whose worker has died becomes ours; and where the caller talks with somebody else by then, it stays so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NoReturn

import msgspec

from sipagent import carried as carried_by
from sipagent.ari import events as ari_events
from sipagent.ari.client import ChannelEvents
from sipagent.ari.objects import STASIS_START_TIMEOUT_S, ChannelHandle, drop_bridges, mixing_bridge
from sipagent.call_over import CallOver
from sipagent.caller import Caller
from sipagent.carried import Carried
from sipagent.errors import AriError, AriRefused
from sipagent.house import House
from sipagent.outcome import CallOutcome, Reason

NOT_FOUND = 404


async def claim(carried: Carried, channel: ChannelHandle, house: House) -> None:
    """Before anything else, so that nobody takes it from us; the music that was played meanwhile ends."""
    ours = msgspec.structs.replace(carried, app=house.ari.app, run=house.run)
    await channel.set_variable(carried_by.VARIABLE, ours.text())
    with contextlib.suppress(AriError):
        await house.ari.request("DELETE", f"channels/{channel.id}/moh")


async def stay_with_them(
    carried: Carried,
    caller: ChannelHandle,
    house: House,
    call_id: str,
    undo: AsyncExitStack,
    on_joined: Callable[[], None],
) -> NoReturn:
    """Somebody has taken the call: it is over when one of the two hangs up.

    A channel that is moved from the application of the dead worker leaves its bridge: then they get a new one, within
    milliseconds. `on_joined`: they talk, and need none of us.

    Raises:
        CallOver: always, when one of them has gone.
    """
    ari, leg = house.ari, ChannelHandle(house.ari, carried.leg)
    happenings = undo.enter_context(ari.listen(leg.id))
    undo.push_async_callback(leg.hang_up, 16)
    try:
        # Also where it says so already: who hung up while nobody was there is not found, and no event tells.
        await leg.set_variable(carried_by.LEG_VARIABLE, f"{ari.app} {call_id}")
        if carried.app != ari.app:
            await ari.request("POST", f"channels/{leg.id}/move", {"app": ari.app, "appArgs": "leg"})
            await drop_bridges(ari, call_id, leg.id)
            bridge = await undo.enter_async_context(mixing_bridge(ari, call_id))
            await _until_here(happenings)
            await bridge.add(caller, leg)
        on_joined()
        await Caller(leg, happenings).until_gone()
    except AriRefused as refusal:
        if refusal.status != NOT_FOUND:
            raise
    raise CallOver(CallOutcome(Reason.COMPLETED, "the other side hung up"))


async def _until_here(happenings: ChannelEvents) -> None:
    """A channel that was moved to us is in our application, or gone, which its next reader will see."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STASIS_START_TIMEOUT_S):
            while not isinstance(await happenings.next(), ari_events.StasisStart):
                pass
