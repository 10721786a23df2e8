"""When tools are run and when the model hears of them (core: happenings and time in, actions out).

The traps of the wire (xai-realtime reference, section 4), each with its rule here:

- Several calls stand in one response: they run side by side, and their results go together once the last is there.
- A result before `response.done` is refused: a response's calls begin when it is done.
- Nothing goes on without `response.create`, and a second one while a response is active is an error: results wait
  for the active response, then one `response.create` follows them. A response that is never closed holds them up
  for `STUCK_S` at most; a `response.create` that found another response active is sent once more after that one.
- A caller who speaks meanwhile gets an answer of the server's own making. While they speak the results go at once,
  without `response.create`, so that this answer knows them; from their pause on the results wait for it. Where none has
  come by `OWED_S` after the pause, it is asked for.
- A call is announced more than once, and announcements of the server's own tools look the same: known ids are passed
  over, unknown names are refused, or left alone where the server has tools of its own.

While a tool runs and nobody speaks, `Fill` says what the caller hears; `Hush` ends it when the answer begins.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sipagent.tools import arguments
from sipagent.xai.events import FunctionCall

STUCK_S = 5.0
"""A response may never be closed; by then it is."""
OWED_S = 1.5
"""From the caller's pause to the response that the server makes of it, when it makes one."""
KEPT = 128
"""Ids remembered against repetition."""
HOLD = "hold:"
"""The soft sound, as a filler."""


@dataclass(frozen=True, slots=True)
class Function:
    """What the model may call, and how patient everybody is."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    filler: str = ""
    filler_after_s: float = 0.7
    hold_sound: bool = False
    timeout_s: float | None = None

    def wire(self) -> dict[str, Any]:
        """The entry of `session.tools`."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class Run:
    """Carry it out; back with `returned`."""

    call_id: str
    function: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Not carried out: nothing to do but to tell. The model gets `why`."""

    call_id: str
    function: str
    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Send these results; `respond`: and then one `response.create`."""

    outputs: Mapping[str, str]
    respond: bool


@dataclass(frozen=True, slots=True)
class Respond:
    """Send a `response.create` alone."""


@dataclass(frozen=True, slots=True)
class Fill:
    """The caller waits in silence: a text, a recording, or the soft sound (`HOLD`)."""

    sound: str


@dataclass(frozen=True, slots=True)
class Hush:
    """The answer begins: whatever fills the silence ends."""


Action = Run | Refused | Answer | Respond | Fill | Hush


@dataclass(slots=True)
class _Batch:
    """The calls of one response: their results go together."""

    running: dict[str, Function] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)


