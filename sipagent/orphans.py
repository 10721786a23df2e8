"""Calls whose worker has died: their channels are alive in Asterisk, and go on with us.

What is known of such a call rides on its channel (`carried`). It comes here when the control process asks us to `adopt`
what another worker had, when we are started anew and find what we had ourselves, or when a caller comes back from a
queue to a worker that did not send them there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from sipagent import carried
from sipagent.ari import events as ari_events
from sipagent.ari.client import AriClient, ChannelEvents
from sipagent.ari.objects import ChannelHandle
from sipagent.call import APOLOGY_EXTENSION, Call
from sipagent.errors import AriError
from sipagent.house import House

log = structlog.get_logger()

LEG_GRACE_S = 3.0
"""The call of a leg is adopted within milliseconds of it, or it is no more."""


class _Worker(Protocol):
    """Ours."""

    ari: AriClient
    house: House
    ending: bool

    def on_call(self, start: ari_events.StasisStart) -> None:
        """Somebody comes from the dialplan."""

    def start(self, call: Call, listening: contextlib.AbstractContextManager[object]) -> None:
        """A call goes on with us."""


class Orphans:
    """One worker's."""

    def __init__(self, worker: _Worker) -> None:
        self.seen = 0
        """So many channels that were ours or came to us, and of no call that we knew."""
        self._worker = worker
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _ari(self) -> AriClient:
        return self._worker.ari

    async def adopt(self, dead: int, run: str) -> str:
        """Take over the calls of a worker that has died, all at once; how many, in words.

        `run` is the process of that number that is dead: we may be late, and its successor have what it had.
        """
        app = f"{self._worker.house.settings.asterisk.app}-{dead}"

        async def take(channel: ari_events.Channel) -> bool:
            with contextlib.suppress(AriError):  # it may have gone meanwhile
                handle = ChannelHandle(self._ari, channel.id)
                known = carried.read(await handle.variable(carried.VARIABLE))
                # One that it never did anything for (it hung) comes to us as it came to it.
                owner, _, args = channel.dialplan.app_data.partition(",")
                if known.belonged_to(app, run) if known else owner == app and not await _is_leg(handle):
                    to = {"app": self._ari.app, "appArgs": "adopted" if known else args}
                    await self._ari.request("POST", f"channels/{channel.id}/move", to)
                    return True
            return False

        channels = [
            channel
            for channel in await self._ari.channels()
            if channel.dialplan.app_name == "Stasis" and not channel.name.startswith("UnicastRTP/")
        ]  # a media channel goes with its call
        return f"{sum(await asyncio.gather(*map(take, channels)))} calls"

    def take(self, channel: ari_events.Channel, args: Sequence[str] = ()) -> None:
        """A channel that no call of ours knows. If it was ours once, its worker died, and its call goes on here."""
        # From now on, or its bridge would be taken for nobody's.
        listening = self._ari.listen(channel.id)
        task = asyncio.create_task(self._take_in(channel, listening.__enter__(), listening, list(args)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_in(
        self,
        channel: ari_events.Channel,
        happenings: ChannelEvents,
        listening: contextlib.AbstractContextManager[object],
        args: list[str],
    ) -> None:
        handle = ChannelHandle(self._ari, channel.id)
        # What it says itself; Asterisk's word, where it says nothing: it came to us, and just now if there are `args`.
        came_here = bool(args) or channel.dialplan.app_data.split(",", 1)[0] == self._ari.app
        with contextlib.ExitStack() as undo, contextlib.suppress(AriError):
            undo.callback(listening.__exit__, None, None, None)
            if await _is_leg(handle):
                undo.close()  # its call will listen to it
                await self._release_leg(handle)
                return
            known = carried.read(await handle.variable(carried.VARIABLE))
            if not (args or (known.app == self._ari.app if known else came_here)):
                return  # another worker's
            self.seen += 1
            if channel.name.startswith("UnicastRTP/"):
                await handle.hang_up(16)
                return
            came = channel.dialplan.app_data.split(",")[1:]
            if known is None and not args and came[:1] == ["in"] and not self._worker.ending:
                undo.close()  # it has waited for who was here before us, and is a call like any other
                self._worker.on_call(ari_events.StasisStart(channel, came, self._ari.app))
                return
            if known is None and channel.state != "Up" and (args or came)[:1] == ["leg"]:
                await handle.hang_up(16)  # it rang for a call that is no more
                return
            if known is None or self._worker.ending:
                log.warning("orphan_channel", channel=channel.name)
                await handle.continue_in(*APOLOGY_EXTENSION)
                return
            back = args[1] if args[:1] == ["back"] and len(args) > 1 else None
            log.warning("call_adopted", call_id=known.call_id, step=known.step)
            undo.pop_all()
            self._worker.start(Call.adopted(known, handle, happenings, self._worker.house, back), listening)

    async def _release_leg(self, leg: ChannelHandle) -> None:
        """Somebody who had taken a call: they go on talking, unless nobody comes for that call."""
        await asyncio.sleep(LEG_GRACE_S)
        if not self._ari.listens(leg.id) and (await leg.variable(carried.LEG_VARIABLE)).split(" ")[0] == self._ari.app:
            await leg.hang_up(16)


async def _is_leg(channel: ChannelHandle) -> bool:
    """Somebody who has taken a call: they go where it goes, and it is what takes them there."""
    return bool(await channel.variable(carried.LEG_VARIABLE))
