"""The flow, with a fake clock: menus, digits, announcements, going elsewhere and coming back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sipagent.config import Settings
from sipagent.config.destinations import Destination
from sipagent.errors import ConfigError
from sipagent.flow import machine
from sipagent.flow.machine import Flow, Plan, Step
from sipagent.flow.phrases import Phrase
from sipagent.flow.steps.ending import PartingStep
from sipagent.outcome import CallOutcome, Reason

COMPANY: dict[str, Any] = {
    "agents": {"reception": {"instructions": "x"}},
    "routes": [{"go": "menu:main"}],
    "variables": {"company": "Riverside"},
    "call": {"operator": "queue:front"},
    "trunks": {"pbx": {"preset": "generic-ip", "hosts": ["192.0.2.1"], "networks": ["192.0.2.1"], "numbers": ["*"]}},
    "menus": {
        "main": {
            "prompt": {"en": "Welcome to {company}.", "es": "Bienvenido a {company}."},
            "keys": {
                "1": "menu:sales",
                "2": "queue:front",
                "3": "collect:account",
                "4": "voicemail:office",
                "0": "operator",
                "*": "repeat",
                "9": "language:es",
                "_5XX": "dial:{digits}@pbx",
                "12": "announcement:closed",
            },
            "no_input": "Hello?",
            "invalid": "No.",
            "give_up": "announcement:bye",
            "retries": 1,
            "timeout_s": 5,
            "interdigit_s": 2,
        },
        "sales": {"prompt": "Sales.", "keys": {"1": "agent:reception", "#": "back"}},
    },
    "announcements": {"closed": {"prompt": "Closed.", "answer": False}, "bye": {"prompt": "Bye."}},
    "collects": {
        "account": {
            "prompt": "Your account.", "variable": "account", "min_digits": 3, "max_digits": 6, "pattern": "[1-9]+",
            "confirm": True, "then": "agent:reception", "give_up": "announcement:bye", "retries": 1,
            "no_input": "Nothing.", "invalid": "Wrong.",
        }
    },
    "queues": {"front": {"members": ["phone"], "keys": {"1": "voicemail:office"}, "then": "announcement:bye"}},
    "mailboxes": {"office": {"greeting": "Leave a message."}},
    "dials": {"boss": {"number": "401", "trunk": "pbx", "timeout_s": 9, "then": "voicemail:office"}},
}  # fmt: skip


class Caller:
    """Drives a flow by hand; `now` moves only when told."""

    def __init__(self, start: str = "menu:main", **changes: Any) -> None:
        self.flow = Flow(Plan(Settings(**(COMPANY | changes))), {"called": "100"})
        self.now = 0.0
        self.retried: list[str] = []
        """Why they were asked again."""
        self.flow.begin(Destination(start), self.now)

    def done(self) -> list[machine.Action]:
        """What has to be done by now, without the mere telling."""
        out = []
        while (action := self.flow.poll()) is not None:
            if isinstance(action, machine.Retried):
                self.retried.append(action.why)
            elif not isinstance(action, machine.Entered):
                out.append(action)
        return out

    def press(self, keys: str) -> list[machine.Action]:
        for key in keys:
            self.flow.key(key, self.now)
        return self.done()

    def hears_it(self) -> list[machine.Action]:
        self.flow.heard(self.now)
        return self.done()

    def waits(self, seconds: float) -> list[machine.Action]:
        self.now += seconds
        self.flow.handle_timer(self.now)
        return self.done()


def say(*texts: str, language: str = "en", answer: bool = True) -> machine.Say:
    return machine.Say(tuple(Phrase(text, language) for text in texts), answer)


QUIET = machine.Quiet()


def test_a_key_cuts_the_prompt_and_leads_on() -> None:
    caller = Caller()
    assert caller.done() == [say("Welcome to Riverside.")]
    assert caller.press("2") == [QUIET, machine.ToQueue("front")]


@pytest.mark.parametrize("keys", ["", "1", "31"], ids=["in a menu", "with an agent", "giving digits"])
def test_who_parts_hears_one_sentence_and_goes(keys: str) -> None:
    caller = Caller()
    caller.done()
    caller.press(keys)
    caller.flow.interrupt(PartingStep("One moment.", Destination("queue:front")), caller.now)
    assert caller.done() == [QUIET, say("One moment.")]
    assert caller.press("2") == []  # a key that they pressed for what they heard before
    assert caller.waits(3600) == []
    assert caller.hears_it() == [machine.ToQueue("front")]
    caller.flow.returned("CONTINUE", caller.now)
    assert caller.done() == [machine.End(CallOutcome(Reason.COMPLETED, "served by queue front"))]


def test_who_parts_for_good_is_told_so() -> None:
    caller = Caller("agent:reception")
    caller.done()
    caller.flow.interrupt(PartingStep("Goodbye.", None), caller.now)
    assert caller.done() == [QUIET, say("Goodbye.")]
    assert caller.hears_it() == [machine.End(CallOutcome(Reason.SHUTDOWN, "told goodbye"))]
    caller = Caller("queue:front")
    caller.done()
    caller.flow.interrupt(PartingStep("", None), caller.now)  # nobody would hear it
    assert caller.done() == [QUIET, machine.End(CallOutcome(Reason.SHUTDOWN))]


def test_a_key_that_may_be_longer_waits_for_the_next() -> None:
    caller = Caller()
    caller.done()
    assert caller.press("1") == [QUIET]
    assert caller.waits(1.9) == []
    assert caller.waits(0.2) == [say("Sales.")]
    assert caller.press("#") == [QUIET, say("Welcome to Riverside.")]
    assert caller.press("12") == [QUIET, QUIET, say("Closed.", answer=False)]


def test_an_extension_is_dialled_directly() -> None:
    caller = Caller()
    caller.done()
    assert caller.press("512")[-1] == machine.ToDial("512", "pbx", 30.0)


def test_what_no_key_bounds_is_dialled_on_the_callers_word_only() -> None:
    """So the guard asks `dial_policy.allow` for it, an extension too."""
    anyone = {"dial_policy": {"allow": ["_X!"]}}
    collect = COMPANY["collects"]["account"] | {"then": "dial:{digits}@pbx", "confirm": False}
    caller = Caller("collect:account", collects={"account": collect}, **anyone)
    caller.done()
    assert caller.press("123#")[-1] == machine.ToDial("123", "pbx", 30.0, listed=False)
    menu = {"prompt": "Who?", "keys": {"_5.": "dial:{digits}@pbx"}}
    caller = Caller("menu:m", menus=COMPANY["menus"] | {"m": menu}, **anyone)
    caller.done()
    caller.press("5123")
    assert caller.waits(10)[-1] == machine.ToDial("5123", "pbx", 30.0, listed=False)


def test_silence_and_wrong_keys_then_the_way_out() -> None:
    caller = Caller()
    caller.done()
    assert caller.waits(60) == []  # the prompt is still being heard
    assert caller.hears_it() == []
    assert caller.waits(4.9) == []
    assert caller.waits(0.2) == [say("Hello?", "Welcome to Riverside.")]
    assert caller.press("7") == [QUIET, say("Bye.")]
    assert caller.hears_it()[-1].outcome.reason is Reason.COMPLETED  # type: ignore[union-attr]
    assert caller.press("1") == []  # over
    assert caller.retried == ["no_input", "invalid"]


def test_repeat_operator_and_language() -> None:
    caller = Caller()
    caller.done()
    assert caller.press("*") == [QUIET, say("Welcome to Riverside.")]
    assert caller.press("9") == [QUIET, say("Bienvenido a Riverside.", language="es")]
    assert caller.press("0") == [QUIET, machine.ToQueue("front")]


def test_a_plain_text_stays_in_its_own_language() -> None:
    caller = Caller()
    caller.press("9")
    caller.press("1")
    assert caller.waits(2.1) == [say("Sales.")]


def test_digits_are_read_back_and_taken() -> None:
    caller = Caller("collect:account")
    assert caller.done() == [say("Your account.")]
    caller.press("123")
    read_back = ("You entered", "one", "two", "three", "If that is right, press 1. To try again, press 2.")
    assert caller.waits(3.1) == [say(*read_back)]
    assert caller.press("2") == [QUIET, say("Your account.")]
    caller.press("456#")
    assert caller.press("1") == [QUIET, machine.ToAgent("reception")]
    assert caller.flow.variables["account"] == "456"


def test_wrong_digits_are_said_to_be_wrong() -> None:
    caller = Caller("collect:account")
    caller.done()
    assert caller.press("12#")[-1] == say("Wrong.", "Your account.")
    assert caller.press("000#")[-1] == say("Bye.")


def test_the_longest_number_needs_no_terminator() -> None:
    caller = Caller("collect:account")
    assert caller.press("123456")[-1].phrases[1:7] == tuple(  # type: ignore[union-attr]
        Phrase(word) for word in ("one", "two", "three", "four", "five", "six")
    )


def test_nobody_enters_anything() -> None:
    caller = Caller("collect:account")
    caller.done()
    caller.hears_it()
    assert caller.waits(6.1) == [say("Nothing.", "Your account.")]


@pytest.mark.parametrize(
    ("result", "then"),
    [("TIMEOUT", say("Bye.")), ("JOINEMPTY", say("Bye.")), ("1", say("Leave a message.")), ("5", say("Bye."))],
)
def test_back_from_the_queue(result: str, then: machine.Action) -> None:
    caller = Caller("queue:front")
    assert caller.done() == [machine.ToQueue("front")]
    caller.flow.returned(result, caller.now)
    assert caller.done() == [then]


def test_served_by_the_queue() -> None:
    caller = Caller("queue:front")
    caller.done()
    caller.flow.returned("CONTINUE", caller.now)
    assert caller.done()[0].outcome.reason is Reason.COMPLETED  # type: ignore[union-attr]


def test_a_dial_that_is_not_answered_goes_on() -> None:
    caller = Caller("dial:boss")
    assert caller.done() == [machine.ToDial("401", "pbx", 9)]
    caller.flow.returned("BUSY", caller.now)
    assert caller.done() == [say("Leave a message.")]
    assert caller.press("#") == [QUIET, machine.ToVoicemail("office")]
    caller.flow.returned("SUCCESS", caller.now)
    assert isinstance(caller.done()[0], machine.End)


def test_what_the_caller_does_elsewhere_is_not_for_us() -> None:
    """A second key before we have let go must not lead to a second message."""
    caller = Caller("voicemail:office")
    caller.done()
    assert caller.press("##") == [QUIET, machine.ToVoicemail("office")]
    assert caller.hears_it() == caller.press("1") == caller.waits(60) == []
    caller.flow.returned("SUCCESS", caller.now)
    assert isinstance(caller.done()[0], machine.End)


def test_a_queue_that_nobody_serves_is_no_treadmill() -> None:
    """Back at once, again and again; but who has waited may wait again as often as the operator wants."""
    again = {"front": {"members": ["phone"], "then": "queue:front"}}
    for waited, ends in ((0.1, True), (60, False)):
        caller = Caller("queue:front", queues=again)
        last = caller.done()
        for _ in range(machine.MAX_HOPS + 1):
            caller.now += waited
            caller.flow.returned("JOINEMPTY", caller.now)
            last = caller.done() or last
        assert isinstance(last[-1], machine.End) is ends


def test_keys_that_no_telephone_has() -> None:
    caller = Caller("collect:account")
    caller.done()
    assert caller.press("ABCD") == []


LISTENING = {**COMPANY["menus"], "main": {**COMPANY["menus"]["main"], "words": {"2": "an account"}}}


def test_a_word_is_a_key() -> None:
    caller = Caller(menus=LISTENING)
    assert caller.done()[0] == machine.Listen("Welcome to Riverside.", {"2": "an account"}, "en")
    caller.flow.understood("2", caller.now)
    assert caller.done() == [QUIET, machine.StopListening(), machine.ToQueue("front")]


def test_who_listened_has_no_say_in_the_next_step() -> None:
    caller = Caller(menus=LISTENING)
    caller.press("12")
    deadline = caller.flow.deadline
    for late in (caller.flow.caller_speaks, caller.flow.caller_pauses, caller.flow.listener_speaks):
        late(caller.now)
        assert caller.flow.deadline == deadline
    caller.flow.understood("2", caller.now)
    assert caller.done() == []


def test_noise_that_counts_as_speech_does_not_hold_the_caller_for_ever() -> None:
    caller = Caller(menus=LISTENING)
    caller.done()
    caller.hears_it()
    caller.flow.caller_speaks(caller.now)
    assert caller.waits(machine.SPEECH_S - 1) == []
    assert caller.waits(1.1) == [say("Hello?", "Welcome to Riverside.")]


def test_what_was_said_and_not_understood() -> None:
    caller = Caller(menus=LISTENING)
    caller.done()
    caller.flow.caller_speaks(caller.now)
    caller.flow.caller_pauses(caller.now)
    assert caller.waits(machine.UNDERSTAND_S + 0.1) == [say("Hello?", "Welcome to Riverside.")]
    caller.hears_it()
    caller.flow.caller_pauses(caller.now)
    caller.flow.listener_speaks(caller.now)
    assert caller.waits(60) == []  # it asks back
    assert caller.hears_it() == []
    assert caller.waits(5.1)[-1] == say("Bye.")


def test_a_rejected_call_has_its_cause() -> None:
    end = Caller("reject:busy").done()[0]
    assert isinstance(end, machine.End)
    assert (end.outcome.reason, end.outcome.cause) == (Reason.REJECTED, 17)


def test_going_round_for_ever_ends() -> None:
    """`check` finds such a circle; a step of one's own may still make one."""

    class Round(Step):
        kind = "round"

        def enter(self, flow: Flow) -> None:
            flow.go(Destination("round:x"))

    flow = Flow(Plan(Settings(**COMPANY), {"round": Round}), {})
    flow.begin(Destination("round:x"), 0)
    actions = []
    while (action := flow.poll()) is not None:
        actions.append(action)
    assert actions[-1].outcome.reason is Reason.INTERNAL_ERROR  # type: ignore[union-attr]


