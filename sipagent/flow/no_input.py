"""The ladder for a caller who says nothing (core: happenings and time in, the next step out).

While somebody speaks no clock runs. When both are quiet for the agent's patience, the agent asks again,
once per reprompt, then says goodbye; a word from the caller starts the ladder anew. A model that was
spoken to and does not answer looks the same from here, so the ladder also gets a stuck call moving: a
reprompt that is not spoken within `MODEL_PATIENCE_S` tells a dead model from a silent caller.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL_PATIENCE_S = 4.0
"""A text to be spoken word for word takes the model well under a second."""
WORD_AFTER_S = 3.0
"""A caller who has spoken and hears nothing for so long wonders whether they are alone."""


@dataclass(frozen=True, slots=True)
class Say:
    """Ask again; `step` counts from 1."""

    text: str
    step: int


@dataclass(frozen=True, slots=True)
class KeepCompany:
    """It is the model's turn, and it takes its time: the caller should hear something of us."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Say goodbye and hang up. `model_silent`: the model does not even speak what it is told to."""

    text: str
    step: int
    model_silent: bool


class NoInput:
    """One call's ladder. All times are monotonic seconds."""

    def __init__(self, patience_s: float, reprompts: tuple[str, ...], goodbye: str, now: float) -> None:
        self._patience_s = patience_s
        self._reprompts = reprompts
        self._goodbye = goodbye
        self._step = 0
        self._asked = False  # to speak, and it has not yet
        self._stopped = False
        self._deadline: float | None = now + patience_s
        self._word_at: float | None = None
        self.kept_company = False
        """The caller has heard something of us, and nothing of the agent since."""

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` is due, None while somebody speaks or after the goodbye."""
        return self._deadline if self._word_at is None else self._word_at

    def caller_speaks(self) -> None:
        """Onset of the caller's speech: the ladder starts anew."""
        self._step, self._deadline, self._word_at = 0, None, None

    def caller_pauses(self, now: float) -> None:
        """The caller stopped: the model's turn, with the same patience."""
        self._wait(now)
        self.model_begins(now)

    def model_begins(self, now: float) -> None:
        """The model is to speak."""
        if self._deadline is not None and now + WORD_AFTER_S < self._deadline:
            self._word_at = now + WORD_AFTER_S

    def agent_speaks(self) -> None:
        """First audio of the agent is out."""
        self._deadline, self._word_at, self._asked, self.kept_company = None, None, False, False

    def agent_quiet(self, now: float) -> None:
        """The agent's audio ran out."""
        self._wait(now)

    def _wait(self, now: float) -> None:
        self._deadline = None if self._stopped else now + self._patience_s

    def stop(self) -> None:
        """A last word is being said: no further step, whoever speaks or not."""
        self._deadline, self._word_at, self._stopped = None, None, True

    def handle_timer(self, now: float) -> Say | KeepCompany | GiveUp | None:
        """The next step if patience is over at `now`."""
        if self._word_at is not None and now >= self._word_at:
            self._word_at = None
            return KeepCompany()
        if self._deadline is None or now < self._deadline:
            return None
        self._step += 1
        if self._step <= len(self._reprompts) and not self._asked:
            self._asked = True
            self._deadline = now + min(self._patience_s, MODEL_PATIENCE_S)
            return Say(self._reprompts[self._step - 1], self._step)
        self._deadline = None
        return GiveUp(self._goodbye, self._step, model_silent=self._asked)
