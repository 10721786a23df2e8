"""The session's voice: its one active response, from why it is opened to how it ends. Core: no I/O, no clock.

Opens answers, finds their words and their sound (or asks the shell for it), streams them when they are due,
and ends them; the faults of responses live here. Does not know turns: when to answer is the session's.
"""

from __future__ import annotations

from collections.abc import Callable

from sipagent import audio
from sipagent.standin import mischief
from sipagent.standin.answer import Answer, FunctionCall
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.conversation import Conversation
from sipagent.standin.dialect import Reason, Request, Wire, Wrong
from sipagent.standin.faults import EVERY_RESPONSE, Faults
from sipagent.standin.outputs import Drop, Speak
from sipagent.standin.pattern import pattern
from sipagent.standin.script import Reply, Script
from sipagent.standin.settings import Settings
from sipagent.standin.wire import PCM_24K, AudioFormat, Event, NewId


class Responder:
    """At most one active response, and what is known of how far the caller has heard it."""

    def __init__(
        self,
        config: StandinConfig,
        script: Script | None,
        faults: Faults,
        conversation: Conversation,
        settings: Settings,
        wire: Wire,
        *,
        now: float,
        new_id: NewId,
        send: Callable[[Event | str | bytes], None],
        ask: Callable[[Speak], None],
        end: Callable[[Drop], None],
    ) -> None:
        """`send` puts raw frames in the line; `ask` and `end` go to the shell."""
        self.settings = settings  # the session keeps it current
        self.active: Answer | None = None
        self.playout_end = now  # our estimate of when the caller has heard all
        self.idle_at: float | None = None  # when `idle_timeout_ms` is over
        self.faults = faults  # the session changes them when it is told to
        self._config, self._script = config, script
        self._conversation, self._wire, self._new_id = conversation, wire, new_id
        self._send, self._ask, self._end = send, ask, end
        self._planned = 0  # the deterministic mode's seed
        self._opened = 0  # what `abandon=2` counts
        self._unbreakable_until = now  # end of a message with interruptible:false, as the caller hears it

    def refuse_if_active(self) -> None:
        """There is one response at a time (OpenAI has more with `conversation: none`; the stand-in has not)."""
        if self.active is not None:
            raise self._wire.refusal(Wrong.RESPONSE_ACTIVE, response_id=self.active.response_id)

    def open(
        self,
        now: float,
        *,
        delay_ms: float,
        asked_at: float | None = None,
        request: Request | None = None,
        interruptible: bool = True,
    ) -> Answer:
        """`response.created`; the first delta not before `delay_ms`."""
        self.idle_at = None
        self._opened += 1
        self.active = answer = Answer(
            self._wire,
            audio_format=PCM_24K if self.faults.wrong_format else self.settings.output,
            burst=self._config.burst,
            due=now + delay_ms / 1000,
            asked_at=now if asked_at is None else asked_at,
            request=request,
            interruptible=interruptible,
        )
        return answer

    def plan(self, answer: Answer, now: float, *, reply: Reply | None = None, heard: bytes = b"") -> None:
        """Find the words and the sound, or ask for them; `heard` is the last utterance, for the echo."""
        if self._struck(self.faults.stuck):
            return
        seed = self._config.seed + self._planned
        self._planned += 1
        form = answer.format
        if self._script is None:
            sound = self._tone(form, seed)
            if self._config.mode is Mode.ECHO and reply is None and heard:
                sound = self.settings.input.to(form, heard)
            answer.plan(reply.text if reply else f"(answer {self._planned})", sound, (), now=now)
            return
        if reply is None:
            reply = self._scripted(self._script, answer.request)
        answer.text = reply.text
        answer.calls = tuple(FunctionCall(self._wire.id("call"), self._wire.id("item"), *call) for call in reply.calls)
        if reply.text:
            self._ask(Speak(answer.response_id, reply.text, form))
        else:
            answer.plan("", b"", answer.calls, now=now)

    def _scripted(self, script: Script, request: Request | None) -> Reply:
        """The script's answer to the conversation, or to what the client asks it to answer instead."""
        conversation, tools = self._conversation, self.settings.tools
        if request is not None and request.tools is not None:
            tools = request.tools
        if request is not None and request.context is not None:
            conversation = Conversation("")
            conversation.calls = self._conversation.calls
            for item in request.context:
                conversation.add(item)
        return script.reply(conversation, tools)

    def spoken(self, ticket: str, speech: bytes, now: float) -> None:
        """The voice has made the sound that was asked for; too late is no matter."""
        answer = self.active
        if answer is not None and answer.response_id == ticket and not answer.planned:
            answer.plan(answer.text, speech, answer.calls, now=now)
            self.stream(now)

    def stream(self, now: float) -> None:
        """Send what is due of the active answer."""
        while (answer := self.active) is not None and (due := answer.next_due()) is not None and due <= now:
            if answer.called:
                if self._struck(self.faults.abandon):
                    self.active = None
                self.finish("completed", now)
                return
            first = not answer.begun
            answer.step(now, self._conversation.last_id)
            if first:
                self._keep(answer, answer.item())
                self.misbehave()
                self._dead_deltas(None, answer.format)
            early_s = self.faults.early_calls_s if answer.calls else 0.0
            if answer.complete and early_s:
                answer.call(now + early_s)
            elif answer.complete:
                self.finish("completed", now)
            elif answer.progress >= 0.5 and self.faults.drop_in_answer:
                self._end(Drop())
            elif answer.progress >= 0.5 and not early_s and self._struck(self.faults.abandon):
                self.active = None

    def finish(self, status: str, now: float, reason: Reason = "client_cancelled") -> None:
        """`response.done` and what leads up to it; nothing if no response is active."""
        answer, self.active = self.active, None
        if answer is None:
            return
        item = answer.finish(status, reason)
        if answer.begun:
            self._keep(answer, item)
            if answer.has_sound and self._conversation.get(answer.item_id) is not None:
                self._conversation.sound_ms[answer.item_id] = round(answer.sent_s * 1000)
            self.playout_end = max(self.playout_end, answer.started_at or now) + answer.sent_s
        stay = status == "completed" or (answer.called and self._wire.rules.calls_stay)
        for call in answer.calls if stay else ():
            self._conversation.calls[call.call_id] = call.name
            if not answer.detached:
                self._conversation.add(self._wire.call(call, done=True))
        self._dead_deltas(answer.response_id, answer.format)
        detection = self.settings.turn_detection
        if detection is not None and detection.idle_timeout_ms is not None and not answer.calls:
            self.idle_at = max(now, self.playout_end) + detection.idle_timeout_ms / 1000
        if not answer.interruptible:
            self._unbreakable_until = self.playout_end

    def _keep(self, answer: Answer, item: Event) -> None:
        if not answer.detached and (answer.has_sound or self._wire.rules.empty_messages):
            self._conversation.add(item)

    def sound_ms(self, item_id: str) -> int | None:
        """How much of an assistant item's sound was sent; None if it has none."""
        if self.active is not None and self.active.item_id == item_id and self.active.has_sound:
            return round(self.active.sent_s * 1000)
        return self._conversation.sound_ms.get(item_id)

    def interrupt(self, now: float) -> None:
        """The caller speaks: the response is cancelled, and what was not yet heard will not be."""
        self.idle_at = None
        self.finish("cancelled", now, "turn_detected")
        self.idle_at = None
        self.playout_end = now  # a client that behaves has emptied its queue

    def unbreakable(self, now: float) -> bool:
        """Whether a message that must not be interrupted is still being heard."""
        if self.active is not None:
            return not self.active.interruptible
        return now < self._unbreakable_until

    def misbehave(self) -> None:
        """The faults that put frames between the good ones."""
        if self.faults.garbage:
            for frame in mischief.GARBAGE:
                self._send(frame)
        if self.faults.unknown_events:
            for event in mischief.unknown_events(self._new_id):
                self._send(event)

    def _tone(self, form: AudioFormat, seed: int) -> bytes:
        samples = form.rate * self._config.answer_ms // 1000
        if form.law is not None:
            return pattern(form.law, seed, 0, samples)
        return audio.decode(pattern(audio.Law.ULAW, seed, 0, samples), audio.Law.ULAW)

    def _struck(self, which: int | None) -> bool:
        return which is not None and which in (EVERY_RESPONSE, self._opened)

    def _dead_deltas(self, response_id: str | None, form: AudioFormat) -> None:
        if self.faults.dead_deltas:
            sound = bytes([0x11]) * (form.bytes_per_s // 50)
            self._wire.stray_sound(response_id, sound)
