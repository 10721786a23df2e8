"""A caller's way through menus, announcements and queues (core: happenings and time in, actions out).

The machine knows where the caller is; a step (`steps/`, one file each) knows what happens there. A step acts
through the flow: it says something, waits, goes on to another step, or leaves the caller to somebody who is
not a step's business (an agent, a queue, another phone) until they come back. The call carries the actions
out and tells what happened: a key, the end of what was said, the deadline, a return.
"""

from __future__ import annotations

import importlib.metadata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from sipagent.config import Settings
from sipagent.config.destinations import Destination
from sipagent.config.ivr import Text
from sipagent.errors import ConfigError
from sipagent.flow.phrases import Phrase, phrases_in_advance, phrases_now
from sipagent.outcome import CallOutcome, Reason
from sipagent.patterns import KEYS, bounds

MAX_HOPS = 50
"""Steps in a row without the caller doing anything; more is a circle that no check has seen."""
MAX_BACK = 32
WAITED_S = 5.0
"""Who was in a queue for this long has been somewhere: that is no hop of a circle."""
UNDERSTAND_S = 4.0
"""From the end of what a caller said until it has become a choice, or a question back."""
SPEECH_S = 15.0
"""Longer than anything one says to a menu: noise that counts as speech, or a listener that died hearing it."""
ENTRY_POINTS = "sipagent.steps"


# --- what the call is asked to do


@dataclass(frozen=True, slots=True)
class Entered:
    """The caller has come to a step: nothing to do, but to be told."""

    step: Destination


@dataclass(frozen=True, slots=True)
class Retried:
    """The caller is asked again, or for the last time was: `why` is no_input or invalid. Nothing to do either."""

    step: Destination
    why: str


@dataclass(frozen=True, slots=True)
class Say:
    """Speak, after what is being said already. `answer` False: before the call is answered, if it still rings."""

    phrases: tuple[Phrase, ...]
    answer: bool = True


@dataclass(frozen=True, slots=True)
class Quiet:
    """Stop speaking, with the frame under way."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Understand spoken words too: key -> what one may say for it. `question` is what is being asked."""

    question: str
    words: Mapping[str, str]
    language: str


@dataclass(frozen=True, slots=True)
class StopListening:
    """The question is settled."""


@dataclass(frozen=True, slots=True)
class ToAgent:
    """A conversation; back with its CallOutcome."""

    agent: str


@dataclass(frozen=True, slots=True)
class ToQueue:
    """Asterisk's Queue(); back with QUEUESTATUS, or with the key that was pressed."""

    queue: str


@dataclass(frozen=True, slots=True)
class ToVoicemail:
    """Asterisk's VoiceMail(), or VoiceMailMain() to `listen` to what was left; back with VMSTATUS."""

    mailbox: str
    listen: bool = False


@dataclass(frozen=True, slots=True)
class ToDial:
    """A second leg, bridged by Asterisk; back with DIALSTATUS."""

    number: str
    trunk: str
    timeout_s: float
    listed: bool = True
    """The number stands in the configuration; False: the caller gave it."""


@dataclass(frozen=True, slots=True)
class End:
    """Release the call."""

    outcome: CallOutcome


Elsewhere = ToAgent | ToQueue | ToVoicemail | ToDial
Action = Entered | Retried | Say | Quiet | Listen | StopListening | Elsewhere | End


# --- what a step is


class Step:
    """One visit of one caller to one step; its state is its own.

    The methods are happenings. What a step does not care for it leaves alone.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, settings: Settings) -> None:
        """`name` after the colon of the destination; KeyError when the settings have no such thing."""

    @classmethod
    def texts(cls, settings: Settings) -> Iterable[Text]:
        """Everything that any step of this kind may say."""
        del settings
        return ()

    def enter(self, flow: Flow) -> None:
        """The caller has come."""

    def key(self, flow: Flow, digit: str) -> None:
        """A key was pressed."""

    def heard(self, flow: Flow) -> None:
        """Everything said was heard to its end."""

    def timer(self, flow: Flow) -> None:
        """What `flow.wait` set has passed."""

    def understood(self, flow: Flow, key: str) -> None:
        """The caller said what `flow.listen` gave this key for."""

    def returned(self, flow: Flow, result: str) -> None:
        """Back from a queue, a mailbox or another phone, with Asterisk's word for how it was."""


