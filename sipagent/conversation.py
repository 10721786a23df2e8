"""An agent in the room: its session connected while the phone rings, the talk, and the end of it.

It owns the socket to the model. How the caller came and where they go afterwards is the call's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from sipagent import model
from sipagent.config import Agent
from sipagent.config.policy import PLACEHOLDER
from sipagent.errors import RealtimeError, RealtimeFull, RealtimeRefused
from sipagent.flow.phrases import Phrase
from sipagent.house import Policy
from sipagent.in_line import in_line
from sipagent.line import PRIMED, Line
from sipagent.outcome import CallOutcome, Reason
from sipagent.room import Room
from sipagent.talk import Emit, Talk
from sipagent.tools.calls import HOLD
from sipagent.tools.desk import Builtin, Desk
from sipagent.xai.dialect import SessionConfig

__all__ = ["Builtin", "Conversation", "instructed"]

log = structlog.get_logger()

FILLER_AFTER_S = 0.25
"""A session that is back sooner is no reason to say anything."""
MAX_LOSSES, LOSSES_WITHIN_S = 4, 60.0
"""A line that breaks so often is no line: the caller is given to somebody else."""
MAX_SILENCES = 2
"""A model that does not speak takes long to find out about."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The session is gone in the middle of the talk."""

    reason: Reason
    detail: str


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
        call_id: str,
        instructions: str,
        tools: tuple[Mapping[str, Any], ...] = (),
        builtin: Mapping[str, Builtin] | None = None,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        they_begin_s: float = 0.0,
        history: Callable[[], str] = str,
        resumes: tuple[str, str] | None = None,
    ) -> None:
        """`call_id`: whose session it is. `tools` as they go to the model; `builtin` and the agent's are run for it.

        `variables` of the call; `secrets` are those that may be added later, and that the model must not see.
        `they_begin_s`: the greeting waits so long for them to say hello; when they do, the model answers that.
        `history`: what has been said in this call, for a session that must be told. `resumes`: endpoint and id of
        the conversation that another worker had with this caller.
        """
        self._room, self._agent, self._emit = room, agent, emit
        self._settings = policy.settings
        self._they_begin_s, self._history = they_begin_s, history
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
        realtime = self._settings.realtime
        self.line = Line(
            self.talk,
            policy,
            emit,
            SessionConfig(
                law=room.law,
                model=realtime.model,
                voice=agent.voice or realtime.voice,
                instructions=instructions,
                reasoning=realtime.reasoning,
                language=agent.language,
                vad_threshold=realtime.vad.threshold,
                vad_silence_ms=realtime.vad.silence_duration_ms,
                vad_prefix_ms=realtime.vad.prefix_padding_ms,
                tools=self._tools,
            ),
            call_id,
            resumes,
        )
        self._goes_on = resumes is not None
        """There is a talk already, which the next session must know of."""
        self._connecting: asyncio.Task[None] | None = None
        self._losses: deque[tuple[float, Reason]] = deque(maxlen=MAX_LOSSES)
        self._ends_s: float | None = None
        self._how = ""
        """The last session took up the talk: RESUMED or PRIMED."""
        self._playing_hold = False
        self.left: asyncio.Future[object] = self._loop.create_future()
        """Set to end the talk: a CallOutcome, a Destination, or whoever has taken the caller."""
        self.counters: dict[str, int] = {}
        """Of the socket, the session and the talk; there when it is closed."""

    def dial(self) -> asyncio.Task[None]:
        """Connect the model, beside whatever else there is to do; the caller's first words wait on the line."""
        self._room.interruptible_by(self._agent.barge_in)
        self._room.media.to_model = self.talk.kept.take
        connecting = self._connecting = asyncio.create_task(self._open(), name="realtime-connect")
        # Looked at even if the caller leaves before anybody waits for it, or asyncio would complain.
        connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return connecting

    async def _open(self) -> None:
        if self._goes_on:
            self._how = await self.line.reopen(self._history())
        else:
            await self.line.open()

    async def ready(self) -> None:
        """Return when the agent can speak. RealtimeError when it never will."""
        if self._connecting is not None:
            await asyncio.shield(self._connecting)

    async def run(self) -> object:
        """The caller is here. Returns how the talk ended, the last word being heard, or what `left` was set to."""
        result = await self._run()
        self.talk.company.end()  # whatever comes next must not wait behind it
        if not self.left.done():
            self.left.set_result(result)  # from here on nobody can take the caller out of this talk
        return self.left.result()

    async def _run(self) -> object:
        talk, call = self.talk, self._settings.call
        greet = not self._goes_on
        if self._goes_on:
            talk.company.keep(HOLD)  # they have waited already: the answer cuts a soft sound, and would wait for a word
        elif self._connecting is not None and not self._connecting.done():
            self._room.play([Phrase(call.one_moment, call.language)])
        try:
            await _first(self._session(self.ready), self._until_left())
        except RealtimeFull as error:
            return await self._give_up(Reason.REALTIME_FULL, error)
        except RealtimeRefused as error:
            return await self._give_up(Reason.REALTIME_REFUSED, error)
        except RealtimeError as error:
            return await self._give_up(Reason.REALTIME_UNREACHABLE, error)
        self._ends_s = self._loop.time() + self._agent.max_duration_s
        if self._goes_on:
            talk.owes = True  # the caller has been waiting
        while not self.left.done():
            if self._goes_on:
                talk.recovered(primed=self._how == PRIMED)
            result = await _first(self._converse(greet=greet), self._until_lost(), self._until_left())
            if not isinstance(result, Lost):
                return result
            greet, self._goes_on = False, True
            try:
                await _first(self._recover(result), self._until_left())
            except RealtimeError as error:
                return await self._give_up(result.reason, f"{result.detail}; {error}")
        return None

    async def _session(self, opened: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """It is open, or never will be; who finds all of them taken waits in line if they may."""
        try:
            await opened()
        except RealtimeFull:
            if not self._settings.realtime.waiting:
                raise
            self.talk.company.end()  # there is music of its own, and words, where they stand in line
            await in_line(self.line, self._open, self._room, self._settings, self._agent.language, self._emit)
            self._room.interruptible_by(self._agent.barge_in)
            self.talk.owes |= self._goes_on  # the caller has been waiting

    async def _recover(self, lost: Lost) -> None:
        """Another session, while the caller hears what was still to be heard, then that it takes a moment.

        Raises:
            RealtimeError: there is none to be had, or this happens again and again.
        """
        began_s = self._loop.time()
        self._losses.append((began_s, lost.reason))
        log.warning("session_lost", why=lost.detail)
        self._emit(model.SessionLost, endpoint=self.line.endpoint, detail=lost.detail)
        self.talk.lost()
        lately = [reason for at, reason in self._losses if began_s - at < LOSSES_WITHIN_S]
        if len(lately) >= MAX_LOSSES or lately.count(Reason.REALTIME_SILENT) >= MAX_SILENCES:
            raise RealtimeError(f"lost {len(lately)} times within {LOSSES_WITHIN_S:g} s")
        await self._session(self._open_in_company)
        gap_ms = round((self._loop.time() - began_s) * 1000, 1)
        self._emit(model.SessionRecovered, how=self._how, endpoint=self.line.endpoint, gap_ms=gap_ms)

    async def _open_in_company(self) -> None:
        """The caller hears something meanwhile."""
        filler = asyncio.create_task(self._keep_company(), name="call-filler")
        try:
            await self._open()
        finally:
            filler.cancel()
            await asyncio.wait({filler})
            if self._playing_hold:  # a word that was begun is heard to its end, music is not
                self.talk.company.hush()
                self._playing_hold = False

    async def _keep_company(self) -> None:
        """Nobody waits in silence: a word when it lasts, after what is being said is over; then a soft sound."""
        await asyncio.sleep(FILLER_AFTER_S)
        await self.talk.until_quiet()
        self.talk.company.fill(self._settings.call.one_moment)
        await self.talk.until_quiet()
        self._playing_hold = True
        self.talk.company.fill(HOLD)

    async def _give_up(self, reason: Reason, error: object) -> object:
        """No voice model for this caller: somebody else, if the operator named one, else the apology."""
        self.line.give_up()
        fallback, call = self._agent.fallback, self._settings.call
        if fallback is None:
            return await self.talk.apologise(reason, error)
        log.warning("fallback", reason=reason, error=str(error), to=str(fallback))
        self._emit(model.RealtimeTrouble, what="fallback", detail=f"{reason}: {error}")
        await self.talk.last_prompt(Phrase(call.handover, call.language))
        return fallback

    async def close(self) -> None:
        """The session goes; twice is fine."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, RealtimeError):
                await self._connecting
            self._connecting = None
        if self._desk is not None:
            await self._desk.aclose()
            self._desk = None
        if self._room.media.to_model == self.talk.kept.take:  # and not another conversation's by now
            self._room.media.to_model = None
        await self.line.aclose()
        self.counters = self.counters or self._counted()
        self.talk.close()

    def _counted(self) -> dict[str, int]:
        talk = self.talk
        of_talk = {
            "barge_ins": talk.barge_ins,
            "false_barge_ins": talk.false_barge_ins,
            "kept_dropped": talk.kept.dropped,
        }
        return of_talk | self.line.counters

    # --- its parts

    async def _converse(self, *, greet: bool) -> object:
        agent = self._agent
        try:
            async with asyncio.timeout_at(self._ends_s):
                one_moment = self._settings.call.one_moment
                outcome = await self.talk.converse(agent, self._they_begin_s, greet=greet, one_moment=one_moment)
        except TimeoutError:
            await self.talk.say_last(agent.closing)
            return CallOutcome(Reason.MAX_DURATION)
        if outcome.reason is Reason.REALTIME_SILENT:
            return Lost(outcome.reason, outcome.detail)
        return outcome

    async def _until_left(self) -> object:
        return await asyncio.shield(self.left)  # whoever gives up waiting must not cancel it for the next

    async def _until_lost(self) -> Lost:
        """The socket died, or the server ended the session."""
        talk = self.talk
        if talk.client is None:
            raise RuntimeError("a session is ready without a socket")
        either: set[asyncio.Future[Any]] = {talk.client.lost, talk.fatal}
        done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return Lost(Reason.REALTIME_LOST, str(done.pop().result()))


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
