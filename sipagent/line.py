"""The line to the voice model: a session at the first endpoint that gives one, and another when it is lost.

What the caller says meanwhile is kept (`kept.py`). A lost session is taken up again by its conversation id; where the
server does not know it any more, or another endpoint takes over, the new session is told what has been said so far.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import structlog

from sipagent import model
from sipagent.config.sections import Endpoint
from sipagent.errors import RealtimeError, RealtimeFull, RealtimeRefused
from sipagent.house import Policy
from sipagent.sessions import Slot
from sipagent.standby import Spare
from sipagent.talk import Emit, Talk
from sipagent.xai import client as xai_client
from sipagent.xai import session as xai
from sipagent.xai.dialect import DIALECTS, SessionConfig

log = structlog.get_logger()

READY_TIMEOUT_S = xai.ACK_TIMEOUT_S + 2.5
"""From the upgrade on; after this the session cannot become ready any more."""
NEXT_AFTER_S = 3.0
"""For an endpoint while there is another to ask: a session that is well is there after 1.0 to 1.4 s, a caller waits."""
RETRY_TIMEOUT_S = 2.0
"""For an endpoint that is left alone, and for each when a session was lost: the caller has heard a filler and waits."""
FORGOTTEN_WITHIN_S, ASK_AGAIN_S = 5.0, 0.5
"""A provider may count a session for a while that is no more: who goes on with a talk asks again before giving up."""
TOO_MANY = 429
RESUMED, PRIMED = "resumed", "primed"
PRIMING = """\
The connection to you was interrupted, and this is a new session of the same call. Do not greet the caller again.
What has been said so far:
{history}
Go on from there."""


def _at(endpoint: Endpoint, config: SessionConfig) -> SessionConfig:
    """What is asked of this endpoint: models and voices have other names elsewhere."""
    return replace(
        config,
        dialect=DIALECTS[endpoint.dialect],
        model=endpoint.model or config.model,
        voice=endpoint.voice or config.voice,
        transcription=endpoint.transcription,
    )


class Line:
    """One conversation's. `open`, perhaps `reopen`, `aclose`."""

    def __init__(
        self,
        talk: Talk,
        policy: Policy,
        emit: Emit,
        config: SessionConfig,
        call_id: str,
        known: tuple[str, str] | None = None,
    ) -> None:
        """`config` of the session; each endpoint may have a model and a voice of its own. It is counted for this call.

        `known`: endpoint and id of a conversation that another worker had (empty where it had not begun); it is taken
        up by `reopen`.
        """
        self._talk, self._policy, self._emit, self._config = talk, policy, emit, config
        self._call_id, self._loop = call_id, asyncio.get_running_loop()
        self._client: xai_client.RealtimeClient | None = None
        self._endpoint, self._conversation_id = known or ("", "")
        self._model = ""
        self._quotas = policy.settings.realtime.quotas
        self._going_on = known is not None
        """It goes before those who wait for their first word, and keeps a right that is its own and is refused."""
        self._slot = self._new_slot()
        """The right to the session that is there, or to the one that the provider refuses though it is ours."""
        self._too_many = False
        """The provider has just refused one, since it counts more than it gives."""
        self._opened_s: float | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.counters: Counter[str] = Counter()
        """Of all its sessions."""
        self._kept = talk.kept

    @property
    def endpoint(self) -> str:
        """Who gave the session that is there, or was."""
        return self._endpoint

    async def open(self) -> None:
        """A session; returns when the model can hear and speak.

        Raises:
            RealtimeFull: they are all taken, and it may be this caller's `turn` later.
            RealtimeError: no endpoint gives one; it says why the last of them did not.
        """
        await self._first_of(self._policy.settings.realtime.endpoints, self._policy.settings.realtime.connect_timeout_s)

    async def turn(self, on_place: Callable[[int], None]) -> None:
        """Wait in line until a session may be opened; `on_place` hears the place. What is said meanwhile is gone.

        At once where it is their turn already, and the provider did not know: who comes after them does not pass them.
        """
        await self._slot.turn(on_place)
        self._going_on = True
        self._kept.clear()

    def give_up(self) -> None:
        """Nobody asks again: a right without a session is somebody else's."""
        if self._client is None:
            self._slot.release()

    async def reopen(self, history: str) -> str:
        """After a loss: RESUMED where the server knows the conversation, PRIMED where it was told of it.

        Raises:
            RealtimeError: as `open`.
        """
        self._let_go()
        endpoints, before = self._policy.settings.realtime.endpoints, self._endpoint
        known = self._conversation_id
        # The one that knows the conversation comes first.
        ordered = sorted(endpoints, key=lambda endpoint: endpoint.name != before)
        until_s = self._loop.time() + FORGOTTEN_WITHIN_S
        while True:
            try:
                await self._first_of(tuple(ordered), RETRY_TIMEOUT_S, resume=known, in_talk=True)
                break
            except RealtimeError:
                if not self._too_many or self._loop.time() > until_s:
                    raise
                await asyncio.sleep(ASK_AGAIN_S)
        if known and self._endpoint == before and self._conversation_id == known:
            return RESUMED
        if history:
            self._talk.whisper(PRIMING.format(history=history))
        return PRIMED

    async def aclose(self) -> None:
        """The session ends; twice is fine."""
        self._let_go()
        try:
            if self._closing:
                await asyncio.wait(self._closing)
        finally:
            self._slot.release()  # not before the provider knows that it is over, unless nobody may wait for that
            self._kept.clear()

    async def _first_of(
        self, endpoints: tuple[Endpoint, ...], timeout_s: float, resume: str = "", *, in_talk: bool = False
    ) -> None:
        """The first that gives a session has it. `in_talk`: one that is left alone is better than to give them away.

        A right that the provider refuses is kept by who goes on: it counts more than we do, since somebody else uses
        the same key or it is slow to forget; they ask again, and nobody else is to have it meanwhile.
        """
        health, by_name = self._policy.health, {endpoint.name: endpoint for endpoint in endpoints}
        names = self._in_order(by_name)
        again, self._too_many = self._too_many, False
        full, failed = False, None
        kept: Slot | None = None
        for place, name in enumerate(names, 1):
            if health.left_alone(name, self._loop.time()) and not in_talk and (full or failed is None):
                continue  # who has waited for nobody yet, or may wait in line, need not wait for what others found away
            known = resume if name == self._endpoint else ""
            spare = None if known else self._policy.standby.take(by_name[name])
            slot = await self._right(name, spare)
            if slot is None:
                full = True
                continue
            within_s = min(timeout_s, self._patience_s(name, names[place:]))
            health.dialled(name, self._loop.time())
            try:
                await self._try(by_name[name], within_s, known, spare)
            except RealtimeError as failure:
                failed = failure
                self._let_go()
                too_many = isinstance(failure, RealtimeRefused) and failure.status == TOO_MANY
                self._too_many |= too_many
                if too_many and name in self._quotas:
                    full = True
                    health.good(name)
                    if self._going_on:
                        kept = kept or slot
                        self._hold(kept)
                elif not (too_many and again):  # the same answer to the same caller is no news of the endpoint
                    health.bad(name, self._loop.time())
                if slot is not kept:
                    slot.release()
                self._emit(model.RealtimeTrouble, what="endpoint_failed", detail=f"{name}: {failure}")
            except BaseException:  # who hangs up: `aclose` gives it back, when the provider knows that it is over
                self._hold(slot)
                raise
            else:
                health.good(name)
                self._hold(slot)
                return
        if kept is None:
            self._slot.release()
        if full:
            raise RealtimeFull("every session of the quota is taken")
        raise failed or RealtimeError("every endpoint has failed several times just now, and is left alone")

    async def _right(self, name: str, spare: Spare | None) -> Slot | None:
        """The right to a session there: the one that stands by has its own. None where all are taken."""
        if spare is not None:
            spare.slot.pass_to(self._call_id)
            return spare.slot
        slot = self._slot if self._slot.endpoint == name else self._new_slot()
        return slot if await slot.take(name) else None

    def _new_slot(self) -> Slot:
        return self._policy.sessions.slot(self._call_id, self._quotas, going_on=self._going_on)

    def _hold(self, slot: Slot) -> None:
        """This right, and no other."""
        if slot is not self._slot:
            self._slot.release()
            self._slot = slot

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """The one that we waited for first (another might be full, and this one then, too), those left alone last."""
        health, now = self._policy.health, self._loop.time()
        return sorted(names, key=lambda name: (health.left_alone(name, now), name != self._slot.endpoint))

    def _patience_s(self, name: str, then: Iterable[str]) -> float:
        """How long an endpoint may take that is about to be dialled, with `then` left to ask."""
        health, now = self._policy.health, self._loop.time()
        if health.left_alone(name, now):
            return RETRY_TIMEOUT_S
        return math.inf if all(health.left_alone(other, now) for other in then) else NEXT_AFTER_S

    async def _try(self, endpoint: Endpoint, timeout_s: float, resume: str, spare: Spare | None) -> None:
        config, dialled = _at(endpoint, self._config), self._loop.time()
        self._talk.renew()
        if spare is not None:
            self._client = spare.client
            spare.client.configure(config, self._talk.on_session_event)
            try:
                await self._until_ready(spare.client)
            except RealtimeError as error:  # it was no more: another may be had
                log.info("standby_lost", error=str(error))
                self._let_go()
                self._talk.renew()
            else:
                self._begun(endpoint, config, dialled)
                return
        client = self._client = await xai_client.connect(
            endpoint.url,
            xai.RealtimeSession(config),
            self._talk.on_session_event,
            api_key=endpoint.api_key.get_secret_value(),
            library=self._policy.settings.realtime.websocket,
            ssl_context=self._policy.ssl_context if endpoint.url.startswith("wss:") else None,
            timeout_s=timeout_s,
            conversation_id=resume,
        )
        await self._until_ready(client)
        self._begun(endpoint, config, dialled)

    async def _until_ready(self, client: xai_client.RealtimeClient) -> None:
        """It is open; what the caller has said waits in it."""
        talk = self._talk
        talk.client = client
        for payload in self._kept.frames():
            client.append_audio(payload)
        self._kept.to = client.append_audio
        either: set[asyncio.Future[Any]] = {talk.ready, talk.fatal, client.lost}
        done, _ = await asyncio.wait(either, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if talk.ready in done:
            return
        if client.lost in done:
            raise client.lost.result()
        if talk.fatal in done:
            raise RealtimeError(str(talk.fatal.result()))
        raise RealtimeError(f"no session in {READY_TIMEOUT_S:g} s after the handshake")

    def _begun(self, endpoint: Endpoint, config: SessionConfig, dialled: float) -> None:
        ready = self._talk.ready.result()
        self._endpoint, self._conversation_id, self._model = endpoint.name, ready.conversation_id, ready.model
        self._opened_s, self._going_on = self._loop.time(), True
        self._kept.hears = True
        self._emit(
            model.SessionOpened,
            model=ready.model,
            requested_model=config.model,
            conversation_id=ready.conversation_id,
            connect_ms=round((self._opened_s - dialled) * 1000, 1),
            acknowledged=ready.acknowledged,
            endpoint=endpoint.name,
        )

    def _let_go(self) -> None:
        """The session that is there is no more: nothing of it is heard, and its closing is waited for by nobody."""
        client, self._client = self._client, None
        self._kept.hears, self._kept.to = False, None
        if client is None:
            return
        client.forget()
        self._talk.client = None
        task = asyncio.create_task(client.aclose(), name="call-line-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        counts = client.session.counts
        self.counters["uplink_dropped"] += client.uplink.dropped_frames + counts["backlog_dropped"]
        for name, count in counts.items():
            if not name.startswith("ignored:"):
                self.counters[f"realtime_{name}"] += count
        if self._opened_s is not None:
            seconds, self._opened_s = round(self._loop.time() - self._opened_s, 3), None
            audio_s, self._talk.agent_audio_s = round(self._talk.agent_audio_s, 3), 0.0
            self._emit(model.SessionClosed, model=self._model, seconds=seconds, agent_audio_s=audio_s)