class Plan:
    """The configuration as the flow uses it: which class makes which kind of step."""

    def __init__(self, settings: Settings, classes: Mapping[str, type[Step]] | None = None) -> None:
        self.settings = settings
        self._classes = dict(classes) if classes is not None else step_classes()
        for kind in settings.steps:
            if kind not in self._classes:
                raise ConfigError(f"steps.{kind}: no installed package has an entry point {ENTRY_POINTS!r} {kind!r}")

    def step(self, destination: Destination) -> Step:
        """A new visit. Raises ConfigError for a destination that is not there (`check` finds those)."""
        made = self._classes.get(destination.kind)
        try:
            if made is not None:
                return made(destination.name, self.settings)
        except KeyError:
            pass
        raise ConfigError(f"there is no {destination}")

    def phrases(self) -> list[Phrase]:
        """Everything that may have to be said without a model."""
        found = dict.fromkeys(
            phrase
            for made in self._classes.values()
            for text in made.texts(self.settings)
            for phrase in phrases_in_advance(text, self.settings.call.language, self.settings.variables)
        )
        return list(found)


def step_classes() -> dict[str, type[Step]]:
    """Every kind of step that is installed, ours among them."""
    return {entry.name: entry.load() for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}


# --- the machine


class Flow:
    """One caller's way. Times are monotonic seconds; `poll` gives what is to be done, in order."""

    def __init__(self, plan: Plan, variables: Mapping[str, str], language: str = "") -> None:
        self.settings = plan.settings
        self.language = language or plan.settings.call.language
        self.variables = dict(variables)
        """What {name} stands for beside [variables]; the caller's digits are here, so this is no business of a log."""
        self.at: Destination | None = None
        """Where the caller is."""
        self.deadline: float | None = None
        """When `handle_timer` is due."""
        self._plan = plan
        self._step: Step = Step("", plan.settings)
        self._way: list[Destination] = []
        self._actions: deque[Action] = deque()
        self._listening = self._over = False
        self._away = False
        """Somebody else has the caller: what they do there is not for the step."""
        self._left_at = 0.0
        self._hops = 0
        self._now = 0.0

    # --- from the call

    def begin(self, destination: Destination, now: float) -> None:
        """The caller comes."""
        self._happens(now, lambda: self.go(destination))

    def come_back(self, step: Destination, result: str, now: float) -> None:
        """The caller is back from somewhere, to a flow that did not send them there: another one had, and is gone."""
        self.at, self._step = step, self._plan.step(step)
        self._way.append(step)
        self._happens(now, lambda: self._step.returned(self, result))

    def key(self, digit: str, now: float) -> None:
        """A key of the caller's."""
        if digit in KEYS:  # A to D are on no telephone
            self._hops = 0
            self._happens(now, lambda: self._step.key(self, digit))

    def heard(self, now: float) -> None:
        """What was to be said has been heard to its end."""
        self._happens(now, lambda: self._step.heard(self))

    def understood(self, key: str, now: float) -> None:
        """The caller chose a key by word of mouth."""
        if self._listening:
            self._hops = 0
            self._happens(now, lambda: self._step.understood(self, key))

    def listener_speaks(self, now: float) -> None:
        """Whoever listens asks back: no time runs out until that is `heard`."""
        if self._listening:
            self._happens(now, self._hold)

    def caller_speaks(self, now: float) -> None:
        """Whoever listens hears the caller."""
        if self._listening:
            self._happens(now, lambda: self.wait(SPEECH_S))

    def caller_pauses(self, now: float) -> None:
        """The caller has said something: it takes a moment to be understood, or not."""
        if self._listening:
            self._happens(now, lambda: self.wait(UNDERSTAND_S))

    def _hold(self) -> None:
        self.deadline = None

    def transfer(self, destination: Destination, now: float) -> None:
        """Somebody who had the caller sends them on."""
        self._hops, self._away = 0, False
        self._happens(now, lambda: self.go(destination))

    def interrupt(self, step: Step, now: float) -> None:
        """Whatever the caller is doing is over, and this comes instead; they are with us."""
        self._step, self._listening, self._away = step, False, False
        self._hops, self.deadline = 0, None
        self._happens(now, lambda: step.enter(self))

    def returned(self, result: str, now: float) -> None:
        """The caller is back from where Asterisk had them."""
        if now - self._left_at >= WAITED_S:
            self._hops = 0
        self._away = False
        self._happens(now, lambda: self._step.returned(self, result))

    def handle_timer(self, now: float) -> None:
        """Does something only when the deadline has passed."""
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._happens(now, lambda: self._step.timer(self))

    def poll(self) -> Action | None:
        """The next thing to do."""
        return self._actions.popleft() if self._actions else None

    def _happens(self, now: float, what: Callable[[], None]) -> None:
        self._now = now
        if not self._over and not self._away:
            what()

    # --- for the steps

    def say(self, *texts: Text, answer: bool = True) -> None:
        """Speak texts one after the other, in the caller's language."""
        self._actions.append(Say(tuple(phrase for text in texts for phrase in self._phrases(text)), answer))
        self.deadline = None

    def quiet(self) -> None:
        """Stop speaking."""
        self._actions.append(Quiet())

    def retried(self, why: str) -> None:
        """The caller did not answer as they should: `why` is no_input or invalid."""
        if self.at is not None:
            self._actions.append(Retried(self.at, why))

    def wait(self, seconds: float) -> None:
        """Have `timer` called then, unless something is said before."""
        self.deadline = self._now + seconds

    def listen(self, question: Text, words: Mapping[str, str]) -> None:
        """Understand spoken words too, until the next step."""
        text = " ".join(phrase.text for phrase in self._phrases(question))
        self._actions.append(Listen(text, words, self.language))
        self._listening = True

    def _phrases(self, text: Text) -> Iterator[Phrase]:
        settings = self.settings
        return phrases_now(text, settings.call.language, settings.variables, self.language, self.variables)

    def leave(self, elsewhere: Elsewhere) -> None:
        """Somebody else has the caller now."""
        self.deadline, self._away, self._left_at = None, True, self._now
        self._actions.append(elsewhere)

    def end(self, outcome: CallOutcome) -> None:
        """The last thing."""
        self._over, self.deadline = True, None
        self._actions.append(End(outcome))

    def go(self, destination: Destination, key: str = "") -> None:
        """On to another step, by this `key`; `back`, `repeat`, `operator` and `language:` are ways to name one."""
        self._hops += 1
        if self._hops > MAX_HOPS:
            self.end(CallOutcome(Reason.INTERNAL_ERROR, f"the flow goes round in circles at {destination}"))
            return
        if self._listening:
            self._listening = False
            self._actions.append(StopListening())
        self.deadline = None
        named = self._named(destination)
        self.at = target = Destination(named.replace("{digits}", self.variables.get("digits", "")))
        self.listed = target == named or (key != "" and bounds(key))
        self._step = self._plan.step(target)
        self._way = [*self._way[-MAX_BACK:], target]
        self._actions.append(Entered(target))
        self._step.enter(self)

    def _named(self, destination: Destination) -> Destination:
        match destination.kind:
            case "repeat":
                return self._way.pop()
            case "back":
                here = self._way.pop()
                before = next((step for step in reversed(self._way) if step.kind == "menu"), here)
                del self._way[self._way.index(before) if before in self._way else len(self._way) :]
                return before
            case "language":
                self.language = destination.name
                return self._way.pop()
            case "operator":
                return self.settings.call.operator or destination
            case _:
                return destination
