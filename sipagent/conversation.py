"""An agent in the room: its session connected while the phone rings, the talk, and the end of it.

It owns the socket to the model. How the caller came and where they go afterwards is the call's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from sipagent import model
from sipagent.config import Agent
from sipagent.config.policy import PLACEHOLDER
from sipagent.errors import RealtimeError, RealtimeRefused
from sipagent.flow.phrases import Phrase
from sipagent.house import Policy
from sipagent.model import CallOutcome, Reason
from sipagent.room import Room
from sipagent.talk import Emit, Talk
from sipagent.tools.desk import Builtin, Desk
from sipagent.xai import client as xai_client
from sipagent.xai import session as xai

__all__ = ["Builtin", "Conversation", "instructed"]

READY_TIMEOUT_S = xai.ACK_TIMEOUT_S + 2.5
"""From the upgrade on; after this the session cannot become ready any more and the caller hears the apology."""


def instructed(text: str, variables: Mapping[str, str]) -> str:
    """Instructions with {called}, {account} ... filled in; braces that name nothing we know stay as they are."""
    return PLACEHOLDER.sub(lambda found: variables.get(found[1], found[0]), text)


class Conversation:
    """One agent, one caller. `dial`, then `run`, then `close`."""

    def __init__(
        self,
        room: Room,
        agent: Agent,
        policy: Policy,
        emit: Emit,
        *,
        instructions: str,
        tools: tuple[Mapping[str, Any], ...] = (),
        builtin: Mapping[str, Builtin] | None = None,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        they_begin_s: float = 0.0,
    ) -> None:
        """`tools` as they go to the model; `builtin` and the agent's own are run for it.

        `variables` of the call; `secrets` are those that may be added later, and that the model must not see.
        `they_begin_s`: the greeting waits so long for them to say hello; when they do, the model answers that.
        """
        self._room, self._agent, self._emit = room, agent, emit
        self._settings, self._ssl_context = policy.settings, policy.ssl_context
        self._instructions, self._they_begin_s = instructions, they_begin_s
        self.talk = Talk(room, Phrase(self._settings.call.apology, self._settings.call.language), emit)
        self._desk: Desk | None = None
        if builtin or agent.tools:
            self._desk = self.talk.desk = Desk(
                agent,
                policy.toolset,
                self.talk,
                emit,
                builtin=builtin or {},
                variables=self._settings.variables | dict(variables or {}),
                secrets={} if secrets is None else secrets,
            )
        self._tools = (*tools, *(self._desk.wire() if self._desk else ()))
        self._loop = asyncio.get_running_loop()
        self._connecting: asyncio.Task[None] | None = None
        self._model = ""
        self._opened_s: float | None = None
        self.left: asyncio.Future[object] = self._loop.create_future()
        """Set to end the talk: a CallOutcome, a Destination, or whoever has taken the caller."""
        self._uplink: Callable[[bytes], object] | None = None
        self.counters: dict[str, int] = {}
        """Of the socket, the session and the talk; there when it is closed."""

    def dial(self) -> None:
        """Connect the model, beside whatever else there is to do; the caller's first words wait in the session."""
        self._room.interruptible_by(self._agent.barge_in)
        self._connecting = asyncio.create_task(self._connect(), name="realtime-connect")

    async def ready(self) -> None:
        """Return when the agent can speak. RealtimeError when it never will."""
        await asyncio.shield(self.talk.ready)

    async def run(self) -> object:
        """The caller is here. Returns how the talk ended, the last word being heard, or what `left` was set to."""
        talk = self.talk
        if not talk.ready.done():
            self._room.play([Phrase(self._settings.call.one_moment, self._settings.call.language)])
        try:
            await self.ready()
        except RealtimeRefused as error:
            return await talk.apologise(Reason.REALTIME_REFUSED, error)
        except RealtimeError as error:
            return await talk.apologise(Reason.REALTIME_UNREACHABLE, error)
        return await _first(self._converse(), self._until_lost(), self._until_left())

    async def close(self) -> None:
        """The session goes; twice is fine."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
            self._connecting = None
        if self._desk is not None:
            await self._desk.aclose()
            self._desk = None
        if self._room.media.to_model == self._uplink:  # and not another conversation's by now
            self._room.media.to_model = None
        if self.talk.client is not None:
            await self.talk.client.aclose()
        if self._opened_s is not None:
            seconds, self._opened_s = round(self._loop.time() - self._opened_s, 3), None
            audio_s = round(self.talk.agent_audio_s, 3)
            self._emit(model.SessionClosed, model=self._model, seconds=seconds, agent_audio_s=audio_s)
        self.counters = self.counters or self._counted()
        self.talk.close()
        self._uplink = None

    def _counted(self) -> dict[str, int]:
        talk = self.talk
        counted = {"barge_ins": talk.barge_ins, "false_barge_ins": talk.false_barge_ins}
        if talk.client is not None:
            counts = talk.client.session.counts
            counted["uplink_dropped"] = talk.client.dropped_frames + counts["backlog_dropped"]
            known = {name: count for name, count in counts.items() if not name.startswith("ignored:")}
            counted |= {f"realtime_{name}": count for name, count in known.items()}
        return counted

    # --- its parts

    async def _connect(self) -> None:
        try:
            await self._open_session()
        except Exception as error:  # noqa: BLE001 - whatever it is, the call's own task waits for it and tells
            if not self.talk.ready.done():
                self.talk.ready.set_exception(error)

    async def _open_session(self) -> None:
        realtime, agent, talk = self._settings.realtime, self._agent, self.talk
        session = xai.RealtimeSession(
            xai.SessionConfig(
                law=self._room.law,
                model=realtime.model,
                voice=agent.voice or realtime.voice,
                instructions=self._instructions,
                reasoning=realtime.reasoning,
                language=agent.language,
                vad_threshold=realtime.vad.threshold,
                vad_silence_ms=realtime.vad.silence_duration_ms,
                vad_prefix_ms=realtime.vad.prefix_padding_ms,
                tools=self._tools,
            )
        )
        # Who is answered before the model is there speaks into the session's backlog.
        self._room.media.to_model = self._uplink = session.append_audio
        dialled = self._loop.time()
        client = await xai_client.connect(
            realtime.endpoint,
            session,
            talk.on_session_event,
            api_key=realtime.api_key.get_secret_value(),
            ssl_context=self._ssl_context,
            timeout_s=realtime.connect_timeout_s,
        )
        talk.client = client
        self._room.media.to_model = self._uplink = client.append_audio
        either: set[asyncio.Future[Any]] = {talk.ready, client.lost}
        done, _ = await asyncio.wait(either, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if talk.ready in done:
            ready = talk.ready.result()
            self._model, self._opened_s = ready.model, self._loop.time()
            self._emit(
                model.SessionOpened,
                model=ready.model,
                requested_model=realtime.model,
                conversation_id=ready.conversation_id,
                connect_ms=round((self._loop.time() - dialled) * 1000, 1),
                acknowledged=ready.acknowledged,
            )
        elif client.lost in done:
            raise client.lost.result()
        else:
            raise RealtimeError(f"no session in {READY_TIMEOUT_S:g} s after the handshake")

    async def _converse(self) -> CallOutcome:
        agent = self._agent
        try:
            async with asyncio.timeout(agent.max_duration_s):
                return await self.talk.converse(agent, self._they_begin_s)
        except TimeoutError:
            await self.talk.say_last(agent.closing)
            return CallOutcome(Reason.MAX_DURATION)

    async def _until_left(self) -> object:
        return await self.left

    async def _until_lost(self) -> CallOutcome:
        """The socket died, or the server ended the session."""
        talk = self.talk
        if talk.client is None:
            raise RuntimeError("a session is ready without a socket")
        either: set[asyncio.Future[Any]] = {talk.client.lost, talk.fatal}
        done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return await talk.apologise(Reason.REALTIME_LOST, done.pop().result())


async def _first(*works: Coroutine[Any, Any, object]) -> object:
    """What the first of them says; the others are cancelled, and gone when this returns."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
