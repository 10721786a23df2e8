"""ONE CALL, from its first event to hang-up, top to bottom.

A call in has a route that says where it goes; for a call out the agent is named, once somebody has answered. The flow
leads on from there, step by step: something to hear, a choice, an agent, a queue, somebody's phone. A call ends in
exactly one way: somebody raises `CallOver` with a `CallOutcome` inside the call's task group, which cancels the rest;
the exit stack undoes what was made, in reverse; the last event says how it was. Nobody is left in silence: what cannot
be served hears the apology from the prompt cache, or from Asterisk itself when there is no media.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import structlog

from sipagent import carried as carried_by
from sipagent import model, tracecontext
from sipagent.adoption import claim, stay_with_them
from sipagent.ari import events as ari_events
from sipagent.ari.client import ChannelEvents
from sipagent.ari.objects import ChannelHandle, drop_bridges
from sipagent.audio import Law
from sipagent.call_over import CallOver, verdict
from sipagent.caller import Caller, Gone
from sipagent.carried import Carried
from sipagent.config.destinations import Destination
from sipagent.errors import AriError, AriRefused, DialingRefused, NoRoom, OrderRefused
from sipagent.house import House
from sipagent.leg import dialled_group
from sipagent.limits import CALLER, NODE, RATE, ROUTE, Counted, full
from sipagent.model import Direction
from sipagent.orders import Originate
from sipagent.outbound import reach
from sipagent.outcome import CallOutcome, Reason
from sipagent.recording import Recording
from sipagent.routing.facts import Invite, clean_header, clean_number, facts_of, variables_of
from sipagent.routing.routes import Decision
from sipagent.rtp.transport import NoPortFree
from sipagent.story import Story
from sipagent.supervision import Supervision
from sipagent.tracecontext import Trace
from sipagent.transfer import Joined
from sipagent.visit import Visit
from sipagent.visitor import Visitor

log = structlog.get_logger()

QUALITY_EVERY_S = 10.0
"""Asterisk renews its losses every 5 s, with RTCP; after the caller's BYE its figures cannot be had any more."""
GONE_GRACE_S = 0.5
"""Asterisk's word that a caller left comes within milliseconds of the refusal it explains."""
CARRY_EVERY_S = 0.2
LOOP_CAUSE = 25
"""Q.850: exchange routing error."""
APOLOGY_EXTENSION = ("sipagent", "apology")
"""Where Asterisk speaks for us when we have no media (extensions.conf)."""


def law_of(audio_format: str) -> Law:
    """The law of a leg, from ``CHANNEL(audionativeformat)``; others become µ-law."""
    return Law.ALAW if Law.ALAW in audio_format else Law.ULAW


