"""ONE CALL, from StasisStart to hang-up, top to bottom.

Ring while media and model connect side by side, answer, greet, converse, say goodbye. A call ends in
exactly one way: somebody raises `CallOver` with a `CallOutcome` inside the call's task group, which
cancels the rest; the exit stack undoes what was made, in reverse; the last event says how it was.
Nobody is left in silence: what cannot be served hears the apology from the prompt cache, or from
Asterisk itself when there is no media.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from sipagent import model
from sipagent.ari import events as ari_events
from sipagent.ari.client import AriClient, ChannelEvents
from sipagent.ari.objects import BridgeHandle, ChannelHandle, external_media, mixing_bridge
from sipagent.audio import PTIME_MS, Law
from sipagent.config import Agent, Settings
from sipagent.errors import AriError, RealtimeError, RealtimeRefused
from sipagent.flow.no_input import GiveUp, NoInput, Say
from sipagent.flow.prompts import Prompts
from sipagent.media import MediaBridge
from sipagent.model import CallOutcome, Reason, Role
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.session import RtpSession
from sipagent.rtp.transport import NoPortFree, PortBlock
from sipagent.xai import client as xai_client
from sipagent.xai import events as xai_events
from sipagent.xai import session as xai

log = structlog.get_logger()

READY_TIMEOUT_S = xai.ACK_TIMEOUT_S + 2.5
"""From the upgrade on; after this the session cannot become ready any more and the caller hears the apology."""
SPOKEN_TIMEOUT_S = 15.0
"""Longest wait for a goodbye to be spoken; a longer text is cut."""
GONE_GRACE_S = 0.5
"""Asterisk's word that a caller left comes within milliseconds of the refusal it explains."""
APOLOGY_EXTENSION = ("sipagent", "apology")
"""Where Asterisk speaks for us when we have no media (extensions.conf)."""
PROMPT = "prompt:"
"""Item ids of our own prompts; the model knows nothing of them."""


class CallOver(Exception):
    """Ends a call from anywhere inside its task group."""

    def __init__(self, outcome: CallOutcome) -> None:
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class House:
    """What a worker lends to each of its calls."""

    settings: Settings
    worker: int
    ari: AriClient
    ports: PortBlock
    wheel: Wheel
    prompts: Prompts
    ssl_context: ssl.SSLContext | None
    emit: Callable[[model.CallEvent], None]


@dataclass(slots=True)
class _Story:
    """What the last event tells."""

    started_s: float
    answered_s: float | None = None
    turns: int = 0
    barge_ins: int = 0
    last_item: str = ""


def law_of(audio_format: str) -> Law:
    """The law of the caller's leg, from the dialplan's ``CHANNEL(audionativeformat)``; others become µ-law."""
    return Law.ALAW if audio_format == Law.ALAW else Law.ULAW


