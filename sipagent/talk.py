"""The talk itself: one caller and one voice model, once they are joined.

The model's events come in within the loop step that read them (`on_session_event`), the pacer tells when the
agent is heard and when it falls quiet. From the two follow barge-in, the transcript, the turns and the
no-input ladder. It refuses to know how the two were connected, and how a call ends: `converse` and
`apologise` say why the talk is over, and `call` does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping

import structlog

from sipagent import model
from sipagent.audio import PTIME_MS, SAMPLE_RATE_HZ
from sipagent.company import Company
from sipagent.config import Agent
from sipagent.flow.no_input import GiveUp, KeepCompany, NoInput, Say
from sipagent.flow.phrases import Phrase
from sipagent.kept import Kept
from sipagent.media import Flushed
from sipagent.model import Role
from sipagent.nudge import Nudge
from sipagent.outcome import CallOutcome, Reason
from sipagent.room import PROMPT, Room
from sipagent.tools.calls import HOLD
from sipagent.tools.desk import Desk
from sipagent.turns import TurnClock
from sipagent.words import Words
from sipagent.xai import events as xai_events
from sipagent.xai import session as xai
from sipagent.xai.client import RealtimeClient

log = structlog.get_logger()

SPEAKS_S = 0.3
"""Whose last sound is no older has not finished."""
SPOKEN_TIMEOUT_S = 15.0
"""Longest wait for a last word to begin."""
LAST_WORD_S = 60.0
"""From there; a longer text is cut."""
Emit = Callable[..., None]
"""`emit(kind of CallEvent, **its facts)`."""


class Talk:
    """What is said between answer and goodbye."""

    def __init__(self, room: Room, apology: Phrase, emit: Emit) -> None:
        self.turns = 0
        self.barge_ins = self.false_barge_ins = 0
        self.agent_audio_s = 0.0
        """Of the agent's speech that came."""
        self.client: RealtimeClient | None = None
        """The model's socket, once it is open."""
        self._loop = asyncio.get_running_loop()
        self._room, self._media, self._apology, self._emit = room, room.media, apology, emit
        self.ready: asyncio.Future[xai.Ready]
        """Done when the session is configured."""
        self.fatal: asyncio.Future[xai.Fatal]
        """Done when the server ended the session."""
        self.renew()
        self.owes = False
        """The model's turn: an answer of it is expected, or not heard to its end yet."""
        self.kept = Kept()
        """Where the caller's frames go: to the model, and to the next one if they may be needed there."""
        self._unanswered = False
        """The session was lost after words of theirs that it may never have heard."""
        self._known_calls: set[str] = set()
        """Function calls of this session; the results of others it would not understand."""
        self.on_function: Callable[[xai_events.FunctionCall], bool] | None = None
        """A function the model calls; False: there is none of that name, or its arguments make no sense."""
        self.desk: Desk | None = None
        """Where the model's function calls are carried out, if it has any."""
        self.on_caller: Callable[[bool], None] | None = None
        """The model hears the caller speak (True) or pause (False)."""
        self._no_input: NoInput | None = None
        self._moved = asyncio.Event()  # wakes the no-input ladder, which
        self._wakes_at = math.inf  # wakes by itself then
        self._talked, self._quiet = asyncio.Event(), asyncio.Event()
        self._spoke = asyncio.Event()
        """The caller has said something, ever."""
        self._quiet.set()
        self._turn = TurnClock()
        self._words = Words()
        self._held: Callable[[bytes], object] | None = None
        self._holds = 0
        self._left = self._mute = False
        self._late: dict[str, str] = {}
        """Results of tools that came when there was no session."""
        self.company = Company(room, apology.language, self._quiet)
        """What the caller hears of us because the answer is late."""
        self._nudge = Nudge(lambda: room.media.barge_in.voiced_at)
        self._media.interruptible = True  # whatever the last word was of who had the caller before
        self._media.on_talk, self._media.on_quiet = self._on_talk, self._on_quiet
        self._media.on_cut, self._media.on_resume = self._on_cut, self._on_resume

    def renew(self) -> None:
        """A session is about to be opened, the first or another one."""
        self.ready, self.fatal = self._loop.create_future(), self._loop.create_future()

    def lost(self) -> None:
        """The session is gone: what the model was about to do will not happen."""
        self.client = None  # what a tool has found is for the next one
        voiced_at = self._media.barge_in.voiced_at  # since the agent last spoke
        # In the middle of their words it is no question of ours: the next session hears them, and answers by itself.
        speaks = self.kept.caller_speaks or (voiced_at is not None and time.monotonic() - voiced_at < SPEAKS_S)
        self._unanswered, self.kept.caller_speaks = voiced_at is not None and not speaks, False
        self.company.end()
        self._media.play_end()
        if self.desk is not None:
            self.desk.response_done("", "cancelled")

    def recovered(self, *, primed: bool) -> None:
        """There is another one: it goes on where the other stopped."""
        if primed:
            self._known_calls.clear()
        late, self._late = self._late, {}
        if late:
            self.send_results(late, respond=True)
        elif self.owes or self._unanswered:
            self.ask_for_answer()

    def leave(self) -> None:
        """The caller is somebody else's: what the model still says while its socket closes is for nobody."""
        self._left = True

    def close(self) -> None:
        """The call is over: no timer fires any more, and nothing here points back to who points to us.

        So a call is gone with its last reference, and no collector has to stop the loop to find it.
        """
        self._nudge.settle()
        self.client = self._no_input = self._held = self.on_function = self.on_caller = self.desk = None

    # --- the course of a talk

    async def converse(
        self, agent: Agent, they_begin_s: float = 0.0, *, greet: bool = True, one_moment: str = ""
    ) -> CallOutcome:
        """The talk happens in the callbacks below; what is left to do here is to mind the silence.

        `one_moment` is said to who waits long for an answer.

        Returns when nobody talks any more, the goodbye (or the apology) having been heard.
        """
        if greet:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(they_begin_s):
                    await self._spoke.wait()
            greet = bool(agent.greeting) and not self._spoke.is_set()
        ladder = self._no_input = NoInput(agent.no_input_s, agent.reprompts, agent.goodbye, self._loop.time())
        if greet:
            self.owes = True
            self.say(agent.greeting)
            ladder.model_begins(self._loop.time())
        if self.talking:
            # After the loss of a session: the rest of what was said is still heard, and what comes joins it without
            # a pause, so nobody would tell this ladder that the agent speaks.
            ladder.agent_speaks()
        if self._waits:
            ladder.caller_speaks()
        while True:
            self._moved.clear()
            self._wakes_at = math.inf if ladder.deadline is None else ladder.deadline
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ladder.deadline):
                    await self._moved.wait()
            match ladder.handle_timer(self._loop.time()):
                case Say() as step:
                    self._emit(model.NoInputStep, step=step.step)
                    self.say(step.text)
                case KeepCompany() if self.owes and ladder.kept_company:
                    # They have spoken again, and again there is no answer.
                    return CallOutcome(Reason.REALTIME_SILENT, "the model does not speak")
                case KeepCompany() if self.owes and one_moment:
                    ladder.kept_company = True
                    self.company.keep(one_moment, HOLD)
                case GiveUp(model_silent=True):
                    return CallOutcome(Reason.REALTIME_SILENT, "the model does not speak")
                case GiveUp() as step:
                    self._emit(model.NoInputStep, step=step.step)
                    await self.say_last(step.text)
                    return CallOutcome(Reason.NO_INPUT)
                case None | KeepCompany():
                    pass

    def say(self, text: str) -> None:
        """In the agent's own voice, word for word."""
        if self.client:
            self.client.session.say(text)
            self.client.flush()

    async def say_last(self, text: str) -> bool:
        """A last word; returns when the caller has heard it. False: they have not, or not all of it."""
        self._last_word()
        if self.client is None:
            return False
        if self._mute:
            self.client.session.silence()
            self._mute = False
        self._talked.clear()
        self.say(text)
        try:
            async with asyncio.timeout(SPOKEN_TIMEOUT_S):
                await self._talked.wait()
            async with asyncio.timeout(LAST_WORD_S):
                await self.until_quiet()
        except TimeoutError:
            return False
        return True

    def whisper(self, text: str, *, answer: bool = False) -> bool:
        """Tell the model something that the caller does not hear; `answer`: it speaks at once. False: it is away."""
        if self.client is None:
            return False
        self.client.session.whisper(text)
        if answer:
            self.client.session.respond(must=True)
        self.client.flush()
        return True

    def silence(self) -> None:
        """What the agent is saying ends now, and nothing more of it is heard but a last word."""
        self._mute = True
        self._media.give_way()
        if self.client is not None:
            self.client.session.silence()
            self.client.flush()

    def hold(self) -> None:
        """The caller waits for somebody else: the model does not hear them, and no time runs out.

        Who held it more than once is back with as many `resume`s.
        """
        self._holds += 1
        if self._holds == 1:
            self._held, self._media.to_model = self._media.to_model, None
            self._note(NoInput.caller_speaks)

    def resume(self) -> None:
        """The caller is back."""
        self._holds -= 1
        if self._holds == 0 and not self._left:  # else the media is somebody else's
            self._media.to_model, self._held = self._held, None
            self._note(NoInput.caller_pauses, self._loop.time())

    async def apologise(self, reason: Reason, error: object) -> CallOutcome:
        """The caller hears that it is not their fault; returns when they have."""
        log.warning("call_apology", reason=reason, error=str(error))
        await self.last_prompt(self._apology)
        return CallOutcome(reason, str(error))

    async def last_prompt(self, phrase: Phrase) -> None:
        """A last word without the model; returns when the caller has heard it."""
        self._last_word()
        self._media.to_model = None
        self._room.play([phrase])
        self._quiet.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await self.until_quiet()

    def _last_word(self) -> None:
        """What is said now is heard to its end, whatever noise the caller makes.

        The ladder stops, also the one `converse` waits on: the apology may be said beside it, when the model's
        socket is lost.
        """
        self._room.stop_loop()  # of a tool that is still at work
        self._media.interruptible = False
        self._media.flush()
        if self._no_input is not None:
            self._no_input.stop()
            self._moved.set()

    async def until_quiet(self) -> None:
        """Return when the caller has heard all that was said."""
        await self._quiet.wait()
        while self._media.talking:  # noqa: ASYNC110 - it may begin with silence: nobody was told that it begins
            await asyncio.sleep(PTIME_MS / 1000)
        # The last frame has left us; it is one frame long, and then the caller's.
        await asyncio.sleep(2 * PTIME_MS / 1000)

    # --- from the model's socket

    def on_session_event(self, event: xai.SessionEvent) -> None:
        """Acts within the loop step that read the event."""
        if self._left:
            return
        match event:
            case xai.AgentAudio() if self._mute:
                pass
            case xai.AgentAudio():
                self.company.end()
                self.agent_audio_s += len(event.audio) / SAMPLE_RATE_HZ
                self._turn.audio(time.monotonic())
                if self.desk is not None:
                    self.desk.audio()
                self._media.play(event.item_id, event.audio)
            case xai.AgentAudioDone():
                self._media.play_end(event.item_id)
            case xai_events.SpeechStarted():
                self._caller_begins()
            case xai_events.SpeechStopped():
                self._caller_ends()
            case xai_events.InputTranscript():
                self._transcript(Role.CALLER, event.item_id, event.text, final=event.final)
            case xai.AgentTranscript():
                self._transcript(Role.AGENT, event.item_id, event.text, final=event.final)
            case xai_events.FunctionCall():
                self._known_calls.add(event.call_id)
                if self.desk is not None:
                    self.desk.called(event)
                elif self.on_function is None or not self.on_function(event):
                    self._refuse_function(event)
            case xai.FunctionCallCut():
                # The desk refuses it when its response is done, so that the model knows. A menu has nothing to say.
                self._known_calls.add(event.call.call_id)
                if self.desk is not None:
                    self.desk.called(event.call)
            case xai.Ready():
                if not self.ready.done():
                    self.ready.set_result(event)
            case xai.Trouble():
                log.warning("realtime_trouble", what=event.what, detail=event.detail)
                self._emit(model.RealtimeTrouble, what=event.what, detail=event.detail)
            case xai.Fatal():
                if not self.fatal.done():
                    self.fatal.set_result(event)
            case xai_events.ResponseDone():
                self.owes &= event.status not in {"", "completed"}
                self._media.play_end()  # a server may leave out the item's own end
                if self.desk is not None:
                    self.desk.response_done(event.response_id, event.status)
            case xai_events.ResponseCreated():
                self.owes = True
                if self.desk is not None:
                    self.desk.response_created(event.response_id)

    def _caller_ends(self) -> None:
        self.owes, self.kept.caller_speaks = True, False
        self._turn.speech_stopped(time.monotonic())
        if self.on_caller:
            self.on_caller(False)
        if self.desk is not None:
            self.desk.caller(speaks=False)
        self._note(NoInput.caller_pauses, self._loop.time())

    def _caller_begins(self) -> None:
        self._spoke.set()
        self.owes, self.kept.caller_speaks, self.company.kept = False, True, False
        self._nudge.settle()
        self._barge_in("model")
        if self.on_caller:
            self.on_caller(True)
        if self.desk is not None:
            self.desk.caller(speaks=True)
        self._note(NoInput.caller_speaks)

    def _barge_in(self, confirmed_by: str) -> None:
        if not self._media.breakable:
            return  # what is said now is heard to its end, whatever the model heard
        stop_ms = self._media.stop_ms()
        flushed = self._media.flush()
        if flushed is None or self.client is None:
            return
        self.barge_ins += 1
        if not flushed.item_id.startswith(PROMPT):
            # Sent with the session's outbox, right after this event.
            self.client.session.interrupt(flushed.item_id, flushed.played_ms)
            self._heard_so_far(flushed)
        self._emit(
            model.BargeIn,
            item_id=flushed.item_id,
            played_ms=flushed.played_ms,
            dropped_ms=flushed.dropped_ms,
            confirmed_by=confirmed_by,
            stop_ms=stop_ms,
        )

    def _refuse_function(self, call: xai_events.FunctionCall) -> None:
        """An answer the model can read, so that the talk goes on."""
        log.warning("unknown_function", name=call.name[:64])
        if self.client:
            self.client.session.answer_function_calls({call.call_id: '{"error":"there is no such function"}'})

    # --- what the desk asks for

    def send_results(self, outputs: Mapping[str, str], *, respond: bool) -> None:
        """Results of tools; `respond` to have the model go on at once."""
        if self.client is None:
            self._late |= outputs  # for the session that comes
            return
        session = self.client.session
        if strange := {call_id: output for call_id, output in outputs.items() if call_id not in self._known_calls}:
            # Called by a session that was lost; this one was told of the talk, not of the call.
            session.whisper(f"What you had looked up: {' '.join(strange.values())}")
        session.answer_function_calls(
            {call_id: output for call_id, output in outputs.items() if call_id not in strange}, respond=respond
        )
        self.client.flush()

    def ask_for_answer(self) -> None:
        """The model is to speak."""
        if self.client:
            self.client.session.respond()
            self.client.flush()

    def waiting(self, *, waits: bool) -> None:
        """While the caller waits for us, no time runs out for them; then it is the model's turn."""
        if waits:
            self._note(NoInput.caller_speaks)
        else:
            self._note(NoInput.caller_pauses, self._loop.time())

    @property
    def talking(self) -> bool:
        """Something is being played, or is there to be played."""
        return self._media.talking

    @property
    def sealed(self) -> bool:
        """What is being played is heard to its end, whatever anybody says."""
        return self._media.sealed > 0

    @property
    def _waits(self) -> bool:
        """The caller waits for us, or lets us wait: no patience runs."""
        return self._holds > 0 or (self.desk is not None and self.desk.busy)

    def _transcript(self, role: Role, item_id: str, text: str, *, final: bool) -> None:
        heard = role is not Role.AGENT or self._words.said(item_id, text)
        if final and heard:
            self._emit(model.Transcript, role=role, item_id=item_id, text=text)

    def _heard_so_far(self, flushed: Flushed) -> None:
        """The transcript says how much of it was heard."""
        for item_id, text in self._words.cut(flushed):
            self._emit(model.Transcript, role=Role.AGENT, item_id=item_id, text=text, cut=True)

    # --- from the media

    def _on_cut(self) -> None:
        """Our own detector is sure. Usually the model says the same a moment later; if not, it must be moved."""
        self._barge_in("speech")
        if self.client:
            self.client.flush()
            self._nudge.begin(self._move)

    def _move(self) -> None:
        """The model has not noticed that it was cut."""
        if self.client and not self._media.talking:
            self._emit(
                model.RealtimeTrouble, what="caller_not_noticed", detail="cut by our own detector; asked to go on"
            )
            self.client.session.respond()
            self.client.flush()

    def _on_resume(self, paused_ms: int) -> None:
        self.false_barge_ins += 1
        self._emit(model.FalseBargeIn, paused_ms=paused_ms)

    def _on_talk(self, item_id: str) -> None:
        self._quiet.clear()
        if self.company.kept:
            return  # no answer, and nothing that the model was asked to say
        self._talked.set()
        if self.desk is not None:
            self.desk.agent(speaks=True)
        self._note(NoInput.agent_speaks)
        media = self._media
        heard_at, media.barge_in.voiced_at = media.barge_in.voiced_at, None
        network_ms = self.client.round_trip_ms() if self.client and heard_at is not None else None
        shares = self._turn.answered(item_id, heard_at, media.spurt_at, media.agent_voiced_at, network_ms)
        if shares is None:
            return  # the same answer after a pause of the model
        self.turns += heard_at is not None
        self._emit(model.AgentSpoke, item_id=item_id, **shares)

    def _on_quiet(self) -> None:
        self._quiet.set()
        if self.company.kept:
            return
        if self.desk is not None:
            self.desk.agent(speaks=False)
        self._note(NoInput.agent_quiet, self._loop.time())

    def _note(self, happening: Callable[..., None], *args: float) -> None:
        if self._no_input is not None and not (self._waits and args):  # with a time: from then on patience runs
            happening(self._no_input, *args)
            # Who has more time than they had finds that out when they wake.
            if self._no_input.deadline is not None and self._no_input.deadline < self._wakes_at:
                self._moved.set()