class ToolCalls:
    """One conversation's. All times are monotonic seconds."""

    def __init__(self, functions: Mapping[str, Function], *, server_tools: bool = False) -> None:
        """`server_tools`: the model's side has tools of its own, whose announcements are not for us."""
        self.functions, self._server_tools = functions, server_tools
        self._actions: deque[Action] = deque()
        self._seen: deque[str] = deque(maxlen=KEPT)
        self._announced: list[FunctionCall] = []
        self._batches: list[_Batch] = []
        self._response = ""
        self._response_at = 0.0
        self._caller_speaks = False
        self._paused_at: float | None = None  # the caller has paused, and the server's answer has not begun
        self._owed = False  # results are out without a response.create
        self._asked = False  # response.create is out and no response has been created since
        self._silent_since: float | None = None  # nobody speaks
        self._agent_speaks = False
        self._filling = False
        self._filled: set[str] = set()  # fillers said in this wait: each once

    @property
    def busy(self) -> bool:
        """The caller waits for us: a tool runs, or its result has not been answered yet."""
        return bool(self._batches)

    @property
    def filling(self) -> bool:
        """What the caller hears now is a filler."""
        return self._filling

    def poll(self) -> Action | None:
        """The next thing to do; ask until there is none."""
        return self._actions.popleft() if self._actions else None

    # --- from the model

    def called(self, call: FunctionCall) -> None:
        """A call was announced; it begins when its response is done."""
        if call.call_id not in self._seen:
            self._seen.append(call.call_id)
            self._announced.append(call)

    def response_created(self, response_id: str, now: float) -> None:
        """The model begins an answer: it knows of every result that is out."""
        self._response, self._response_at = response_id, now
        self._paused_at, self._owed, self._asked = None, False, False

    def response_done(self, response_id: str, status: str, now: float) -> None:
        """An answer is closed: its calls begin. Those of one that was cut short are not wanted any more."""
        if response_id in {"", self._response}:
            self._response = ""
        announced, self._announced = self._announced, []
        batch = _Batch()
        for call in announced:
            if status in {"", "completed"}:
                self._begin(call, batch, now)
            elif call.name in self.functions or not self._server_tools:
                self._refuse(call, batch, "not carried out: the caller spoke")
        if batch.running or batch.results:
            self._batches.append(batch)
        if self._asked and not self._response:
            self._asked = False  # ours was refused, since this response was active: once more
            self._actions.append(Respond())
        self._settle(now)

    def _begin(self, call: FunctionCall, batch: _Batch, now: float) -> None:
        function = self.functions.get(call.name)
        if function is None:
            if not self._server_tools:
                known = ", ".join(self.functions) or "none"
                self._refuse(call, batch, f"there is no function {call.name[:64]!r}; there is {known}")
            return
        given, wrong = arguments.read(call.arguments, function.parameters)
        if wrong:
            self._refuse(call, batch, wrong)
            return
        if not self._running():
            self._filled.clear()
        batch.running[call.call_id] = function
        if not self._agent_speaks and not self._caller_speaks:
            self._silent_since = now
        self._actions.append(Run(call.call_id, function.name, given))

    def _refuse(self, call: FunctionCall, batch: _Batch, why: str) -> None:
        batch.results[call.call_id] = error_output(why)
        self._actions.append(Refused(call.call_id, call.name[:64], why))

    # --- from the tools

    def returned(self, call_id: str, output: str, now: float) -> None:
        """A tool has ended; `output` is for the model."""
        for batch in self._batches:
            if batch.running.pop(call_id, None) is not None:
                batch.results[call_id] = output
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Send the results of what is done, if the moment is right."""
        done = self._done()
        if not done:
            return
        if self._response and now < self._response_at + STUCK_S:
            return
        if self._paused_at is not None and now < self._paused_at + OWED_S:
            return
        self._response, self._paused_at = "", None
        outputs = {call_id: output for batch in done for call_id, output in batch.results.items()}
        self._batches = [batch for batch in self._batches if batch not in done]
        self._owed = self._caller_speaks
        self._asked = not self._caller_speaks
        self._actions.append(Answer(outputs, respond=self._asked))

    def _done(self) -> list[_Batch]:
        return [batch for batch in self._batches if not batch.running]

    def _running(self) -> list[Function]:
        return [function for batch in self._batches for function in batch.running.values()]

    # --- who speaks

    def caller(self, *, speaks: bool, now: float) -> None:
        """The model hears the caller speak, or pause."""
        self._caller_speaks = speaks
        self._silent_since = None if speaks or self._agent_speaks else now
        self._paused_at = None if speaks else now

    def audio(self) -> None:
        """The model's audio comes in."""
        if self._filling:
            self._filling = False
            self._actions.append(Hush())

    def agent(self, *, speaks: bool, now: float) -> None:
        """The caller hears the agent (or a filler), or has heard all there is."""
        self._agent_speaks = speaks
        if not speaks:
            self._filling = False
        self._silent_since = None if speaks or self._caller_speaks else now

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` is due."""
        due = [at for at in (self._fill_at(),) if at is not None]
        waiting = bool(self._done())
        if waiting and self._response:
            due.append(self._response_at + STUCK_S)
        elif (waiting or self._owed) and self._paused_at is not None:
            due.append(self._paused_at + OWED_S)
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        """Whatever is due at `now`."""
        self._settle(now)
        if self._owed and self._paused_at is not None and now >= self._paused_at + OWED_S:
            self._owed, self._paused_at, self._asked = False, None, True
            self._actions.append(Respond())
        fill_at = self._fill_at()
        if fill_at is not None and now >= fill_at:
            sound = self._next_filler()
            self._filled.add(sound)
            self._silent_since, self._filling = None, True
            self._actions.append(Fill(sound))

    def _fill_at(self) -> float | None:
        if self._silent_since is None or not self._next_filler():
            return None
        return self._silent_since + min(function.filler_after_s for function in self._running())

    def _next_filler(self) -> str:
        """The first tool's words, once in a wait; then the soft sound."""
        running = self._running()
        for function in running:
            if function.filler and (function.filler == HOLD or function.filler not in self._filled):
                return function.filler
        return HOLD if any(function.hold_sound for function in running) else ""


def error_output(why: str) -> str:
    """An error as the model reads it."""
    return json.dumps({"error": why}, ensure_ascii=False)
