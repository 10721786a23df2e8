"""A session on a fake clock, and short ways to say what a client says."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from sipagent import audio
from sipagent.standin.config import Burst, Mode, StandinConfig
from sipagent.standin.conversation import Conversation
from sipagent.standin.faults import parse_faults
from sipagent.standin.outputs import Close, Drop, Freeze, Hear, Send, Speak
from sipagent.standin.pattern import pattern
from sipagent.standin.script import load_script
from sipagent.standin.session import Session

ULAW = audio.Law.ULAW
FRAME = audio.FRAME_BYTES
VAD = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200, "prefix_padding_ms": 100}


def loud(ms: int, seed: int = 77) -> bytes:
    """µ-law that counts as speech in the deterministic modes."""
    return pattern(ULAW, seed, 0, ms * 8)


def quiet(ms: int) -> bytes:
    return b"\xff" * (ms * 8)


class Rig:
    """One session, its clock, and everything it has put out."""

    def __init__(
        self,
        *faults: str,
        mode: str = "deterministic",
        resumed: Conversation | None = None,
        open_it: bool = True,
        **config: Any,
    ) -> None:
        self.now = 100.0
        config.setdefault("think_ms", 500)
        config.setdefault("answer_ms", 400)
        config.setdefault("burst", Burst())
        self.config = StandinConfig(mode=Mode(mode), faults=parse_faults(faults), **config)
        script = load_script() if mode == "script" else None
        ids = itertools.count(1)
        self.session = Session(
            self.config,
            script=script,
            now=self.now,
            epoch=1_790_000_000.0,
            resumed=resumed,
            new_id=lambda: f"00000000-0000-4000-8000-{next(ids):012d}",
        )
        self.events: list[dict[str, Any]] = []
        self.raw: list[str | bytes] = []
        self.asks: list[Hear | Speak] = []
        self.ends: list[tuple[float, Close | Drop | Freeze]] = []
        self.times: list[float] = []
        if open_it:
            self.session.open(self.now)
            self.collect()

    # ---- the clock

    def collect(self) -> None:
        for output in self.session.take():
            match output:
                case Send(event):
                    if isinstance(event, dict):
                        self.events.append(event)
                        self.times.append(self.now)
                    else:
                        self.raw.append(event)
                case Hear() | Speak():
                    self.asks.append(output)
                case _:
                    self.ends.append((self.now, output))

    def run(self, seconds: float) -> None:
        """Let time pass, from one timer to the next."""
        end = self.now + seconds
        for _ in range(100_000):
            due = self.session.next_timer()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.session.handle_timer(self.now)
            self.collect()
        else:
            raise AssertionError("a timer that is always due")
        self.now = end

    # ---- the client

    def send(self, type_: str, **body: Any) -> None:
        self.text(json.dumps({"type": type_, **body}))

    def text(self, text: str) -> None:
        self.session.receive_text(text, self.now)
        self.collect()

    def setup(self, form: str = "audio/pcmu", **session: Any) -> None:
        both = {"format": {"type": form}}
        body = {"turn_detection": VAD, "audio": {"input": both, "output": both}} | session
        self.send("session.update", session=body)

    def say(self, sound: bytes, frame: int = FRAME) -> None:
        """The caller's bytes in real time, 20 ms a frame of G.711."""
        for start in range(0, len(sound), frame):
            part = sound[start : start + frame]
            self.send("input_audio_buffer.append", audio=base64.b64encode(part).decode())
            self.run(len(part) / 8000)

    def turn(self, ms: int = 400) -> None:
        """A stretch of speech and enough silence to end it."""
        self.say(loud(ms) + quiet(240))

    def type_in(self, text: str) -> None:
        part = {"type": "input_text", "text": text}
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})

    def force(self, text: str = "One two three four five six.", **extra: Any) -> None:
        part = {"type": "output_text", "text": text}
        item = {"type": "force_message", "role": "assistant", "content": [part]} | extra
        self.send("conversation.item.create", item=item)

    # ---- what came

    def types(self) -> list[str]:
        return [event["type"] for event in self.events if event["type"] != "ping"]

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type_]

    def last(self, type_: str) -> dict[str, Any]:
        found = self.of(type_)
        assert found, f"no {type_} in {self.types()}"
        return found[-1]

    def sound(self, response_id: str | None = None) -> bytes:
        return b"".join(
            event["delta"]
            for event in self.of("response.output_audio.delta")
            if response_id in (None, event["response_id"])
        )

    def errors(self) -> list[dict[str, Any]]:
        return [event["error"] for event in self.of("error")]

    def at(self, type_: str) -> float:
        """When the first of a type came."""
        return next(time for time, event in zip(self.times, self.events, strict=True) if event["type"] == type_)