class Call:
    """One call. Made when its StasisStart arrives; `run` is its life."""

    def __init__(self, start: ari_events.StasisStart, happenings: ChannelEvents, house: House) -> None:
        args = dict(zip(("direction", "called", "endpoint", "format", "sip_call_id"), start.args, strict=False))
        self.id = start.channel.id
        self.caller = start.channel.caller.number
        self.called = args.get("called", "")
        self.endpoint = args.get("endpoint", "")
        self.law = law_of(args.get("format", ""))
        self._house = house
        self._channel = ChannelHandle(house.ari, self.id)
        self._happenings = happenings
        self._loop = asyncio.get_running_loop()
        self._rtp = RtpSession(self.law.payload_type)
        self._media = MediaBridge(self.law, self._rtp, house.wheel, self._loop.time)
        self._client: xai_client.RealtimeClient | None = None
        self._session: xai.RealtimeSession | None = None
        self._ready: asyncio.Future[xai.Ready] = self._loop.create_future()
        # Looked at even if the caller leaves before anybody waits for it, or asyncio would complain.
        self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._no_input: NoInput | None = None
        self._moved = asyncio.Event()  # wakes the no-input ladder
        self._talked, self._quiet = asyncio.Event(), asyncio.Event()
        self._quiet.set()
        self._handed_back = False
        self._fatal: asyncio.Future[xai.Fatal] = self._loop.create_future()
        self._hang_up: asyncio.Future[CallOutcome] = self._loop.create_future()
        self._story = _Story(self._loop.time())

    # --- the life of a call

    async def run(self) -> CallOutcome:
        """Serve the caller; returns how it ended, when nothing of the call is left."""
        found = self._house.settings.agent_for(self.called)
        agent_name = found[0] if found else ""
        self._emit(
            model.CallStarted,
            caller=self.caller,
            called=self.called,
            agent=agent_name,
            endpoint=self.endpoint,
            codec=self.law,
            worker=self._house.worker,
        )
        outcome = CallOutcome(Reason.INTERNAL_ERROR)
        try:
            async with AsyncExitStack() as undo:
                outcome = await self._live(found[1] if found else None, undo)
                # Undone in reverse: the caller is released first, the bridge goes last.
                undo.push_async_callback(self._release, outcome)
        except AriError as error:
            # Only the clearing up failed; the outcome stands, and a resync or Asterisk's own end does the rest.
            log.warning("call_cleanup_failed", error=str(error))
        self._report(outcome)
        return outcome

    async def _live(self, agent: Agent | None, undo: AsyncExitStack) -> CallOutcome:
        """The edge of a call: whatever happens inside becomes one outcome."""
        outcome: CallOutcome | None = None
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_channel())
                group.create_task(self._watch_orders())
                await self._serve(agent, group, undo)
        except* CallOver as over:
            outcome = _first(over).outcome  # type: ignore[attr-defined] # every leaf is a CallOver
        except* Exception as errors:  # noqa: BLE001 - the one place (house rule 7)
            failure = _first(errors)
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

    async def _serve(self, agent: Agent | None, group: asyncio.TaskGroup, undo: AsyncExitStack) -> None:
        if agent is None:
            raise CallOver(CallOutcome(Reason.UNKNOWN_NUMBER, f"no agent for {self.called!r}"))
        await self._channel.ring()
        group.create_task(self._connect_model(agent, undo))
        bridge = await self._connect_media(undo)
        with contextlib.suppress(TimeoutError, RealtimeError):
            async with asyncio.timeout(self._house.settings.call.answer_within_s):
                await asyncio.shield(self._ready)
        await self._channel.answer()
        await bridge.add(self._channel)
        self._story.answered_s = self._loop.time()
        self._emit(model.CallAnswered, setup_ms=_ms(self._story.answered_s - self._story.started_s))
        session = await self._await_ready()
        group.create_task(self._watch_model())
        if agent.greeting:
            self._say(session, agent.greeting)
        try:
            async with asyncio.timeout(agent.max_duration_s):
                await self._converse(agent, session)
        except TimeoutError:
            await self._say_and_wait(session, agent.closing)
            raise CallOver(CallOutcome(Reason.MAX_DURATION)) from None

    # --- connecting

    async def _connect_media(self, undo: AsyncExitStack) -> BridgeHandle:
        house, settings = self._house, self._house.settings
        bridge = await undo.enter_async_context(mixing_bridge(house.ari, f"{self.id}-bridge"))
        socket = house.ports.open(self._media.on_datagram)
        undo.callback(house.ports.release, socket)
        external = await undo.enter_async_context(
            external_media(
                house.ari,
                f"{self.id}-media",
                host=settings.media.address,
                port=socket.port,
                audio_format=self.law,
                variables={"SIPAGENT_CALL": self.id},
            )
        )
        self._media.on_talk, self._media.on_quiet = self._on_talk, self._on_quiet
        self._media.start(socket, external.address)
        undo.callback(self._media.stop)
        await bridge.add(external.channel)
        return bridge

    async def _connect_model(self, agent: Agent, undo: AsyncExitStack) -> None:
        """Dial while the phone rings; the caller's first words wait in the session until it is ready."""
        realtime = self._house.settings.realtime
        session = xai.RealtimeSession(
            xai.SessionConfig(
                law=self.law,
                model=realtime.model,
                voice=agent.voice or realtime.voice,
                instructions=agent.instructions,
                reasoning=realtime.reasoning,
                language=agent.language,
                vad_threshold=realtime.vad.threshold,
                vad_silence_ms=realtime.vad.silence_duration_ms,
                vad_prefix_ms=realtime.vad.prefix_padding_ms,
            )
        )
        dialled = self._loop.time()
        try:
            client = await xai_client.connect(
                realtime.endpoint,
                session,
                self._on_session_event,
                api_key=realtime.api_key.get_secret_value(),
                ssl_context=self._house.ssl_context,
                timeout_s=realtime.connect_timeout_s,
            )
        except RealtimeError as error:
            self._ready.set_exception(error)
            return
        undo.push_async_callback(client.aclose)
        self._client, self._session = client, session
        self._media.to_model = client.append_audio
        either: set[asyncio.Future[Any]] = {self._ready, client.lost}
        done, _ = await asyncio.wait(either, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._ready in done:
            ready = self._ready.result()
            self._emit(
                model.SessionOpened,
                model=ready.model,
                requested_model=realtime.model,
                conversation_id=ready.conversation_id,
                connect_ms=_ms(self._loop.time() - dialled),
                acknowledged=ready.acknowledged,
            )
        elif client.lost in done:
            self._ready.set_exception(client.lost.result())
        else:
            self._ready.set_exception(RealtimeError(f"no session in {READY_TIMEOUT_S:g} s after the handshake"))

    async def _await_ready(self) -> xai.RealtimeSession:
        """The session, or the apology and the end of the call."""
        if not self._ready.done():
            self._play(self._house.settings.call.one_moment)
        try:
            await asyncio.shield(self._ready)
        except RealtimeRefused as error:
            await self._apologise(Reason.REALTIME_REFUSED, error)
        except RealtimeError as error:
            await self._apologise(Reason.REALTIME_TIMEOUT, error)
        assert self._session is not None  # noqa: S101 - `_ready` is only done with one
        return self._session

    # --- conversing

    async def _converse(self, agent: Agent, session: xai.RealtimeSession) -> None:
        """The talk itself happens in the callbacks below; what is left to do is to mind the silence."""
        ladder = self._no_input = NoInput(agent.no_input_s, agent.reprompts, agent.goodbye, self._loop.time())
        while True:
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ladder.deadline):
                    await self._moved.wait()
            match ladder.handle_timer(self._loop.time()):
                case Say() as step:
                    self._emit(model.NoInputStep, step=step.step)
                    self._say(session, step.text)
                case GiveUp(model_silent=True):
                    await self._apologise(Reason.REALTIME_SILENT, "the model did not answer the caller")
                case GiveUp() as step:
                    self._emit(model.NoInputStep, step=step.step)
                    await self._say_and_wait(session, step.text)
                    raise CallOver(CallOutcome(Reason.NO_INPUT))
                case None:
                    pass

    def _on_session_event(self, event: xai.SessionEvent) -> None:
        """From the model's socket, within the loop step that read it."""
        match event:
            case xai.AgentAudio():
                self._media.play(event.item_id, event.audio)
            case xai.AgentAudioDone():
                self._media.play_end(event.item_id)
            case xai_events.SpeechStarted():
                self._barge_in()
                self._note(NoInput.caller_speaks)
            case xai_events.SpeechStopped():
                self._note(NoInput.caller_pauses, self._loop.time())
            case xai_events.InputTranscript():
                self._transcript(Role.CALLER, event.item_id, event.text, final=event.final)
            case xai.AgentTranscript():
                self._transcript(Role.AGENT, event.item_id, event.text, final=event.final)
            case xai_events.FunctionCall():
                self._refuse_function(event)
            case xai.Ready():
                if not self._ready.done():
                    self._ready.set_result(event)
            case xai.Trouble():
                log.warning("realtime_trouble", what=event.what, detail=event.detail)
                self._emit(model.RealtimeTrouble, what=event.what, detail=event.detail)
            case xai.Fatal():
                if not self._fatal.done():
                    self._fatal.set_result(event)
            case xai_events.ResponseCreated() | xai_events.ResponseDone():
                pass

    def _barge_in(self) -> None:
        flushed = self._media.flush()
        if flushed is None or self._session is None:
            return
        self._story.barge_ins += 1
        if not flushed.item_id.startswith(PROMPT):
            self._session.truncate(flushed.item_id, flushed.played_ms)
        self._emit(model.BargeIn, item_id=flushed.item_id, played_ms=flushed.played_ms, dropped_ms=flushed.dropped_ms)

    def _on_talk(self, item_id: str) -> None:
        self._quiet.clear()
        self._talked.set()
        self._note(NoInput.agent_speaks)
        heard, self._media.caller_voiced_at = self._media.caller_voiced_at, None
        if heard is None and item_id == self._story.last_item:
            return  # the same answer after a pause of the model
        self._story.last_item = item_id
        self._story.turns += heard is not None
        latency_ms = None if heard is None else _ms(self._loop.time() - heard)
        self._emit(model.AgentSpoke, item_id=item_id, latency_ms=latency_ms)

    def _on_quiet(self) -> None:
        self._quiet.set()
        self._note(NoInput.agent_quiet, self._loop.time())

    def _note(self, happening: Callable[..., None], *args: float) -> None:
        if self._no_input is not None:
            happening(self._no_input, *args)
            self._moved.set()

    def _refuse_function(self, call: xai_events.FunctionCall) -> None:
        """No tools yet: an answer the model can read, so that the talk goes on."""
        log.warning("unknown_function", name=call.name[:64])
        if self._session and self._client:
            self._session.answer_function_calls({call.call_id: f'{{"error":"there is no function {call.name[:64]}"}}'})
            self._client.flush()

    # --- speaking

    def _say(self, session: xai.RealtimeSession, text: str) -> None:
        """In the agent's own voice, word for word."""
        session.say(text)
        if self._client:
            self._client.flush()

    async def _say_and_wait(self, session: xai.RealtimeSession, text: str) -> None:
        """Say a last word and wait until the caller has heard it."""
        self._no_input = None
        self._media.flush()
        self._talked.clear()
        self._say(session, text)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPOKEN_TIMEOUT_S):
                await self._talked.wait()
                await self._until_quiet()

    def _play(self, text: str) -> None:
        """A prompt from the cache."""
        item_id = PROMPT + text[:16]
        self._media.play(item_id, self._house.prompts.get(text, self.law))
        self._media.play_end(item_id)
        self._quiet.clear()

    async def _until_quiet(self) -> None:
        await self._quiet.wait()
        # The last frame has left us; it is one frame long, and then the caller's.
        await asyncio.sleep(2 * PTIME_MS / 1000)

    async def _apologise(self, reason: Reason, error: object) -> None:
        """The caller hears why nothing happens, then the call ends."""
        log.warning("call_apology", reason=reason, error=str(error))
        self._no_input = None
        self._media.to_model = None
        self._media.flush()
        self._play(self._house.settings.call.apology)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPOKEN_TIMEOUT_S):
                await self._until_quiet()
        raise CallOver(CallOutcome(reason, str(error)))

    # --- the ends

    async def _watch_channel(self) -> None:
        while True:
            match await self._happenings.next():
                case ari_events.StasisEnd() | ari_events.ChannelDestroyed():
                    answered = self._story.answered_s is not None
                    if not self._house.ari.connected:
                        raise CallOver(CallOutcome(Reason.SWITCH_LOST, "the channel was gone after a reconnection"))
                    raise CallOver(CallOutcome(Reason.CALLER_HANGUP if answered else Reason.CALLER_CANCELLED))
                case ari_events.ChannelDtmfReceived():
                    log.info("dtmf")  # not which key: it may be part of a card number
                case _:
                    pass

    async def _watch_orders(self) -> None:
        raise CallOver(await self._hang_up)

    async def _watch_model(self) -> None:
        """The socket died, or the server ended the session."""
        assert self._client is not None  # noqa: S101 - started when the session is ready
        either: set[asyncio.Future[Any]] = {self._client.lost, self._fatal}
        done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        await self._apologise(Reason.REALTIME_LOST, done.pop().result())

    def hang_up(self, outcome: CallOutcome) -> None:
        """End the call from outside: the operator, or a worker that shuts down."""
        if not self._hang_up.done():
            self._hang_up.set_result(outcome)

    async def _release(self, outcome: CallOutcome) -> None:
        if not self._handed_back:
            await self._channel.hang_up(outcome.cause)

    def _report(self, outcome: CallOutcome) -> None:
        story, client, session = self._story, self._client, self._session
        counters = {f"rtp_{name}": value for name, value in self._rtp.counters.as_dict().items()}
        counters["barge_ins"] = story.barge_ins
        counters["playout_overflow_ms"] = self._media.queue.overflow_ms
        if client and session:
            counters["uplink_dropped"] = client.dropped_frames + session.counts["backlog_dropped"]
            known = {name: count for name, count in session.counts.items() if not name.startswith("ignored:")}
            counters |= {f"realtime_{name}": count for name, count in known.items()}
        self._emit(
            model.CallEnded,
            outcome=outcome,
            duration_s=round(self._loop.time() - story.started_s, 3),
            answered=story.answered_s is not None,
            turns=story.turns,
            counters=counters,
        )

    def _transcript(self, role: Role, item_id: str, text: str, *, final: bool) -> None:
        self._emit(model.Transcript, role=role, item_id=item_id, text=text, final=final)

    def _emit(self, kind: type[model.CallEvent], **facts: object) -> None:
        self._house.emit(kind(call_id=self.id, at=time.time(), **facts))  # type: ignore[arg-type]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _first(error: BaseException) -> BaseException:
    """The first leaf of an exception group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
