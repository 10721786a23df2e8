"""ONE CALL, from StasisStart to hang-up, top to bottom.

A route says where the call goes; the flow leads it on from there, step by step: something to hear, a choice, an
agent, a queue, somebody's phone. A call ends in exactly one way: somebody raises `CallOver` with a `CallOutcome`
inside the call's task group, which cancels the rest; the exit stack undoes what was made, in reverse; the last
event says how it was. Nobody is left in silence: what cannot be served hears the apology from the prompt cache,
or from Asterisk itself when there is no media.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from sipagent import away, model
from sipagent.ari import events as ari_events
from sipagent.ari.client import ChannelEvents
from sipagent.ari.objects import ChannelHandle
from sipagent.audio import PTIME_MS, Law
from sipagent.callcontrol import CallControl, Joined
from sipagent.config.destinations import Destination
from sipagent.conversation import Conversation, instructed
from sipagent.errors import AriError, RealtimeError
from sipagent.flow import machine
from sipagent.flow.machine import Flow
from sipagent.house import House
from sipagent.listener import listener
from sipagent.model import CallOutcome, Reason
from sipagent.recording import Recording
from sipagent.room import NOBODY, Room
from sipagent.routing.facts import Invite, clean_header, clean_number, facts_of, variables_of
from sipagent.rtp.transport import NoPortFree
from sipagent.story import Story

log = structlog.get_logger()

QUALITY_EVERY_S = 10.0
"""Asterisk renews its losses every 5 s, with RTCP; after the caller's BYE its figures cannot be had any more."""
GONE_GRACE_S = 0.5
"""Asterisk's word that a caller left comes within milliseconds of the refusal it explains."""
APOLOGY_EXTENSION = ("sipagent", "apology")
"""Where Asterisk speaks for us when we have no media (extensions.conf)."""


class CallOver(Exception):
    """Ends a call from anywhere inside its task group."""

    def __init__(self, outcome: CallOutcome) -> None:
        self.outcome = outcome


def law_of(audio_format: str) -> Law:
    """The law of the caller's leg, from the dialplan's ``CHANNEL(audionativeformat)``; others become µ-law."""
    return Law.ALAW if audio_format == Law.ALAW else Law.ULAW