class Call:
    """One call. Made when its StasisStart arrives, or when we are asked to call; `run` is its life."""

    def __init__(
        self,
        call_id: str,
        invite: Invite,
        house: House,
        *,
        caller: Caller | None = None,
        order: Originate | None = None,
        carried: Carried | None = None,
        turned_away: str = "",
    ) -> None:
        """A call in has its `caller`; a call out the `order` for it, and a caller when somebody has answered.

        One that another worker had has what it `carried`. `turned_away`: which limit has no room for it.
        """
        self.id, self.invite, self.law = call_id, invite, Law.ULAW
        self._house, self._caller, self._order = house, caller, order
        self._direction = carried.direction if carried else Direction.OUT if order else Direction.IN
        self._loop = asyncio.get_running_loop()
        show = house.settings.log.show_transcripts
        self._carried, self._turned_away = carried, turned_away
        self._back: str | None = None
        now, age_s = self._loop.time(), max(time.time() - carried.started_at, 0.0) if carried else 0.0
        self._story = Story(call_id, now - age_s, house.emit, show=show, history=carried.history if carried else "")
        if carried:
            self._story.step = carried.step
            self._story.conversation = (carried.realtime_endpoint, carried.conversation_id)
        if carried and carried.answered:
            self._story.answered_s, self._story.disposition = now, carried.disposition
        self._emit = self._story.tell
        self.recording = Recording(call_id, self._emit, house.record)
        """Goes from room to room with the caller."""
        self._visit: Visit | None = None
        self._supervision = Supervision(call_id, house, self._emit, self._taken_over)
        self._handed_back = False
        self._with = ""
        """Who has the caller, when their talk goes on without any of us."""
        self.kept = AsyncExitStack()
        """What joins two who talk on when our process has gone. Held to its end: what is forgotten is undone, too."""
        self._watches = False
        """They talk with somebody, and all that we do is to wait for the end of it."""
        self._group: asyncio.TaskGroup | None = None
        self._hang_up: asyncio.Future[CallOutcome] = self._loop.create_future()

    @classmethod
    def incoming(
        cls, start: ari_events.StasisStart, happenings: ChannelEvents, house: House, turned_away: str = ""
    ) -> Call:
        """Somebody calls: what the dialplan says of them (extensions.conf, [sipagent])."""
        names = ("direction", "called", "endpoint", "format", "sip_call_id", "first_called")
        args = dict(zip(names, start.args, strict=False))
        invite = Invite(
            endpoint=args.get("endpoint", ""),
            called=args.get("called", ""),
            caller=clean_number(start.channel.caller.number),
            first_called=args.get("first_called", ""),
        )
        caller = Caller(ChannelHandle(house.ari, start.channel.id), happenings)
        call = cls(start.channel.id, invite, house, caller=caller, turned_away=turned_away)
        call.law = law_of(args.get("format", ""))
        return call

    @classmethod
    def adopted(
        cls, carried: Carried, channel: ChannelHandle, happenings: ChannelEvents, house: House, back: str | None
    ) -> Call:
        """Its worker has died, and it goes on with us. `back`: it has just come back from elsewhere, with this word."""
        invite = Invite(endpoint=carried.endpoint, called=carried.called, caller=carried.caller)
        call = cls(carried.call_id, invite, house, caller=Caller(channel, happenings), carried=carried)
        call.law, call._back = Law(carried.law), back
        return call

    @classmethod
    def outgoing(cls, order: Originate, house: House) -> Call:
        """We call somebody."""
        invite = Invite(endpoint=order.trunks[0] if order.trunks else "", called=order.to, caller=order.shown)
        return cls(order.call_id, invite, house, order=order)

    # --- the life of a call

    async def run(self) -> CallOutcome:
        """Serve the caller; returns how it ended, when nothing of the call is left."""
        if self._carried is not None:
            self._tell_adoption(self._carried)
        else:
            self._tell_start()
        outcome = CallOutcome(Reason.INTERNAL_ERROR)
        try:
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self._supervision.aclose)
                outcome = await self._live(undo)
                if self._with:
                    self.kept = undo.pop_all()
                    undo.push_async_callback(self._supervision.aclose)
                # Undone in reverse: the caller is released first, the bridge goes last.
                undo.push_async_callback(self._release, outcome)
        except AriError as error:
            # Only the clearing up failed; the outcome stands, and a resync or Asterisk's own end does the rest.
            log.warning("call_cleanup_failed", error=str(error))
        finally:
            self._emit(model.CallEnded, **self._story.facts(outcome, self._loop.time()))
            self._group = self._visit = None
            if self._caller is not None:
                self._caller.let_go()
        return outcome

    def _tell_start(self) -> None:
        self._emit(
            model.CallStarted,
            caller=self.invite.caller,
            called=self.invite.called,
            endpoint=self.invite.endpoint,
            codec=self.law,
            worker=self._house.worker,
            direction=self._direction,
        )

    async def _live(self, undo: AsyncExitStack) -> CallOutcome:
        """The edge of a call: whatever happens inside becomes one outcome."""
        outcome: CallOutcome | None = None
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._watch_orders())
                go, visitor = await self._begin(undo)
                self._visit = visit = Visit(visitor, self._house, self._story, self.recording, group, undo)
                undo.push_async_callback(visit.leave_room)
                group.create_task(self._carry(visit, visitor))
                await visit.serve(go, self._back)
        except BaseExceptionGroup as errors:
            outcome, failure = verdict(errors)
        if outcome and failure and not isinstance(failure, AriError):
            # The call was ending anyway; the fault is still ours to see.
            log.error("call_failed_at_its_end", exc_info=failure)
        return outcome or await self._outcome_of(failure or AssertionError("_serve returned"))

    async def _outcome_of(self, failure: BaseException) -> CallOutcome:
        """A failure on our side or Asterisk's; the caller, if still there, hears Asterisk say sorry."""
        caller = self._caller
        match failure:
            case NoPortFree():
                reason = Reason.NO_MEDIA_PORT
            case NoRoom():
                reason = Reason.TURNED_AWAY
            case AriError():
                reason = Reason.ARI_FAILED
                # A request about a caller who just left is refused before we read that they left.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GONE_GRACE_S):
                        if caller is not None:
                            return self._left(await caller.until_gone())
            case _:
                reason = Reason.INTERNAL_ERROR
        if reason is not Reason.TURNED_AWAY:
            log.error("call_failed", reason=reason, exc_info=failure)
        if caller is not None:
            with contextlib.suppress(AriError):
                await caller.channel.continue_in(*APOLOGY_EXTENSION)
                self._handed_back = True
        return CallOutcome(reason, str(failure) or type(failure).__name__)

    async def _begin(self, undo: AsyncExitStack) -> tuple[Destination, Visitor]:
        """Where it goes, and who is there."""
        if self._carried is not None:
            return await self._take_over(self._carried, undo)
        return await (self._reach(self._order, undo) if self._order else self._route())

    async def _take_over(self, carried: Carried, undo: AsyncExitStack) -> tuple[Destination, Visitor]:
        """What the dead worker had made goes, and the caller stays; two who talk with each other are left to it."""
        caller = self._watch(self._caller)
        await claim(carried, caller.channel, self._house)
        if carried.leg:
            await stay_with_them(carried, caller.channel, self._house, self.id, undo, self._only_watch)
        await drop_bridges(self._house.ari, self.id)
        self.recording.wanted = carried.record
        for by in carried.paused:
            self.recording.pause(by)
        visitor = Visitor(
            self.id, caller, carried.number, carried.endpoint, self.law, dict(carried.variables), carried=carried
        )
        return Destination(carried.step), visitor

    def _only_watch(self) -> None:
        self._watches = True

    async def _carry(self, visit: Visit, visitor: Visitor) -> None:
        """What another worker must know rides on the channel, `CARRY_EVERY_S` old; what was said, `SAID_WITHIN_S`."""
        while True:
            await self._story.changed.wait()
            self._story.changed.clear()
            try:
                await visitor.caller.channel.set_variable(carried_by.VARIABLE, self._state(visit, visitor).text())
            except AriRefused:
                return  # they have gone
            except AriError:
                self._story.changed.set()  # Asterisk was away for a moment, and does not know yet
            await asyncio.sleep(CARRY_EVERY_S)

    def _state(self, visit: Visit, visitor: Visitor) -> Carried:
        endpoint, conversation_id = self._story.conversation
        step, language = visit.at
        age_s = self._loop.time() - self._story.started_s
        return Carried(
            app=self._house.ari.app,
            run=self._house.run,
            call_id=self.id,
            endpoint=self.invite.endpoint,
            called=self.invite.called,
            caller=self.invite.caller,
            number=visitor.number,
            law=self.law,
            started_at=time.time() - age_s,
            direction=self._direction,
            answered=self._story.answered_s is not None,
            step=step,
            language=language,
            variables=visit.variables,
            conversation_id=conversation_id,
            realtime_endpoint=endpoint,
            history=self._story.ledger.transcript(carried_by.HISTORY_CHARS),
            leg=visit.leg,
            held=visit.held,
            record=self.recording.wanted,
            paused=self.recording.paused_by,
            disposition=self._story.disposition,
        )

    async def _route(self) -> tuple[Destination, Visitor]:
        """Somebody calls: where do they go?"""
        caller = self._watch(self._caller)
        routes = self._house.policy.routes
        headers = {name: clean_header(await caller.channel.sip_header(name)) for name in routes.headers}
        header = self._house.settings.tracing.header
        traceparent = tracecontext.valid(clean_header(await caller.channel.sip_header(header))) if header else ""
        self._trace(traceparent)
        facts = facts_of(self.invite, headers, self._house.settings)
        decision = routes.decide(facts, dt.datetime.now(dt.UTC))
        group = dialled_group(self.invite.endpoint, facts.called[-1])
        if (count := await caller.channel.variable(f"GROUP_COUNT({group})")).isdigit() and int(count):
            log.error("call_loop", number=facts.called[-1], mend="the other side routes this number to us")
            raise CallOver(CallOutcome(Reason.REJECTED, "a call of ours that came back to us", LOOP_CAUSE))
        destination = str(decision.go or "")
        self._emit(model.CallRouted, route=decision.route, destination=destination, traceparent=traceparent)
        if decision.go is None:
            raise CallOver(CallOutcome(Reason.UNKNOWN_NUMBER, f"no route for {self.invite.called!r}"))
        go = await self._unless_full(decision, caller.channel)
        variables = variables_of(self.invite, facts)
        self.recording.wanted = decision.record
        return go, Visitor(self.id, caller, self.invite.caller, self.invite.endpoint, self.law, variables)

    async def _unless_full(self, decision: Decision, channel: ChannelHandle) -> Destination:
        """Where the route leads, or where those go who find no room; without such a place they are told so."""
        limits, gate = self._house.settings.limits, self._house.gate
        limit = self._turned_away or ("" if gate.rate.has_room(limits.per_second, self._loop.time()) else RATE)
        limit = limit or await full(
            channel,
            Counted(NODE, limits.at_once),
            Counted(CALLER, limits.per_caller if self.invite.caller else 0, self.invite.caller),
            Counted(ROUTE, decision.at_once, decision.route),
        )
        if not limit and decision.go is not None:
            return decision.go
        instead = decision.full or limits.full
        self._emit(model.TurnedAway, limit=limit, to=str(instead or ""))
        if instead is None:
            raise NoRoom(f"no room: {limit}")
        return instead

    async def _reach(self, order: Originate, undo: AsyncExitStack) -> tuple[Destination, Visitor]:
        """We call somebody, and an agent talks with whoever answers."""
        self._trace()
        try:
            reached = await reach(order, self._house, self._emit, undo)
        except DialingRefused as refusal:
            raise CallOver(CallOutcome(Reason.DIAL_REFUSED, str(refusal))) from None
        if reached.leg is None:
            told = f"Q.850 {reached.cause}: {reached.detail}" if reached.cause else reached.detail
            self._emit(model.Classified, disposition=reached.disposition, said_by="signalling", detail=told)
            raise CallOver(CallOutcome(Reason.NOT_REACHED, reached.detail, reached.cause or None))
        self.invite = replace(self.invite, endpoint=reached.trunk)
        caller = self._caller = self._watch(Caller(reached.leg.channel, reached.leg.happenings))
        self._answered()
        self.law = law_of(await caller.channel.variable("CHANNEL(audionativeformat)"))
        variables = {
            **order.variables,
            "called": order.to,
            "caller": order.to,  # whoever talks with us, as in every call
            "original_called": order.to,
            "trunk": reached.trunk,
        }
        return Destination(f"agent:{order.agent}"), Visitor(
            self.id, caller, order.to, reached.trunk, self.law, variables, order
        )

    def _trace(self, incoming: str = "") -> None:
        """Whoever works for this call from here on can tell others which trace it belongs to."""
        tracing = self._house.settings.tracing
        if tracing.endpoint:
            tracecontext.current.set(Trace.of(self.id, tracing.node, tracing.sample_ratio, incoming))

    def _watch(self, caller: Caller | None) -> Caller:
        """From here on we hear of everything that happens to them."""
        if caller is None or self._group is None:
            raise RuntimeError("a call has somebody in it, and a task group")
        caller.on_up = self._answered
        self._group.create_task(self._watch_channel(caller))
        self._group.create_task(self._watch_quality(caller))
        return caller

    def _tell_adoption(self, carried: Carried) -> None:
        self._emit(
            model.CallAdopted,
            worker=self._house.worker,
            step=carried.step,
            caller=carried.caller,
            called=carried.called,
            endpoint=carried.endpoint,
            codec=carried.law,
            direction=carried.direction,
            answered=carried.answered,
            started_at=carried.started_at,
        )

    # --- what happens meanwhile

    def _answered(self) -> None:
        self._story.answered(self._loop.time())

    async def _watch_channel(self, caller: Caller) -> None:
        raise CallOver(self._left(await caller.until_gone()))

    def _left(self, gone: Gone) -> CallOutcome:
        if gone is Gone.LOST:
            return CallOutcome(Reason.SWITCH_LOST, "the channel was gone after a reconnection")
        answered = self._story.answered_s is not None
        return CallOutcome(Reason.CALLER_HANGUP if answered else Reason.CALLER_CANCELLED)

    async def _watch_orders(self) -> None:
        raise CallOver(await self._hang_up)

    async def _watch_quality(self, caller: Caller) -> None:
        while True:
            await asyncio.sleep(QUALITY_EVERY_S)
            if self._story.answered_s is not None:
                await self._story.look_at_quality(caller.channel)

    # --- the node goes down

    @property
    def elsewhere(self) -> str:
        """Who has the caller, if it is somebody who needs none of us; empty: they are with us."""
        return "a colleague" if self._watches else self._visit.elsewhere if self._visit else ""

    def conclude(self) -> None:
        """On to [control] drain_to, or a goodbye; who has not come to anything yet is released."""
        if self._visit is not None:
            self._visit.conclude()
        elif not self._watches:
            self.hang_up(CallOutcome(Reason.SHUTDOWN))

    def leave(self) -> None:
        """Our process ends: who is with somebody else stays with them, others are released."""
        self._with = self.elsewhere
        reason = Reason.COMPLETED if self._with else Reason.SHUTDOWN
        self.hang_up(CallOutcome(reason, f"left with {self._with}" if self._with else ""))

    # --- what the operator may ask

    def hang_up(self, outcome: CallOutcome) -> None:
        """End the call from outside: the operator, or a worker that shuts down."""
        if not self._hang_up.done():
            self._hang_up.set_result(outcome)

    def tell_agent(self, text: str, *, answer: bool) -> None:
        """Whisper to the agent. OrderRefused when there is none."""
        if self._visit is None:
            raise OrderRefused("the call has not been answered yet")
        self._visit.whisper(text, answer=answer)
        self._emit(model.Supervised, what="message", who="operator", result="ok")

    async def supervise(self, name: str, how: str) -> None:
        """Let a supervisor in. OrderRefused, which says why, when that cannot be."""
        if self._caller is None or self._visit is None or self._story.answered_s is None:
            raise OrderRefused("the call has not been answered yet")
        await self._supervision.let_in(name, how, self._caller.channel, self._visit.room)

    async def dismiss_supervisor(self) -> None:
        """They leave, the call goes on."""
        await self._supervision.dismiss()

    def pause_recording(self, by: str, *, on: bool) -> None:
        """Nothing is written until they want it again; whoever adopts the call keeps to it."""
        (self.recording.pause if on else self.recording.resume)(by)
        self._story.changed.set()

    def _taken_over(self, joined: Joined) -> bool:
        return self._visit is not None and self._visit.taken_over(joined)

    # --- the end

    async def _release(self, outcome: CallOutcome) -> None:
        if self._caller is not None and not self._handed_back and not self._with:
            if self._story.answered_s and outcome.reason is not Reason.CALLER_HANGUP:
                await self._story.look_at_quality(self._caller.channel)
            await self._caller.channel.hang_up(outcome.cause)
