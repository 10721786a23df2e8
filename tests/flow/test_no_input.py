"""The no-input ladder with a fake clock."""

from sipagent.flow.no_input import GiveUp, NoInput, Say

RUNGS = ("Are you there?", "Hello?")


def ladder() -> NoInput:
    return NoInput(8.0, RUNGS, "Goodbye.", 0.0)


def test_silence_climbs_to_goodbye() -> None:
    n = ladder()
    assert n.deadline == 8.0
    assert n.handle_timer(7.9) is None
    assert n.handle_timer(8.0) == Say("Are you there?", 1)
    n.agent_speaks()
    assert n.deadline is None
    n.agent_quiet(10.0)
    assert n.handle_timer(18.0) == Say("Hello?", 2)
    n.agent_speaks()
    n.agent_quiet(20.0)
    assert n.handle_timer(28.0) == GiveUp("Goodbye.", 3, model_silent=False)
    assert n.deadline is None


def test_a_word_starts_anew() -> None:
    n = ladder()
    n.handle_timer(8.0)
    n.caller_speaks()
    assert n.deadline is None
    n.caller_pauses(9.0)
    n.agent_speaks()
    n.agent_quiet(12.0)
    assert n.handle_timer(20.0) == Say("Are you there?", 1)


def test_a_model_that_never_answers_is_told_from_a_silent_caller() -> None:
    n = ladder()
    n.caller_speaks()
    n.caller_pauses(1.0)
    for step in (9.0, 17.0):
        assert isinstance(n.handle_timer(step), Say)
    assert n.handle_timer(25.0) == GiveUp("Goodbye.", 3, model_silent=True)


def test_the_ladder_climbs_even_if_its_own_words_are_never_spoken() -> None:
    n = ladder()
    assert n.handle_timer(8.0) == Say("Are you there?", 1)
    assert n.deadline == 16.0
