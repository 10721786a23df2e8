"""Sessions that stand by: open before anybody calls, so that a caller's first word waits for one round trip.

Off by default ([realtime] standby). They are at the first endpoint, in manual mode, which xAI does not bill, and count
against its quota as any other; the control process calls one back when a caller waits in vain for it. Who takes one
hears its events and closes it. One that has stood too long, or was lost, is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter, deque
from typing import Any

import structlog

from sipagent.audio import Law
from sipagent.config import RealtimeSettings
from sipagent.config.sections import Endpoint
from sipagent.errors import RealtimeError, RealtimeFull
from sipagent.sessions import Sessions, Slot
from sipagent.xai import client as xai_client
from sipagent.xai import session as xai
from sipagent.xai.dialect import DIALECTS, SessionConfig

log = structlog.get_logger()

KEEP_S = 240.0
"""After how long an idle session is closed by the server is not known; and a session lasts two hours at most."""
RETRY_S = 15.0
"""Nobody waits for it: an endpoint that gives none is asked again at leisure."""


class Spare:
    """One session, from its opening to whoever takes it."""

    def __init__(self, endpoint: Endpoint, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        self.endpoint, self.slot = endpoint, slot
        self.client: xai_client.RealtimeClient
        self.stands_by: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[str] = loop.create_future()
        """It was taken, called back, or is of no use any more."""

    def on_event(self, event: xai.SessionEvent) -> None:
        """What it says while nobody has it."""
        if isinstance(event, xai.StandsBy) and not self.stands_by.done():
            self.stands_by.set_result(None)
        elif isinstance(event, xai.Fatal):
            self.end(str(event))

    def end(self, why: str) -> None:
        """Once; the first reason stays."""
        if not self.over.done():
            self.over.set_result(why)


class Standby:
    """One worker's. `follow` a configuration, `take`, `stop`, `aclose`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._endpoint: Endpoint | None = None
        self._followed: RealtimeSettings | None = None
        sessions.recalled = self.recall
        self._ready: deque[Spare] = deque()
        self._opening: set[Spare] = set()
        self._keepers: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        """`taken`, and `missed`: callers who would have had one."""

    @property
    def ready(self) -> int:
        """Sessions that stand by now."""
        return len(self._ready)

    def follow(self, realtime: RealtimeSettings, ssl_context: ssl.SSLContext | None) -> None:
        """So many, there, from now on; those of another configuration are let go."""
        if self._followed == realtime:
            return
        self.stop()
        self._followed = realtime
        self._endpoint = realtime.endpoints[0] if realtime.standby else None
        self._keepers = {
            asyncio.create_task(self._keep(realtime, ssl_context), name="standby") for _ in range(realtime.standby)
        }

    def stop(self) -> None:
        """No more callers come: what stands by is closed, beside whatever else there is to do."""
        self._endpoint = self._followed = None
        for keeper in self._keepers:
            keeper.cancel()
            self._leaving.add(keeper)
            keeper.add_done_callback(self._leaving.discard)
        self._keepers = set()

    def take(self, endpoint: Endpoint) -> Spare | None:
        """One that stands by there, oldest first; whoever takes it closes it and gives its slot back."""
        if endpoint != self._endpoint:
            return None
        for spare in self._ready:
            if spare.endpoint == endpoint and not spare.over.done() and not spare.client.lost.done():
                self._ready.remove(spare)
                spare.end("taken")
                self.counts["taken"] += 1
                return spare
        self.counts["missed"] += 1
        return None

    def recall(self, key: str) -> None:
        """The control process needs this one for a caller of another worker."""
        for spare in (*self._ready, *self._opening):
            if spare.slot.key == key:
                spare.end("called back")

    async def aclose(self) -> None:
        """All of them are closed."""
        self.stop()
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _keep(self, realtime: RealtimeSettings, ssl_context: ssl.SSLContext | None) -> None:
        """One after the other, until cancelled."""
        while True:
            spare = Spare(realtime.endpoints[0], self._sessions.slot("", realtime.quotas))
            self._opening.add(spare)
            try:
                await self._open(spare, realtime, ssl_context)
            except RealtimeError as error:
                log.info("standby_none", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            finally:
                self._opening.discard(spare)
            self._ready.append(spare)
            either: set[asyncio.Future[Any]] = {spare.over, spare.client.lost}
            try:
                ended, _ = await asyncio.wait(either, timeout=KEEP_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if unused := spare in self._ready:
                    self._ready.remove(spare)
                    await self._close(spare)
            if unused and ended:
                log.info("standby_ended", why=str(ended.pop().result()))
                await asyncio.sleep(RETRY_S)

    async def _open(self, spare: Spare, realtime: RealtimeSettings, ssl_context: ssl.SSLContext | None) -> None:
        endpoint, within_s = spare.endpoint, realtime.connect_timeout_s
        dialect = DIALECTS[endpoint.dialect]
        config = SessionConfig(Law.ULAW, endpoint.model or realtime.model, "", "", dialect=dialect)
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(spare.slot.release)
            if not await spare.slot.take(endpoint.name):
                raise RealtimeFull("every session of the quota is taken")
            spare.client = await xai_client.connect(
                endpoint.url,
                xai.RealtimeSession(config, standby=True),
                spare.on_event,
                api_key=endpoint.api_key.get_secret_value(),
                library=realtime.websocket,
                ssl_context=ssl_context if endpoint.url.startswith("wss:") else None,
                timeout_s=within_s,
            )
            undo.push_async_callback(spare.client.aclose)
            either: set[asyncio.Future[Any]] = {spare.stands_by, spare.over, spare.client.lost}
            done, _ = await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if spare.stands_by not in done:
                raise RealtimeError(str(done.pop().result()) if done else "it did not say that it stands by")
            undo.pop_all()

    async def _close(self, spare: Spare) -> None:
        spare.client.forget()
        try:
            await spare.client.aclose()
        finally:
            spare.slot.release()