def test_steps_of_ones_own_and_steps_that_are_nobodys() -> None:
    class Weather(Step):
        kind = "weather"

        def __init__(self, name: str, settings: Settings) -> None:
            self.city = settings.steps["weather"][name]["city"]

        def enter(self, flow: Flow) -> None:
            flow.say(f"In {self.city} it rains.")

    made = Settings(**COMPANY, steps={"weather": {"home": {"city": "Leeds"}}})
    flow = Flow(Plan(made, {"weather": Weather}), {})
    flow.begin(Destination("weather:home"), 0)
    assert [flow.poll(), flow.poll()] == [machine.Entered(Destination("weather:home")), say("In Leeds it rains.")]
    with pytest.raises(ConfigError, match="weather"):
        Plan(made)


def test_all_that_may_be_said_is_known_in_advance() -> None:
    phrases = set(Plan(Settings(**COMPANY)).phrases())
    assert Phrase("Bienvenido a Riverside.", "es") in phrases
    assert {
        Phrase("seven"),
        Phrase("Leave a message."),
        Phrase("If that is right, press 1. To try again, press 2."),
    } <= phrases


@hypothesis_settings(max_examples=150)
@given(
    st.lists(
        st.one_of(st.sampled_from("0123456789*#ABCD"), st.just("heard"), st.just("wait"), st.just("back")), max_size=60
    )
)
def test_whatever_the_caller_does_there_is_something_to_do_or_to_wait_for(happenings: list[str]) -> None:
    """No dead end: being heard, a deadline, being elsewhere or the end; and every phrase was known in advance."""
    caller = Caller()
    known = set(Plan(caller.flow.settings).phrases())
    last: machine.Action | None = None
    for happening in ["start", *happenings]:
        if happening == "heard":
            caller.flow.heard(caller.now)
        elif happening == "wait":
            caller.now += 60
            caller.flow.handle_timer(caller.now)
        elif happening == "back":
            if isinstance(last, machine.ToQueue | machine.ToDial | machine.ToVoicemail):
                caller.flow.returned("TIMEOUT", caller.now)
        elif happening != "start":
            caller.flow.key(happening, caller.now)
        for action in caller.done():
            last = action
            if isinstance(action, machine.Say):
                assert set(action.phrases) <= known
        waiting = caller.flow.deadline is not None
        assert waiting or isinstance(last, machine.Say | machine.End | machine.Elsewhere), last