class Call:
    """One call. Made when its StasisStart arrives; `run` is its life."""

    def __init__(self, start: ari_events.StasisStart, happenings: ChannelEvents, house: House) -> None:
        names = ("direction", "called", "endpoint", "format", "sip_call_id", "first_called")
        args = dict(zip(names, start.args, strict=False))
        self.id = start.channel.id
        self.invite = Invite(
            endpoint=args.get("endpoint", ""),
            called=args.get("called", ""),
            caller=clean_number(start.channel.caller.number),
            first_called=args.get("first_called", ""),
        )
        self.law = law_of(args.get("format", ""))
        self._house = house
        self._channel = ChannelHandle(house.ari, self.id)
        self._happenings = happenings
        self._loop = asyncio.get_running_loop()
        self._emit = functools.partial(_emit, house.emit, self.id)
        self.recording = Recording(self.id, self.law, self._emit, house.record)
        """Goes from room to room with the caller."""
        self._flow = Flow(house.policy.plan, {})
        self._woken = asyncio.Event()
        self._speaking = False
        """Something of the flow's is being said, and its end is waited for."""
        self._understood = ""
        """A key that was said. A step may do what it likes, so it does it in our task, not in the model's socket."""
        self._room: Room | None = None
        self._conversation: Conversation | None = None
        self._elsewhere: asyncio.Future[str] | None = None
        """Asterisk has the caller; done with its word when they come back."""
        self._handed_back = False
        self._group: asyncio.TaskGroup | None = None
        self._undo: AsyncExitStack | None = None
        self._hang_up: asyncio.Future[CallOutcome] = self._loop.create_future()
        self._story = Story(self._loop.time())

    # --- the life of a call

    async def run(self) -> CallOutcome:
        """Serve the caller; returns how it ended, when nothing of the call is left."""
        self._emit(
            model.CallStarted,
            caller=self.invite.caller,
            called=self.invite.called,
            endpoint=self.invite.endpoint,
            codec=self.law,
            worker=self._house.worker,
        )
        outcome = CallOutcome(Reason.INTERNAL_ERROR)
        try:
            async with AsyncExitStack() as undo:
                self._undo = undo
                undo.push_async_callback(self._leave_room)
                outcome = await self._live()
                # Undone in reverse: the caller is released first, the bridge goes last.
                undo.push_async_callback(self._release, outcome)
        except AriError as error:
            # Only the clearing up failed; the outcome stands, and a resync or Asterisk's own end does the rest.
            log.warning("call_cleanup_failed", error=str(error))
        finally:
            self._emit(model.CallEnded, **self._story.facts(outcome, self._loop.time()))
            self._group = self._undo = None
        return outcome

    async def _live(self) -> CallOutcome:
        """The edge of a call: whatever happens inside becomes one outcome."""
        outcome: CallOutcome | None = None
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._watch_channel())
                group.create_task(self._watch_orders())
                group.create_task(self._watch_quality())
                await self._serve()
        except BaseExceptionGroup as errors:
            outcome, failure = _verdict(errors)
        if outcome and failure and not isinstance(failure, AriError):
            # The call was ending anyway; the fault is still ours to see.
            log.error("call_failed_at_its_end", exc_info=failure)
        return outcome or await self._outcome_of(failure or AssertionError("_serve returned"))

    async def _outcome_of(self, failure: BaseException) -> CallOutcome:
        """A failure on our side or Asterisk's; the caller, if still there, hears Asterisk say sorry."""
        match failure:
            case NoPortFree():
                reason = Reason.NO_MEDIA_PORT
            case AriError():
                reason = Reason.ARI_FAILED
                # A request about a caller who just left is refused before we read that they left.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GONE_GRACE_S):
                        try:
                            await self._watch_channel()
                        except CallOver as over:
                            return over.outcome
            case _:
                reason = Reason.INTERNAL_ERROR
        log.error("call_failed", reason=reason, exc_info=failure)
        with contextlib.suppress(AriError):
            await self._channel.continue_in(*APOLOGY_EXTENSION)
            self._handed_back = True
        return CallOutcome(reason, str(failure) or type(failure).__name__)

    async def _serve(self) -> None:
        """Find the route, then do what the flow says until it says End."""
        routes = self._house.policy.routes
        headers = {name: clean_header(await self._channel.sip_header(name)) for name in routes.headers}
        facts = facts_of(self.invite, headers, self._house.settings)
        decision = routes.decide(facts, dt.datetime.now(dt.UTC))
        self._emit(model.CallRouted, route=decision.route, destination=str(decision.go or ""))
        if decision.go is None:
            raise CallOver(CallOutcome(Reason.UNKNOWN_NUMBER, f"no route for {self.invite.called!r}"))
        self.recording.wanted = decision.record
        flow = self._flow
        flow.variables = variables_of(self.invite, facts)
        flow.begin(decision.go, self._loop.time())
        while True:
            self._woken.clear()
            while (action := flow.poll()) is not None:
                await self._do(action)
            if self._understood:
                key, self._understood = self._understood, ""
                flow.understood(key, self._loop.time())
            elif self._speaking and not (self._room is not None and self._room.media.talking):
                # Looked at here instead of told by the pacer: by now it is what was last asked for that is over.
                self._speaking = False
                flow.heard(self._loop.time())
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(flow.deadline):
                        await self._woken.wait()
                flow.handle_timer(self._loop.time())

    async def _do(self, action: machine.Action) -> None:
        flow = self._flow
        match action:
            case machine.Entered():
                self._emit(model.StepEntered, step=str(action.step))
            case machine.Say():
                room = await self._in_room(answer=action.answer)
                self._speaking = True
                room.media.on_quiet = self._woken.set
                room.play(action.phrases)
            case machine.Quiet():
                self._speaking = False
                if self._room is not None:
                    self._room.media.flush()
            case machine.ToAgent():
                await self._after(await self._converse(action.agent))
            case machine.ToDial():
                await self._dial(action)
            case machine.Listen():
                await self._listen(action)
            case machine.StopListening():
                self._stop_listening()
            case machine.End():
                if self._room is not None:
                    # The last frame has left us; it is one frame long, and then the caller's.
                    await asyncio.sleep(2 * PTIME_MS / 1000)
                raise CallOver(action.outcome)
            case _:
                flow.returned(await self._go_elsewhere(away.place_of(action, self._house.settings)), self._loop.time())

    # --- with us

    async def _in_room(self, *, answer: bool = True) -> Room:
        """The caller hears us and is heard; answered, unless early media is enough."""
        if self._room is None:
            self._room = Room(self.law, self._house, self.recording)
        room = self._room
        await room.open(self.id)
        if answer and self._story.answered_s is None:
            await self._channel.answer()
            self._answered()
        elif self._story.answered_s is None:
            await self._channel.progress()
        await room.let_in(self._channel)
        if self._story.answered_s is not None:
            await room.record()
        return room

    def _answered(self) -> None:
        if self._story.answered_s is None:
            self._emit(model.CallAnswered, setup_ms=self._story.answered(self._loop.time()))

    async def _listen(self, action: machine.Listen) -> None:
        """Words count as keys, from now until the question is settled."""
        room = await self._in_room()
        conversation = self._conversation = listener(room, action, self._house.policy, self._emit, self._on_understood)
        conversation.talk.on_caller = self._on_caller
        room.media.on_talk = self._on_listener_talk

    def _on_understood(self, key: str) -> None:
        self._understood = key
        self._woken.set()

    def _on_caller(self, speaks: bool) -> None:
        """Who speaks to a menu has cut what it was saying: nothing is waited for but their words."""
        if speaks:
            self._speaking = False
            self._flow.caller_speaks(self._loop.time())
        elif not self._speaking:
            self._flow.caller_pauses(self._loop.time())
        self._woken.set()

    def _on_listener_talk(self, item_id: str) -> None:
        """It asks back: when it has been heard out, it is the caller's turn again."""
        del item_id
        self._speaking = True
        self._flow.listener_speaks(self._loop.time())
        self._woken.set()

    async def _dismiss(self, conversation: Conversation | None) -> None:
        """A conversation ends; what it counted stays."""
        if conversation is None:
            return
        try:
            await conversation.close()
        finally:
            self._story.take_conversation(conversation)

    def _stop_listening(self) -> None:
        """Beside whatever comes next: a closing handshake is a round trip."""
        conversation, self._conversation = self._conversation, None
        self._understood = ""
        if self._room is not None:
            self._room.interruptible_by(NOBODY)
            self._room.media.on_talk = None
        if conversation is not None:
            conversation.talk.leave()
        if self._group is not None:
            self._group.create_task(self._dismiss(conversation))

    async def _leave_room(self) -> None:
        """Everybody leaves, then the room goes; what was counted stays."""
        conversation, self._conversation = self._conversation, None
        await self._dismiss(conversation)
        room, self._room = self._room, None
        if room is not None:
            await room.close()
            self._story.take_room(room)

    async def _converse(self, name: str) -> object:
        """Ring while media and model connect side by side, answer, talk."""
        house, settings = self._house, self._house.settings
        agent = settings.agents[name]
        self.recording.wanted |= agent.record
        if self._room is None:
            self._room = Room(self.law, house, self.recording)
        control = CallControl(self.id, self.invite.caller, self._room, agent, house, self._emit, self._step_out)
        conversation = self._conversation = Conversation(
            self._room,
            agent,
            house.policy,
            self._emit,
            instructions=instructed(agent.instructions, settings.variables | self._flow.variables),
            builtin=control.builtins(),
            variables=self._flow.variables,
        )
        control.serve(conversation)
        if self._story.answered_s is None:
            await self._channel.ring()
        conversation.dial()
        await self._room.open(self.id)
        if self._story.answered_s is None:
            with contextlib.suppress(TimeoutError, RealtimeError):
                async with asyncio.timeout(settings.call.answer_within_s):
                    await conversation.ready()
        await self._in_room()
        return await conversation.run()

    async def _after(self, result: object) -> None:
        """The agent has done their part."""
        match result:
            case CallOutcome():
                raise CallOver(result)
            case Destination():
                self._stop_listening()
                self._flow.transfer(result, self._loop.time())
            case Joined() if self._room is not None and self._undo is not None:
                self._undo.push_async_callback(result.undo.aclose)
                conversation, self._conversation = self._conversation, None
                await self._room.join(result.leg.channel)
                await self._dismiss(conversation)
                await result.leg.until_gone()
                raise CallOver(CallOutcome(Reason.COMPLETED, f"transferred to {result.name}"))
            case _:
                raise TypeError(f"a conversation ended with {result!r}")

    # --- elsewhere

    async def _dial(self, to: machine.ToDial) -> None:
        """A second leg by the dialplan, if the policy lets us."""
        house, now = self._house, self._loop.time
        trunk = house.settings.trunks.get(to.trunk)
        number = str(trunk.e164(to.number)) if trunk else to.number
        refusal = house.guard.refusal(number, self.invite.caller, now())
        if refusal:
            log.warning("dial_refused", why=refusal, trunk=to.trunk)
            self._flow.returned("REFUSED", now())
            return
        house.guard.started(self.id, self.invite.caller, now())
        try:
            result = await self._go_elsewhere(away.place_of(to, house.settings))
        finally:
            house.guard.ended(self.id, now())
        self._flow.returned(result, now())

    async def _go_elsewhere(self, place: away.Place) -> str:
        """Asterisk has the caller until they come back; returns its word for how it was."""
        await self._leave_room()
        return await self._step_out(place)

    async def _step_out(self, place: away.Place) -> str:
        """The same with the room kept for them."""
        await away.prepare(self._channel, place)
        # From here on a StasisEnd is no hang-up.
        back: asyncio.Future[str]
        back = self._elsewhere = self._loop.create_future()
        try:
            await self._channel.continue_in(place.context, place.extension)
            word = await back
        finally:
            self._elsewhere = None
        if self._room is not None:
            await self._room.let_in(self._channel, again=True)
        return word

    # --- what happens to the channel

    async def _watch_channel(self) -> None:
        while True:
            match await self._happenings.next():
                case ari_events.StasisStart(args=["back", *words]) if self._elsewhere is not None:
                    if not self._elsewhere.done():
                        self._elsewhere.set_result(words[0] if words else "")
                case ari_events.StasisEnd() if self._elsewhere is not None:
                    pass  # into the dialplan, as we wanted
                case ari_events.StasisEnd() | ari_events.ChannelDestroyed():
                    answered = self._story.answered_s is not None
                    raise CallOver(CallOutcome(Reason.CALLER_HANGUP if answered else Reason.CALLER_CANCELLED))
                case ari_events.ChannelLost():
                    raise CallOver(CallOutcome(Reason.SWITCH_LOST, "the channel was gone after a reconnection"))
                case ari_events.ChannelStateChange(channel=ari_events.Channel(state="Up")):
                    self._answered()  # by whoever has the caller now
                case ari_events.ChannelDtmfReceived() if self._elsewhere is not None:
                    pass  # for whoever has the caller
                case ari_events.ChannelDtmfReceived() as key:
                    log.info("dtmf")  # not which key: it may be part of a card number
                    self._flow.key(key.digit, self._loop.time())
                    self._woken.set()
                case _:
                    pass

    async def _watch_orders(self) -> None:
        raise CallOver(await self._hang_up)

    async def _watch_quality(self) -> None:
        while True:
            await asyncio.sleep(QUALITY_EVERY_S)
            if self._story.answered_s is not None:
                await self._story.look_at_quality(self._channel)

    # --- the end

    def hang_up(self, outcome: CallOutcome) -> None:
        """End the call from outside: the operator, or a worker that shuts down."""
        if not self._hang_up.done():
            self._hang_up.set_result(outcome)

    async def _release(self, outcome: CallOutcome) -> None:
        if not self._handed_back:
            if self._story.answered_s and outcome.reason is not Reason.CALLER_HANGUP:
                await self._story.look_at_quality(self._channel)
            await self._channel.hang_up(outcome.cause)


def _emit(
    listener: Callable[[model.CallEvent], None], call_id: str, kind: type[model.CallEvent], **facts: object
) -> None:
    listener(kind(call_id=call_id, at=time.time(), **facts))  # type: ignore[arg-type]


def _verdict(errors: BaseExceptionGroup) -> tuple[CallOutcome | None, BaseException | None]:
    """How the call ended, if somebody said so, and what failed besides (or instead).

    Tracebacks point to frames, and these to the call: what only carried an outcome is stripped of its own, so
    that no cycle is left for the collector.
    """
    outcome: CallOutcome | None = None
    failure: BaseException | None = None
    errors.__traceback__ = None
    for error in errors.exceptions:
        if isinstance(error, CallOver):
            outcome = outcome or error.outcome
            error.__traceback__ = error.__cause__ = error.__context__ = None
        else:
            failure = failure or error
    return outcome, failure
