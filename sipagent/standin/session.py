"""One realtime session: client events in, server events out with their times. Core: no I/O, reads no clock.

The seam: `open`, `receive_text`, `receive_bytes`, `handle_timer` (each with `now`, in seconds of any
monotonic clock), then `take()` what is to be done and ask `next_timer()` when to come back. Hearing and
speaking take time and belong to others, so they go out as `Hear` and `Speak` and come back as `heard`,
`spoken` or `failed`. What is said is the responder's business, how it looks the wire's (`dialect.py`); here are
the turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from sipagent.standin import items
from sipagent.standin.config import MODEL_NAME, Dialect, Mode, StandinConfig
from sipagent.standin.conversation import Conversation
from sipagent.standin.dialect import Request, Wire, Wrong
from sipagent.standin.editor import Editor
from sipagent.standin.faults import Faults
from sipagent.standin.gate import MAX_SPEECH_S, Gate, SpeechStarted, SpeechStopped
from sipagent.standin.line import Line
from sipagent.standin.openai import OpenAIWire
from sipagent.standin.outputs import Close, Drop, Freeze, Hear, Output
from sipagent.standin.record import Record
from sipagent.standin.responder import Responder
from sipagent.standin.script import Reply, Script
from sipagent.standin.turn import Turn
from sipagent.standin.wire import Event, NewId, Refusal, new_id
from sipagent.standin.xai import XaiWire

WIRES: dict[Dialect, type[Wire]] = {Dialect.XAI: XaiWire, Dialect.OPENAI: OpenAIWire}
_STALL_S = 0.3
"""Caller audio that stops in the middle of speech counts as silence, this much after `silence_duration_ms`:
a phone with silence suppression would else never end its turn. Ours; the real behaviour is not known."""
_REPEAT_S = 0.1
"""Between the repeats of the faults that repeat an event."""


class _Head(msgspec.Struct, gc=False):
    """The least of a client event: one decode serves the audio path."""

    type: str
    audio: bytes | msgspec.UnsetType = msgspec.UNSET


_HEAD = msgspec.json.Decoder(_Head)
_APPEND = "input_audio_buffer.append"


class Session:
    """The state of one connection."""

    def __init__(
        self,
        config: StandinConfig,
        *,
        script: Script | None,
        now: float,
        faults: Faults | None = None,
        epoch: float = 0.0,
        resumed: Conversation | None = None,
        new_id: NewId = new_id,
    ) -> None:
        """`script` is needed in script mode only; `epoch` is Unix time at `now` = 0; ids come from `new_id`."""
        self.config, self.faults = config, config.faults if faults is None else faults
        self.record = Record(config.record_bytes)
        self._line = Line(self.record, now)
        self._wire = WIRES[config.dialect](
            new_id, self._line.send, model=self.faults.model or MODEL_NAME, epoch=epoch, now=now
        )
        self.settings = self._wire.settings()
        self.conversation = resumed or Conversation(self._wire.id("conv"))
        self._editor = Editor(self.conversation, self._wire)
        self.opened_at = now
        self.closed_at: float | None = None  # the shell sets it
        self.session_id = self._wire.id("sess")
        self._script, self._epoch = script, epoch
        self._replay = resumed is not None
        self._gate = self._new_gate()
        self._manual = bytearray()  # the input buffer of manual mode
        self._turn: Turn | None = None
        self._responder = Responder(
            config,
            script,
            self.faults,
            self.conversation,
            self.settings,
            self._wire,
            now=now,
            new_id=new_id,
            send=self._line.send,
            ask=self._line.do,
            end=self._end,
        )
        self._last_audio = now
        self._handlers: dict[str, Callable[[Event, float], None]] = {
            "session.update": self._on_update,
            "input_audio_buffer.commit": self._on_commit,
            "input_audio_buffer.clear": self._on_clear,
            "conversation.item.create": self._on_item_create,
            "conversation.item.delete": lambda event, _: self._editor.delete(event),
            "conversation.item.retrieve": lambda event, _: self._editor.retrieve(event),
            "conversation.item.truncate": self._on_truncate,
            "response.create": self._on_response_create,
            "response.cancel": self._on_cancel,
        }

    # ---- the seam

    def open(self, now: float) -> None:
        """The connection is up: the opening events, and the faults that have a time."""
        self._line.now = now
        self._wire.open(self.session_id, self.conversation.id, reversed_order=self.faults.reversed_opening)
        if self._wire.rules.pings:
            self._ping(now)
        if self._wire.rules.lasts_s is not None:
            self._line.at(now + self._wire.rules.lasts_s, self._expire)
        self.misbehave(self.faults, now)

    def misbehave(self, faults: Faults, now: float) -> None:
        """Do these things wrong from now on, instead of those of the opening; times are seconds from now."""
        self._line.now = now
        if self._line.ended:
            return
        self.faults = self._responder.faults = faults
        self._responder.misbehave()
        if faults.drop_at_s is not None:
            self._line.at(now + faults.drop_at_s, lambda _: self._end(Drop()))
        if faults.freeze_at_s is not None:
            self._line.at(now + faults.freeze_at_s, lambda _: self._end(Freeze()))
        if faults.close_code is not None:
            close = Close(faults.close_code, "ordered fault")
            self._line.at(now + faults.close_at_s, lambda _: self._end(close))
        if faults.expire_at_s is not None:
            self._line.at(now + faults.expire_at_s, self._expire)

    def receive_text(self, text: str, now: float) -> None:
        """A text frame from the client, whatever it holds."""
        self._line.now = now
        if self._line.ended:
            return
        try:
            self._read(text, now)
        except Refusal as refusal:
            self._wire.error(refusal, text)
        except (msgspec.DecodeError, RecursionError) as error:
            self._wire.unreadable(error, text)

    def _read(self, text: str, now: float) -> None:
        head = _HEAD.decode(text)
        if head.type == _APPEND:
            if head.audio is msgspec.UNSET:
                raise self._wire.refusal(Wrong.NO_AUDIO)
            self._append(head.audio, now)
            return
        event = msgspec.json.decode(text, type=dict[str, object])
        self.record.on_event(now, event)
        if head.type not in self._wire.client_events:
            raise self._wire.refusal(Wrong.UNKNOWN_EVENT, type=head.type[:64])
        self._wire.check(event)
        self._handlers[head.type](event, now)

    def receive_bytes(self, data: bytes, now: float) -> None:
        """A binary frame: the binary transport is not offered here, so an error."""
        self._line.now = now
        if self._line.ended:
            return
        self._wire.error(self._wire.refusal(Wrong.BINARY, length=len(data)))

    def heard(self, ticket: tuple[str, int], text: str, now: float) -> None:
        """The ears' answer to `Hear`: the words, or '' for nothing that could be placed."""
        self._line.now = now
        turn, (item_id, index) = self._turn, ticket
        if turn is None or turn.item_id != item_id or index >= len(turn.parts):
            if not self._wire.rules.joins_pauses:
                self._transcribed(item_id, text)
            return  # the turn is long over
        turn.parts[index] = text
        transcript = turn.transcript
        if transcript is None:
            return
        self._transcribed(item_id, transcript)
        active = self._responder.active
        if active is not None and turn.answer is active:
            self._responder.plan(active, now, heard=turn.last_audio)  # manual mode: it waited for the words
        elif turn.answer is None and self._may_answer and not self._wire.rules.answers_unheard:
            self._answer_turn(turn, now)

    def spoken(self, ticket: str, speech: bytes, now: float) -> None:
        """The voice's answer to `Speak`."""
        self._line.now = now
        self._responder.spoken(ticket, speech, now)

    def failed(self, ticket: str | tuple[str, int], message: str, now: float) -> None:
        """Ears or voice failed: the client is told, the session goes on."""
        self._line.now = now
        self._wire.failed(message, ticket[0] if isinstance(ticket, tuple) else None)
        if isinstance(ticket, tuple):
            self.heard(ticket, "", now)
        elif (active := self._responder.active) is not None and active.response_id == ticket:
            self._responder.finish(self._wire.rules.unspoken, now)

    def handle_timer(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        self._line.now = now
        if self._line.ended:
            return
        self._line.run(now)
        self._responder.stream(now)
        stall = self._stall_due()
        if stall is not None and stall <= now and self._gate is not None:
            self._speech_stopped(self._gate.stop(), now)
        if self._responder.idle_at is not None and self._responder.idle_at <= now:
            self._idle(now)

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do, as far as is known now."""
        if self._line.ended:
            return None
        due = [
            self._line.due(),
            self._responder.active.next_due() if self._responder.active else None,
            self._stall_due(),
            self._responder.idle_at,
        ]
        return min((at for at in due if at is not None), default=None)

    def take(self) -> list[Output]:
        """All that is to be done now, in order; it is handed out once."""
        return self._line.take()

    @property
    def has_output(self) -> bool:
        """Whether `take` would give anything."""
        return self._line.has_output

    # ---- client events

    def _on_update(self, event: Event, now: float) -> None:
        if self.faults.refuse_update:
            raise self._wire.refusal(Wrong.UPDATE_REFUSED)
        old, self.settings = self.settings, self._wire.update(self.settings, event.get("session"))
        self._responder.settings = new = self.settings
        if (new.turn_detection, new.input) != (old.turn_detection, old.input):
            self._gate = self._new_gate()
        if self.faults.no_ack:
            return
        # The echo is of this moment, even if it goes out later.
        session = self._wire.updated(new)
        self._line.at(now + self.faults.slow_ack_s, lambda _: self._acknowledge(session))

    def _acknowledge(self, session: Event) -> None:
        self._wire.emit("session.updated", session=session)
        if self._replay and self.settings.resumption:
            self._replay = False
            for item in self.conversation.items:
                self._wire.emit("conversation.item.created", item=item | {"replayed": True})

    def _append(self, data: bytes, now: float) -> None:
        self.record.on_audio(now, data)
        self._last_audio = now
        if self._responder.unbreakable(now):
            return  # the documented effect of interruptible:false is that the caller's audio is dropped
        if self._gate is None:
            self._manual += data
            surplus = len(self._manual) - MAX_SPEECH_S * self.settings.input.bytes_per_s
            if surplus > 0:
                del self._manual[:surplus]
            return
        for event in self._gate.feed(data):
            match event:
                case SpeechStarted():
                    self._speech_started(event, now)
                case SpeechStopped():
                    self._speech_stopped(event, now)

    def _on_commit(self, _event: Event, now: float) -> None:
        if self.settings.turn_detection is not None and not self._wire.rules.commits_under_vad:
            raise self._wire.refusal(Wrong.COMMIT_UNDER_VAD)
        if self._gate is not None and self._gate.speaking:  # its turn goes on in the next stretch of speech
            self._commit(self._turn or Turn(self._wire.id("item")), self._gate.stop().audio, now)
            return
        if not self._manual:
            raise self._wire.refusal(Wrong.EMPTY_BUFFER)
        sound = bytes(self._manual)
        self._manual.clear()
        self._turn = Turn(self._wire.id("item"))
        self._commit(self._turn, sound, now)

    def _on_clear(self, _event: Event, _now: float) -> None:
        self._manual.clear()
        if self._gate is not None and self._gate.speaking:
            self._gate.stop()
        self._wire.emit("input_audio_buffer.cleared")

    def _on_item_create(self, event: Event, now: float) -> None:
        item = event.get("item")
        if isinstance(item, dict) and item.get("type") == "force_message" and self._wire.rules.forces_messages:
            self._force(item, now)
        else:
            self._editor.create(item)

    def _on_truncate(self, event: Event, _now: float) -> None:
        if self._wire.rules.truncates or self.faults.ack_truncate:  # xAI, measured: no acknowledgement, no effect
            self._editor.truncate(event, self._responder.sound_ms(str(event.get("item_id"))))

    def _on_response_create(self, event: Event, now: float) -> None:
        body = event.get("response")
        if body is not None and not isinstance(body, dict):
            raise self._wire.refusal(Wrong.NO_RESPONSE_OBJECT)
        request = self._wire.request(body or {})
        self._responder.refuse_if_active()
        answer = self._responder.open(now, delay_ms=self.config.think_ms, request=request)
        if request.said is not None:
            self._responder.plan(answer, now, reply=Reply(request.said))
            return
        turn = self._turn
        if turn is not None and turn.answer is None:
            turn.answer = answer
            if turn.transcript is None:
                return  # planned when the words are known
        self._responder.plan(answer, now, heard=turn.last_audio if turn else b"")

    def _on_cancel(self, event: Event, now: float) -> None:
        active = self._responder.active
        if active is None:
            raise self._wire.refusal(Wrong.NO_RESPONSE_ACTIVE)
        wanted = event.get("response_id")
        if wanted is not None and wanted != active.response_id:
            raise self._wire.refusal(Wrong.OTHER_RESPONSE_ACTIVE, response_id=str(wanted)[:64])
        self._responder.finish("cancelled", now)

    def _force(self, item: Mapping[str, object], now: float) -> None:
        text = items.item_text(item)
        if not text:
            raise self._wire.refusal(Wrong.NO_TEXT_TO_FORCE)
        self._responder.refuse_if_active()
        breakable = item.get("interruptible") is not False
        delay_ms = self.config.force_ms
        answer = self._responder.open(now, delay_ms=delay_ms, request=Request(), interruptible=breakable)
        self._responder.plan(answer, now, reply=Reply(text))

    # ---- turns

    def _speech_started(self, event: SpeechStarted, now: float) -> None:
        turn, responder = self._turn, self._responder
        goes_on = turn is not None and turn.parts and (turn.answer is None or not turn.answer.begun)
        if turn is not None and goes_on and self._wire.rules.joins_pauses:
            # The caller goes on after a pause: same item; the response opened in between is dropped in silence.
            if responder.active is turn.answer:
                responder.active = None
            turn.answer = None
        else:
            self._turn = turn = Turn(self._wire.id("item"))
        started: Event = {"item_id": turn.item_id, "audio_start_ms": event.at_ms}
        self._wire.emit("input_audio_buffer.speech_started", **started)
        if self.faults.repeat_speech_started:
            self._line.at(now + _REPEAT_S, lambda _: self._wire.emit("input_audio_buffer.speech_started", **started))
        if self.settings.turn_detection is None or self.settings.turn_detection.interrupt_response:
            responder.interrupt(now)

    def _speech_stopped(self, event: SpeechStopped, now: float) -> None:
        turn = self._turn or Turn(self._wire.id("item"))
        self._turn = turn
        self._wire.emit("input_audio_buffer.speech_stopped", item_id=turn.item_id, audio_end_ms=event.at_ms)
        self._commit(turn, event.audio, now, unasked=True)

    def _commit(self, turn: Turn, sound: bytes, now: float, *, unasked: bool = False) -> None:
        """The sound becomes a part of the turn's item; `unasked` if the gate has ended it."""
        first = not turn.parts
        turn.stopped_at, turn.last_audio = now, sound
        turn.parts.append(None)
        self._wire.emit(
            "input_audio_buffer.committed", item_id=turn.item_id, previous_item_id=self.conversation.last_id
        )
        if first:
            self._editor.add(self._wire.heard_item(turn.item_id))
        if unasked and self._wire.rules.answers_unheard and self._may_answer:
            delay_ms = self.config.think_ms
            turn.answer = self._responder.open(now, delay_ms=delay_ms)  # planned when the words are known
        ticket = (turn.item_id, len(turn.parts) - 1)
        if self.config.mode is Mode.SCRIPT:
            self._line.do(Hear(ticket, sound, self.settings.input))
        else:
            length_ms = len(sound) * 1000 // self.settings.input.bytes_per_s
            self.heard(ticket, f"({length_ms} ms of sound)", now)

    def _transcribed(self, item_id: str, transcript: str) -> None:
        item = self.conversation.get(item_id)
        if item is not None:
            item["content"] = [{"type": "input_audio", "transcript": transcript}]
        sound = self._turn.last_audio if self._turn is not None else b""
        seconds = len(sound) / self.settings.input.bytes_per_s
        repeat = self.faults.repeat_transcripts
        self._wire.transcribed(item_id, transcript, self.settings, seconds=seconds, repeat=repeat)

    def _answer_turn(self, turn: Turn, now: float) -> None:
        delay_ms = max(0.0, self.config.think_ms - (now - turn.stopped_at) * 1000)
        turn.answer = self._responder.open(now, delay_ms=delay_ms, asked_at=turn.stopped_at)
        self._responder.plan(turn.answer, now, heard=turn.last_audio)

    def _idle(self, now: float) -> None:
        """`idle_timeout_ms` is over: a silent turn, and the agent checks in."""
        responder, detection = self._responder, self.settings.turn_detection
        responder.idle_at = None
        if responder.active is not None or self._speaking or detection is None:
            return
        turn = self._turn = Turn(self._wire.id("item"), stopped_at=now, parts=[""])
        end_ms = int((now - self.opened_at) * 1000)
        start_ms, previous = max(0, end_ms - (detection.idle_timeout_ms or 0)), self.conversation.last_id
        self._wire.timed_out(turn.item_id, start_ms, end_ms, previous)
        if self._wire.rules.commits_silence:
            self._wire.emit("input_audio_buffer.committed", item_id=turn.item_id, previous_item_id=previous)
            self._editor.add(self._wire.heard_item(turn.item_id))
        turn.answer = responder.open(now, delay_ms=self.config.think_ms)
        responder.plan(turn.answer, now, reply=Reply(self._script.check_in) if self._script else None)

    # ---- small things

    def _new_gate(self) -> Gate | None:
        detection = self.settings.turn_detection
        if detection is None:
            return None
        voice_only = self.config.mode is Mode.SCRIPT
        return Gate(self.settings.input, detection, level_dbov=self.config.gate_dbov, voice_only=voice_only)

    @property
    def _may_answer(self) -> bool:
        """Whether a turn that has ended is answered now."""
        detection = self.settings.turn_detection
        wanted = detection is not None and detection.create_response
        return wanted and self._responder.active is None and not self._speaking

    @property
    def _speaking(self) -> bool:
        return self._gate is not None and self._gate.speaking

    def _stall_due(self) -> float | None:
        detection = self.settings.turn_detection
        if not self._speaking or detection is None:
            return None
        return self._last_audio + detection.silence_duration_ms / 1000 + _STALL_S

    def _ping(self, now: float) -> None:
        self._wire.emit("ping", timestamp=int((self._epoch + now) * 1000))
        self._line.at(now + self.config.ping_s, self._ping)

    def _expire(self, _now: float) -> None:
        self._end(Close(1000, self._wire.expired()))

    def _end(self, output: Close | Drop | Freeze) -> None:
        """The last output: nothing is read, said or timed after it."""
        self._line.end(output)
        self._responder.active = None
