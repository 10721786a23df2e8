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
import functools
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
from sipagent.audio import Law
from sipagent.barge_in import BargeIn
from sipagent.config import Agent, BargeInSettings, Settings
from sipagent.errors import AriError, RealtimeError, RealtimeRefused
from sipagent.flow.prompts import Prompts
from sipagent.media import MediaBridge
from sipagent.model import CallOutcome, Reason
from sipagent.rtp import quality
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.session import RtpSession
from sipagent.rtp.transport import NoPortFree, PortBlock
from sipagent.talk import Talk
from sipagent.xai import client as xai_client
from sipagent.xai import session as xai

log = structlog.get_logger()

READY_TIMEOUT_S = xai.ACK_TIMEOUT_S + 2.5
"""From the upgrade on; after this the session cannot become ready any more and the caller hears the apology."""
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
        self._rtp = RtpSession(self.law.payload_type, order_buffer_ms=house.settings.media.order_buffer_ms)
        self._agent = house.settings.agent_for(self.called)
        barge_in = BargeIn(self.law, self._agent[1].barge_in if self._agent else BargeInSettings(enabled=False))
        self._media = MediaBridge(self.law, self._rtp, house.wheel, barge_in, time.monotonic)
        self._emit = functools.partial(_emit, house.emit, self.id)
        self._talk = Talk(self.law, self._media, house.prompts, house.settings.call.apology, self._emit)
        self._quality: dict[str, model.LegQuality] = {}
        self._handed_back = False
        self._hang_up: asyncio.Future[CallOutcome] = self._loop.create_future()
        self._story = _Story(self._loop.time())

    # --- the life of a call

    async def run(self) -> CallOutcome:
        """Serve the caller; returns how it ended, when nothing of the call is left."""
        agent_name, agent = self._agent or ("", None)
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
                outcome = await self._live(agent, undo)
                # Undone in reverse: the caller is released first, the bridge goes last.
                undo.push_async_callback(self._release, outcome)
        except AriError as error:
            # Only the clearing up failed; the outcome stands, and a resync or Asterisk's own end does the rest.
            log.warning("call_cleanup_failed", error=str(error))
        finally:
            self._media.stop()
            self._report(outcome)
            self._talk.close()
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

    async def _serve(self, agent: Agent | None, group: asyncio.TaskGroup, undo: AsyncExitStack) -> None:
        if agent is None:
            raise CallOver(CallOutcome(Reason.UNKNOWN_NUMBER, f"no agent for {self.called!r}"))
        await self._channel.ring()
        group.create_task(self._connect_model(agent, undo))
        bridge = await self._connect_media(undo)
        with contextlib.suppress(TimeoutError, RealtimeError):
            async with asyncio.timeout(self._house.settings.call.answer_within_s):
                await asyncio.shield(self._talk.ready)
        await self._channel.answer()
        await bridge.add(self._channel)
        self._story.answered_s = self._loop.time()
        self._emit(model.CallAnswered, setup_ms=_ms(self._story.answered_s - self._story.started_s))
        group.create_task(self._watch_quality())
        await self._until_the_model_is_there()
        group.create_task(self._watch_model())
        try:
            async with asyncio.timeout(agent.max_duration_s):
                outcome = await self._talk.converse(agent)
        except TimeoutError:
            await self._talk.say_last(agent.closing)
            outcome = CallOutcome(Reason.MAX_DURATION)
        raise CallOver(outcome)

    # --- connecting

    async def _connect_media(self, undo: AsyncExitStack) -> BridgeHandle:
        house, settings = self._house, self._house.settings
        bridge = await undo.enter_async_context(mixing_bridge(house.ari, self.id))
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
        # Who is answered before the model is there speaks into the session's backlog.
        self._media.to_model = session.append_audio
        dialled = self._loop.time()
        try:
            client = await xai_client.connect(
                realtime.endpoint,
                session,
                self._talk.on_session_event,
                api_key=realtime.api_key.get_secret_value(),
                ssl_context=self._house.ssl_context,
                timeout_s=realtime.connect_timeout_s,
            )
        except RealtimeError as error:
            self._talk.ready.set_exception(error)
            return
        undo.push_async_callback(client.aclose)
        self._talk.client = client
        self._media.to_model = client.append_audio
        either: set[asyncio.Future[Any]] = {self._talk.ready, client.lost}
        done, _ = await asyncio.wait(either, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._talk.ready in done:
            ready = self._talk.ready.result()
            self._emit(
                model.SessionOpened,
                model=ready.model,
                requested_model=realtime.model,
                conversation_id=ready.conversation_id,
                connect_ms=_ms(self._loop.time() - dialled),
                acknowledged=ready.acknowledged,
            )
        elif client.lost in done:
            self._talk.ready.set_exception(client.lost.result())
        else:
            self._talk.ready.set_exception(RealtimeError(f"no session in {READY_TIMEOUT_S:g} s after the handshake"))

    async def _until_the_model_is_there(self) -> None:
        """Or the apology and the end of the call."""
        talk = self._talk
        if not talk.ready.done():
            talk.play(self._house.settings.call.one_moment)
        try:
            await asyncio.shield(talk.ready)
        except RealtimeRefused as error:
            raise CallOver(await talk.apologise(Reason.REALTIME_REFUSED, error)) from error
        except RealtimeError as error:
            raise CallOver(await talk.apologise(Reason.REALTIME_UNREACHABLE, error)) from error

    # --- the ends

    async def _watch_channel(self) -> None:
        while True:
            match await self._happenings.next():
                case ari_events.StasisEnd() | ari_events.ChannelDestroyed():
                    answered = self._story.answered_s is not None
                    raise CallOver(CallOutcome(Reason.CALLER_HANGUP if answered else Reason.CALLER_CANCELLED))
                case ari_events.ChannelLost():
                    raise CallOver(CallOutcome(Reason.SWITCH_LOST, "the channel was gone after a reconnection"))
                case ari_events.ChannelDtmfReceived():
                    log.info("dtmf")  # not which key: it may be part of a card number
                case _:
                    pass

    async def _watch_orders(self) -> None:
        raise CallOver(await self._hang_up)

    async def _watch_model(self) -> None:
        """The socket died, or the server ended the session."""
        talk = self._talk
        if talk.client is None:
            return
        either: set[asyncio.Future[Any]] = {talk.client.lost, talk.fatal}
        done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        raise CallOver(await talk.apologise(Reason.REALTIME_LOST, done.pop().result()))

    async def _watch_quality(self) -> None:
        while True:
            await asyncio.sleep(QUALITY_EVERY_S)
            await self._look_at_quality()

    async def _look_at_quality(self) -> None:
        """The caller's leg so far; a switch that cannot say is no reason to end a call."""
        with contextlib.suppress(AriError):
            if statistics := await self._channel.rtp_statistics():
                heard, told = quality.from_asterisk(statistics)
                self._quality["caller_to_switch"] = heard
                if told:
                    self._quality["switch_to_caller"] = told

    def _whole_way(self) -> model.LegQuality:
        """What we got of the caller; Asterisk hands the packets on as they come, so it is both legs."""
        leg = self._quality.get("caller_to_switch")
        return quality.from_counters(self._rtp.counters, self._rtp.jitter_ms, rtt_ms=leg.rtt_ms if leg else None)

    def hang_up(self, outcome: CallOutcome) -> None:
        """End the call from outside: the operator, or a worker that shuts down."""
        if not self._hang_up.done():
            self._hang_up.set_result(outcome)

    async def _release(self, outcome: CallOutcome) -> None:
        if not self._handed_back:
            if self._story.answered_s and outcome.reason is not Reason.CALLER_HANGUP:
                await self._look_at_quality()
            await self._channel.hang_up(outcome.cause)

    def _report(self, outcome: CallOutcome) -> None:
        story, talk = self._story, self._talk
        counters = {f"rtp_{name}": value for name, value in self._rtp.counters.as_dict().items()}
        counters |= {"barge_ins": talk.barge_ins, "false_barge_ins": talk.false_barge_ins}
        counters["playout_overflow_ms"] = self._media.queue.overflow_ms
        if talk.client:
            counts = talk.client.session.counts
            counters["uplink_dropped"] = talk.client.dropped_frames + counts["backlog_dropped"]
            known = {name: count for name, count in counts.items() if not name.startswith("ignored:")}
            counters |= {f"realtime_{name}": count for name, count in known.items()}
        self._emit(
            model.CallEnded,
            outcome=outcome,
            duration_s=round(self._loop.time() - story.started_s, 3),
            answered=story.answered_s is not None,
            turns=talk.turns,
            counters=counters,
            quality=self._quality | {"caller_to_model": self._whole_way()},
        )


def _emit(
    listener: Callable[[model.CallEvent], None], call_id: str, kind: type[model.CallEvent], **facts: object
) -> None:
    listener(kind(call_id=call_id, at=time.time(), **facts))  # type: ignore[arg-type]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


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
