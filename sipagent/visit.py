"""A person's visit: what they hear and say from the answer on, led by the flow from step to step.

Something to hear, a choice, an agent, and back again from wherever Asterisk had them. Whoever decides that the call is
over raises `CallOver`; what was made for the visit is undone by `leave_room`. How the call came to be, and what its
end looks like, is the call's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import ChainMap
from contextlib import AsyncExitStack

import structlog

from sipagent import away, model
from sipagent.ari.client import new_id
from sipagent.audio import PTIME_MS
from sipagent.call_over import CallOver
from sipagent.callcontrol import CallControl
from sipagent.carried import LEG_VARIABLE
from sipagent.config.destinations import Destination
from sipagent.conversation import Conversation, instructed
from sipagent.errors import AriError, AriRefused, DialingRefused, OrderRefused, RealtimeError
from sipagent.flow import machine
from sipagent.flow.machine import Flow
from sipagent.flow.phrases import Phrase
from sipagent.flow.steps.ending import PartingStep
from sipagent.hearing import LOOK_EVERY_S, Hearing, Verdict
from sipagent.house import House
from sipagent.leaving import Leaving
from sipagent.leg import Errand, dialled_group, permitted
from sipagent.listener import listener
from sipagent.model import Disposition
from sipagent.outcome import CallOutcome, Reason
from sipagent.recording import Recording
from sipagent.referral import Referral
from sipagent.room import NOBODY, Room
from sipagent.rtp.transport import NoPortFree
from sipagent.story import Story
from sipagent.tasks import unless
from sipagent.transfer import Joined, Parties
from sipagent.visitor import Visitor
from sipagent.who_answered import WhoAnswered

log = structlog.get_logger()

HOLD_DOUBTED_S = 60.0
"""A hold of which the worker before told, and of which nothing more is heard."""
HISTORY_CHARS = 6000
"""Of what was said, for a session that must be told: ten minutes of talk."""


class Visit:
    """One person with us. `serve` until CallOver."""

    def __init__(
        self,
        visitor: Visitor,
        house: House,
        story: Story,
        recording: Recording,
        group: asyncio.TaskGroup,
        undo: AsyncExitStack,
    ) -> None:
        """Tasks of the visit run in the call's `group`; `undo` lets go of legs that have joined."""
        self._call_id, self._caller, self._number = visitor.call_id, visitor.caller, visitor.number
        self._law, self._endpoint = visitor.law, visitor.endpoint
        self._house, self._story, self._group, self._undo = house, story, group, undo
        self._emit, self._recording = story.tell, recording
        self._loop = asyncio.get_running_loop()
        self._flow = Flow(house.policy.plan, {})
        self._flow.variables = self.variables = visitor.variables
        self._resumes: tuple[str, str] | None = None
        if carried := visitor.carried:
            self._flow.language = carried.language or self._flow.language
            if carried.step.startswith("agent:") and carried.realtime_endpoint:  # they were in a talk
                self._resumes = (carried.realtime_endpoint, carried.conversation_id)
        self.leg = ""
        """The channel of whoever has taken the call."""
        self._woken = asyncio.Event()
        self._held = carried is not None and carried.held
        """They have put us on hold: no time runs out for them."""
        self._held_s = self._loop.time()
        """Since when, if so."""
        self._speaking = False
        """Something of the flow's is being said, and its end is waited for."""
        self._understood = ""
        """A key that was said. A step may do what it likes, so it does it in our task, not in the model's socket."""
        self._room: Room | None = None
        self._minding: Room | None = None
        """The room in which somebody minds whether the caller is heard."""
        self._conversation: Conversation | None = None
        self._control: CallControl | None = None
        self._leaving = Leaving(visitor.call_id, story)
        self._secrets: dict[str, str] = {}
        """Digits that only tools may see."""
        self._who_answered: WhoAnswered | None = None
        """Of a call out."""
        if order := visitor.order:
            known = ChainMap(self.variables, house.settings.variables)
            self._who_answered = WhoAnswered(order, visitor.caller, story, group, known)
        self._referred = False
        self._ending = asyncio.Event()
        """The node goes down, and they must not be with us much longer."""
        self._caller.on_key, self._caller.on_hold = self._on_key, self._on_hold
        self._caller.on_refer = self._on_refer

    @property
    def room(self) -> Room | None:
        """Where they are with us; None while they are elsewhere."""
        return self._room

    @property
    def held(self) -> bool:
        """They have put us on hold."""
        return self._held

    @property
    def elsewhere(self) -> str:
        """Who has them, if it is somebody who needs none of us: a step of Asterisk's, or who has taken the call."""
        return "a colleague" if self.leg else str(self._flow.at) if self._caller.is_elsewhere else ""

    @property
    def at(self) -> tuple[str, str]:
        """The step they are at, and the language they are spoken to in."""
        return str(self._flow.at or ""), self._flow.language

    async def serve(self, go: Destination, back: str | None = None) -> None:
        """Do what the flow says until it says End.

        `back`: Asterisk's word for how it was where another worker had sent them.
        """
        flow = self._flow
        if self._held:
            self._group.create_task(self._doubt_hold())
        if back is None or go.kind == "agent":  # an agent goes on with them, wherever they were
            flow.begin(go, self._loop.time())
        else:
            flow.come_back(go, back, self._loop.time())
        while True:
            self._woken.clear()
            while (action := flow.poll()) is not None:
                await self._do(action)
            if self._ending.is_set():
                self._part()
            elif self._understood:
                key, self._understood = self._understood, ""
                flow.understood(key, self._loop.time())
            elif self._speaking and not (self._room is not None and self._room.media.talking):
                # Looked at here instead of told by the pacer: by now it is what was last asked for that is over.
                self._speaking = False
                flow.heard(self._loop.time())
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(None if self._held else flow.deadline):
                        await self._woken.wait()
                if not self._held:
                    flow.handle_timer(self._loop.time())

    async def _do(self, action: machine.Action) -> None:
        flow = self._flow
        match action:
            case machine.Entered():
                self._emit(model.StepEntered, step=str(action.step))
            case machine.Retried():
                self._emit(model.StepRetried, step=str(action.step), why=action.why)
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

    def _new_room(self) -> Room:
        room = Room(self._law, self._house, self._recording)
        room.media.held = self._held
        return room

    async def _in_room(self, *, answer: bool = True) -> Room:
        """The caller hears us and is heard; answered, unless early media is enough."""
        if self._room is None:
            self._room = self._new_room()
        room, channel = self._room, self._caller.channel
        await room.open(self._call_id)
        if answer and self._story.answered_s is None:
            await channel.answer()
            self._story.answered(self._loop.time())
        elif self._story.answered_s is None:
            await channel.progress()
        await room.let_in(channel)
        if self._story.answered_s is not None:
            if self._minding is not room:
                self._minding = room
                self._group.create_task(self._mind_hearing(room))
            await room.record()
        return room

    async def _listen(self, action: machine.Listen) -> None:
        """Words count as keys, from now until the question is settled."""
        room = await self._in_room()
        conversation = self._conversation = listener(
            self._call_id, room, action, self._house.policy, self._emit, self._on_understood
        )
        if self._who_answered:
            self._who_answered.conversation = conversation
        if self._held:
            conversation.talk.hold()
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

    def _on_key(self, digit: str) -> None:
        self._flow.key(digit, self._loop.time())
        self._woken.set()

    def _on_hold(self, held: bool) -> None:
        """They put us on hold: what was to be heard waits, the model hears no music, no time runs out."""
        if held == self._held:
            return
        self._held, now = held, self._loop.time()
        if held:
            self._held_s = now
        elif self._flow.deadline is not None:
            self._flow.deadline += now - self._held_s
        self._emit(model.CallHeld if held else model.CallRetrieved, by="caller")
        if self._room is not None:
            self._room.media.held = held
        if self._conversation is not None:
            (self._conversation.talk.hold if held else self._conversation.talk.resume)()
        self._woken.set()

    async def _doubt_hold(self) -> None:
        """They held us when their worker died, and may have come back when nobody was there to hear of it."""
        since_s = self._held_s
        await asyncio.sleep(HOLD_DOUBTED_S)
        if self._held_s == since_s:
            self._on_hold(False)

    def _stop_listening(self) -> None:
        """Beside whatever comes next: a closing handshake is a round trip."""
        self._understood = ""
        if self._room is not None:
            self._room.stop_loop()  # it goes with whoever played it
            self._room.interruptible_by(NOBODY)
            self._room.media.on_talk = None
        if self._conversation is not None:
            self._conversation.talk.leave()
        self._dismiss()

    def _dismiss(self, room: Room | None = None) -> None:
        """Whoever talks with the caller goes, and then the room, if it goes too."""
        conversation, self._conversation = self._conversation, None
        if self._who_answered:
            self._who_answered.conversation = None
        control, self._control = self._control, None
        self._leaving.let_go(conversation, control, room)

    async def leave_room(self) -> None:
        """Everybody leaves, then the room goes; returns when all who ever left have gone."""
        room, self._room = self._room, None
        self._dismiss(room)
        await self._leaving.all_gone()

    async def _converse(self, name: str) -> object:
        """Ring while media and model connect side by side, answer, talk."""
        house, settings = self._house, self._house.settings
        agent = settings.agents[name]
        self._recording.wanted |= agent.record
        if self._room is None:
            self._room = self._new_room()
        if self._story.answered_s is None:
            await self._caller.channel.ring()
        asked = self._who_answered if self._story.disposition is None else None
        control = self._control = CallControl(self._caller, self._secrets, asked.agent_says_machine if asked else None)
        text = agent.instructions + (asked.instructions(agent, self._flow.variables) if asked else "")
        conversation = self._conversation = Conversation(
            self._room,
            agent,
            house.policy,
            self._emit,
            call_id=self._call_id,
            instructions=instructed(text, settings.variables | self._flow.variables),
            builtin=control.builtins(agent, settings),
            variables=self._flow.variables,
            secrets=self._secrets,
            history=lambda: self._story.ledger.transcript(HISTORY_CHARS),
            resumes=self._resumes,
            they_begin_s=settings.outbound.greet_after_s if asked else 0.0,
        )
        self._resumes = None
        control.serve(
            Parties(
                call_id=self._call_id,
                person=self._caller,
                caller=self._number,
                room=self._room,
                agent_name=name,
                agent=agent,
                conversation=conversation,
                ledger=self._story.ledger,
                house=house,
                emit=self._emit,
                step_out=self._step_out,
                leave=functools.partial(self._leave_for, conversation),
            )
        )
        conversation.dial()
        if self._held:
            conversation.talk.hold()
        if asked:
            asked.conversation = conversation
            asked.listen()
        await self._room.open(self._call_id)
        if self._story.answered_s is None:
            with contextlib.suppress(TimeoutError, RealtimeError):
                async with asyncio.timeout(settings.call.answer_within_s):
                    await conversation.ready()
        await self._in_room()
        return await unless(self._ending, conversation.run())

    def _leave_for(self, conversation: Conversation, to: object) -> bool:
        """The agent's part is over, unless it was already; who joins is let go of with the call, whenever it ends."""
        if conversation.left.done():
            return False
        if isinstance(to, Joined):
            self._undo.push_async_callback(to.undo.aclose)
        conversation.left.set_result(to)
        return True

    async def _after(self, result: object) -> None:
        """The agent has done their part."""
        match result:
            case CallOutcome():
                raise CallOver(result)
            case Destination():
                self._stop_listening()
                self._flow.transfer(result, self._loop.time())
            case Joined() if self._room is not None:
                self._dismiss()
                try:
                    await self._room.join(result.leg.channel)
                    await result.leg.channel.set_variable(LEG_VARIABLE, f"{self._house.ari.app} {self._call_id}")
                except AriRefused:  # it is their channel that we ask about
                    raise CallOver(CallOutcome(Reason.COMPLETED, f"{result.name} hung up at once")) from None
                self.leg = result.leg.channel.id
                self._emit(model.StepEntered, step=f"transferred:{result.name}")
                self._story.changed.set()
                await result.leg.until_gone()
                raise CallOver(CallOutcome(Reason.COMPLETED, f"transferred to {result.name}"))
            case None:
                pass  # the node goes down: they part next
            case _:
                raise TypeError(f"a conversation ended with {result!r}")

    # --- elsewhere

    async def _dial(self, to: machine.ToDial) -> None:
        """A second leg by the dialplan, if the policy lets us."""
        beside = self._caller.channel.id
        leg_id = new_id(self._call_id, "dial")  # the call's own is that of the leg by which we reached them
        errand = Errand(leg_id, to, "flow", caller=self._number, beside=beside, listed=to.listed)
        try:
            async with permitted(errand, self._house, self._emit):
                group = dialled_group(to.trunk, errand.number(self._house)).partition("@")[0]
                result = await self._go_elsewhere(away.place_of(to, self._house.settings, group))
        except DialingRefused:
            result = "REFUSED"
        self._flow.returned(result, self._loop.time())

    async def _go_elsewhere(self, place: away.Place) -> str:
        """Asterisk has the caller until they come back; returns its word for how it was."""
        await self.leave_room()
        return await self._step_out(place)

    async def _step_out(self, place: away.Place) -> str:
        """The same with the room kept for them."""
        word = await self._caller.step_out(place)
        if self._room is not None:
            await self._room.let_in(self._caller.channel, again=True)
        return word

    async def _mind_hearing(self, room: Room) -> None:
        """One-way audio: a new media channel, and if they cannot be heard all the same, somebody else, or a word."""
        hearing = Hearing(self._loop.time())
        while self._room is room and not self.leg:
            await asyncio.sleep(LOOK_EVERY_S)
            verdict = hearing.look(room.rtp.counters.received, self._loop.time(), held=self._held)
            if verdict is Verdict.REPAIR:
                self._emit(model.MediaTrouble, action="repaired")
                with contextlib.suppress(AriError, NoPortFree):
                    await room.renew_media()
            elif verdict is Verdict.DEAF:
                self._emit(model.MediaTrouble, action="given_up")
                call = self._house.settings.call
                room.media.flush()
                room.play([Phrase(call.not_heard, call.language)])
                await asyncio.sleep(room.media.queue.queued_ms / 1000 + 2 * PTIME_MS / 1000)
                raise CallOver(CallOutcome(Reason.NO_AUDIO, "nothing of the caller's voice ever came"))

    # --- the node goes down

    def conclude(self) -> None:
        """On to [control] drain_to, or a goodbye. Who has gone to somebody else stays, and parts when they are back."""
        self._ending.set()
        self._woken.set()

    def _part(self) -> None:
        self._ending.clear()
        settings, disposition = self._house.settings, self._story.disposition
        go = None if disposition in {Disposition.MACHINE, Disposition.FAX} else settings.control.drain_to
        say = settings.call.handover if go else settings.control.goodbye
        if self._held or (go is None and self._story.answered_s is None):
            say = ""  # nobody hears it, or it would cost them an answer
        self._stop_listening()
        self._flow.interrupt(PartingStep(say, go), self._loop.time())

    # --- somebody takes their place

    def _on_refer(self, number: str) -> None:
        """They ask us to go on with somebody else (REFER), one at a time."""
        if not self._referred:
            self._referred = True
            self._group.create_task(self._go_on_with(number))

    async def _go_on_with(self, number: str) -> None:
        referral = Referral(self._call_id, self._caller, self._number, self._endpoint, self._house, self._emit)
        await referral.follow(number, lambda: self._room, self._undo)
        self._story.changed.set()  # the channel that carries it may be another one
        if self._room is not None:
            await self._room.record()  # whoever has come has not been told yet
        self._referred = False

    # --- what the operator may ask

    def whisper(self, text: str, *, answer: bool) -> None:
        """Tell the agent something that the caller does not hear. OrderRefused when there is no agent."""
        if self._conversation is None or not self._conversation.talk.whisper(text, answer=answer):
            raise OrderRefused("no agent is in this call now")

    def taken_over(self, joined: Joined) -> bool:
        """Somebody takes the agent's place; False when no agent has the caller."""
        conversation = self._conversation
        return conversation is not None and self._control is not None and self._leave_for(conversation, joined)
