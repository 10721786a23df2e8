"""One realtime session: client events in, server events out with their times. Core: no I/O, reads no clock.

The seam: `open`, `receive_text`, `receive_bytes`, `handle_timer` (each with `now`, in seconds of any
monotonic clock), then `take()` what is to be done and ask `next_timer()` when to come back. Hearing and
speaking take time and belong to others, so they go out as `Hear` and `Speak` and come back as `heard`,
`spoken` or `failed`. What is said is the responder's business; here are the turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from sipagent.standin import items
from sipagent.standin.config import MODEL_NAME, Mode, StandinConfig
from sipagent.standin.conversation import Conversation
from sipagent.standin.faults import Faults
from sipagent.standin.gate import MAX_SPEECH_S, Gate, SpeechStarted, SpeechStopped
from sipagent.standin.line import Line
from sipagent.standin.outputs import Close, Drop, Freeze, Hear, Output
from sipagent.standin.record import Record
from sipagent.standin.responder import Responder
from sipagent.standin.script import Reply, Script
from sipagent.standin.settings import Settings, merge
from sipagent.standin.turn import Turn
from sipagent.standin.wire import Event, NewId, Refusal, error_body, new_id

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
        self.settings = Settings(model=self.faults.model or MODEL_NAME)
        self.conversation = resumed or Conversation(new_id())
        self.opened_at = now
        self.closed_at: float | None = None  # the shell sets it
        self.session_id = new_id().replace("-", "")
        self._script, self._epoch, self._new_id = script, epoch, new_id
        self._line = Line(self.record, new_id, now)
        self._replay = resumed is not None
        self._gate: Gate | None = None
        self._manual = bytearray()  # the input buffer of manual mode
        self._turn: Turn | None = None
        self._responder = Responder(
            config,
            script,
            self.faults,
            self.conversation,
            self.settings,
            now=now,
            epoch=epoch,
            new_id=new_id,
            emit=self._line.emit,
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
            "conversation.item.delete": self._on_item_delete,
            "conversation.item.truncate": self._on_truncate,
            "response.create": self._on_response_create,
            "response.cancel": self._on_cancel,
        }

    # ---- the seam

    def open(self, now: float) -> None:
        """The connection is up: the opening events, and the faults that have a time."""
        self._line.now = now
        opening: list[tuple[str, Event]] = [
            ("session.created", {"session": self.settings.created(self.session_id)}),
            (
                "conversation.created",
                {"conversation": {"id": self.conversation.id, "object": "realtime.conversation"}},
            ),
        ]
        for type_, body in reversed(opening) if self.faults.reversed_opening else opening:
            self._line.emit(type_, **body)
        self._ping(now)
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
            self._line.emit("error", error=error_body(refusal.message, refusal.code, refusal.param))
        except (msgspec.DecodeError, RecursionError) as error:
            self._line.emit("error", error=error_body(f"Invalid event: {error}", "invalid_event"))

    def _read(self, text: str, now: float) -> None:
        head = _HEAD.decode(text)
        if head.type == _APPEND:
            if head.audio is msgspec.UNSET:
                raise Refusal("input_audio_buffer.append needs 'audio': base64", param="audio")
            self._append(head.audio, now)
            return
        event = msgspec.json.decode(text, type=dict[str, object])
        self.record.on_event(now, event)
        handler = self._handlers.get(head.type)
        if handler is None:
            raise Refusal(f"Unknown client event {head.type[:64]!r}", code="invalid_event", param="type")
        handler(event, now)

    def receive_bytes(self, data: bytes, now: float) -> None:
        """A binary frame: the binary transport is not offered here, so an error."""
        self._line.now = now
        if self._line.ended:
            return
        message = f"Binary frame of {len(data)} bytes: this session's transport is json"
        self._line.emit("error", error=error_body(message, "invalid_event"))

    def heard(self, ticket: tuple[str, int], text: str, now: float) -> None:
        """The ears' answer to `Hear`: the words, or '' for nothing that could be placed."""
        self._line.now = now
        turn, (item_id, index) = self._turn, ticket
        if turn is None or turn.item_id != item_id or index >= len(turn.parts):
            return  # the turn is long over
        turn.parts[index] = text
        transcript = turn.transcript
        if transcript is None:
            return
        self._transcribed(item_id, transcript)
        active = self._responder.active
        if active is not None and turn.answer is active:
            self._responder.plan(active, now, heard=turn.last_audio)  # manual mode: it waited for the words
        elif turn.answer is None and active is None and self._gate is not None and not self._speaking:
            self._answer_turn(turn, now)

    def spoken(self, ticket: str, speech: bytes, now: float) -> None:
        """The voice's answer to `Speak`."""
        self._line.now = now
        self._responder.spoken(ticket, speech, now)

    def failed(self, ticket: str | tuple[str, int], message: str, now: float) -> None:
        """Ears or voice failed: the client is told, the session goes on."""
        self._line.now = now
        self._line.emit("error", error=error_body(message, "internal_error", kind="internal_error"))
        if isinstance(ticket, tuple):
            self.heard(ticket, "", now)
        elif (active := self._responder.active) is not None and active.response_id == ticket:
            self._responder.finish("incomplete", now)

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
            raise Refusal("session.update is refused: an ordered fault", param="session")
        old, self.settings = self.settings, merge(self.settings, event.get("session"))
        self._responder.settings = new = self.settings
        if (new.turn_detection, new.input) != (old.turn_detection, old.input):
            self._gate = None
            if new.turn_detection is not None:
                self._gate = Gate(
                    new.input,
                    new.turn_detection,
                    level_dbov=self.config.gate_dbov,
                    voice_only=self.config.mode is Mode.SCRIPT,
                )
        if self.faults.no_ack:
            return
        # The echo is of this moment, even if it goes out later.
        session = new.updated()
        self._line.at(now + self.faults.slow_ack_s, lambda _: self._acknowledge(session))

    def _acknowledge(self, session: Event) -> None:
        self._line.emit("session.updated", session=session)
        if self._replay and self.settings.resumption:
            self._replay = False
            for item in self.conversation.items:
                self._line.emit("conversation.item.created", item=item | {"replayed": True})

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
        if self.settings.turn_detection is not None:
            raise Refusal("input_audio_buffer.commit is for manual mode (turn_detection null)")
        if not self._manual:
            raise Refusal("input_audio_buffer.commit: the buffer is empty")
        sound = bytes(self._manual)
        self._manual.clear()
        self._turn = Turn(self._new_id())
        self._commit(self._turn, sound, now)

    def _on_clear(self, _event: Event, _now: float) -> None:
        self._manual.clear()
        if self._gate is not None and self._gate.speaking:
            self._gate.stop()
        self._line.emit("input_audio_buffer.cleared")

    def _on_item_create(self, event: Event, now: float) -> None:
        item = event.get("item")
        if not isinstance(item, dict):
            raise Refusal("conversation.item.create needs an 'item' object", param="item")
        if item.get("type") == "force_message":
            self._force(item, now)
            return
        stored = items.wire_item(item, self._new_id)
        call_id = stored.get("call_id")
        if stored["type"] == "function_call":
            self.conversation.calls[str(call_id)] = str(stored["name"])
        elif stored["type"] == "function_call_output" and call_id not in self.conversation.calls:
            raise Refusal(f"Tool call ID {str(call_id)[:64]!r} not found in conversation", code="invalid_tool_call_id")
        self._add_item(stored)

    def _on_item_delete(self, event: Event, _now: float) -> None:
        item = self.conversation.get(str(event.get("item_id")))
        if item is None or item.get("role") == "assistant":  # measured: assistant items are "not found"
            raise Refusal("Item not found", param="item_id")
        self.conversation.remove(str(item["id"]))
        self._line.emit("conversation.item.deleted", item_id=item["id"])

    def _on_truncate(self, event: Event, _now: float) -> None:
        if not self.faults.ack_truncate:
            return  # measured: no acknowledgement, no effect
        item_id, end_ms = event.get("item_id"), event.get("audio_end_ms")
        item = self.conversation.get(str(item_id))
        if item is None or not isinstance(end_ms, int):
            raise Refusal("truncate: item_id and audio_end_ms of a known item are needed", param="item_id")
        self._line.emit(
            "conversation.item.truncated",
            item_id=item_id,
            content_index=event.get("content_index", 0),
            audio_end_ms=end_ms,
            transcript=items.item_text(item),
        )

    def _on_response_create(self, event: Event, now: float) -> None:
        body = event.get("response")
        if body is not None and not isinstance(body, dict):
            raise Refusal("response must be an object", param="response")
        given = items.metadata((body or {}).get("metadata"))
        self._responder.refuse_if_active()
        delay_ms = self.config.think_ms
        answer = self._responder.open(now, delay_ms=delay_ms, metadata=given, by_client=True)
        turn = self._turn
        if turn is not None and turn.answer is None:
            turn.answer = answer
            if turn.transcript is None:
                return  # planned when the words are known
        self._responder.plan(answer, now, heard=turn.last_audio if turn else b"")

    def _on_cancel(self, event: Event, now: float) -> None:
        active = self._responder.active
        if active is None:
            raise Refusal("Cancellation failed: no active response found")
        wanted = event.get("response_id")
        if wanted is not None and wanted != active.response_id:
            raise Refusal(f"Cancellation failed: Response ID {str(wanted)[:64]!r} does not match current response")
        self._responder.finish("cancelled", now)

    def _force(self, item: Mapping[str, object], now: float) -> None:
        text = items.item_text(item)
        if not text:
            raise Refusal("force_message needs content [{type: output_text, text}]", param="item.content")
        self._responder.refuse_if_active()
        breakable = item.get("interruptible") is not False
        delay_ms = self.config.force_ms
        answer = self._responder.open(now, delay_ms=delay_ms, by_client=True, interruptible=breakable)
        self._responder.plan(answer, now, reply=Reply(text))

    # ---- turns

    def _speech_started(self, event: SpeechStarted, now: float) -> None:
        turn, responder = self._turn, self._responder
        if turn is not None and turn.parts and (turn.answer is None or not turn.answer.begun):
            # The caller goes on after a pause: same item; the response opened in between is dropped in silence.
            if responder.active is turn.answer:
                responder.active = None
            turn.answer = None
        else:
            self._turn = turn = Turn(self._new_id())
        started: Event = {"item_id": turn.item_id, "audio_start_ms": event.at_ms}
        self._line.emit("input_audio_buffer.speech_started", **started)
        if self.faults.repeat_speech_started:
            self._line.at(now + _REPEAT_S, lambda _: self._line.emit("input_audio_buffer.speech_started", **started))
        responder.interrupt(now)

    def _speech_stopped(self, event: SpeechStopped, now: float) -> None:
        turn = self._turn or Turn(self._new_id())
        self._turn = turn
        self._line.emit("input_audio_buffer.speech_stopped", item_id=turn.item_id, audio_end_ms=event.at_ms)
        self._commit(turn, event.audio, now)

    def _commit(self, turn: Turn, sound: bytes, now: float) -> None:
        first = not turn.parts
        turn.stopped_at, turn.last_audio = now, sound
        turn.parts.append(None)
        previous = self.conversation.last_id
        self._line.emit("input_audio_buffer.committed", item_id=turn.item_id, previous_item_id=previous)
        if first:
            self._add_item(
                {
                    "id": turn.item_id,
                    "object": "realtime.item",
                    "type": "message",
                    "status": "completed",
                    "role": "user",
                    "content": [{"type": "input_audio", "transcript": ""}],
                    "replayed": False,
                }
            )
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
        kind = "conversation.item.input_audio_transcription."
        if (self.settings.transcription or {}).get("model") == "grok-transcribe":
            self._line.emit(kind + "updated", item_id=item_id, transcript=transcript)
        if self.faults.repeat_transcripts:
            words = transcript.split()
            for count in range(1, len(words)):
                text = " ".join(words[:count])
                self._line.emit(kind + "completed", item_id=item_id, transcript=text, status="in_progress")
        self._line.emit(kind + "completed", item_id=item_id, transcript=transcript, status="completed")

    def _answer_turn(self, turn: Turn, now: float) -> None:
        delay_ms = max(0.0, self.config.think_ms - (now - turn.stopped_at) * 1000)
        turn.answer = self._responder.open(now, delay_ms=delay_ms, asked_at=turn.stopped_at)
        self._responder.plan(turn.answer, now, heard=turn.last_audio)

    def _idle(self, now: float) -> None:
        """`idle_timeout_ms` is over: a silent turn, and the agent checks in."""
        responder = self._responder
        responder.idle_at = None
        if responder.active is not None or self._speaking or self.settings.turn_detection is None:
            return
        turn = self._turn = Turn(self._new_id(), stopped_at=now, parts=[""])
        end_ms = int((now - self.opened_at) * 1000)
        self._line.emit(
            "input_audio_buffer.timeout_triggered",
            item_id=turn.item_id,
            previous_item_id=self.conversation.last_id,
            audio_start_ms=max(0, end_ms - (self.settings.turn_detection.idle_timeout_ms or 0)),
            audio_end_ms=end_ms,
        )
        turn.answer = responder.open(now, delay_ms=self.config.think_ms)
        responder.plan(turn.answer, now, reply=Reply(self._script.check_in) if self._script else None)

    # ---- small things

    @property
    def _speaking(self) -> bool:
        return self._gate is not None and self._gate.speaking

    def _stall_due(self) -> float | None:
        detection = self.settings.turn_detection
        if not self._speaking or detection is None:
            return None
        return self._last_audio + detection.silence_duration_ms / 1000 + _STALL_S

    def _add_item(self, item: Event) -> None:
        previous = self.conversation.last_id
        self.conversation.add(item)
        self._line.emit("conversation.item.added", item=dict(item), previous_item_id=previous)

    def _ping(self, now: float) -> None:
        self._line.emit("ping", timestamp=int((self._epoch + now) * 1000))
        self._line.at(now + self.config.ping_s, self._ping)

    def _expire(self, _now: float) -> None:
        message = "Session reached its maximum duration (an ordered fault)"
        self._line.emit("error", error=error_body(message, "max_duration", kind="max_duration"))
        self._end(Close(1000, "max_duration"))

    def _end(self, output: Close | Drop | Freeze) -> None:
        """The last output: nothing is read, said or timed after it."""
        self._line.end(output)
        self._responder.active = None
