"""The no-input ladder with a fake clock."""

from sipagent.flow.no_input import MODEL_PATIENCE_S, WORD_AFTER_S, GiveUp, KeepCompany, NoInput, Say

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
    assert n.handle_timer(1.0 + WORD_AFTER_S) == KeepCompany()
    assert n.handle_timer(9.0) == Say("Are you there?", 1)
    assert n.deadline == 9.0 + MODEL_PATIENCE_S
    assert n.handle_timer(13.0) == GiveUp("Goodbye.", 2, model_silent=True)


def test_a_caller_who_speaks_after_a_reprompt_that_was_not_spoken_keeps_it_asked() -> None:
    n = ladder()
    n.handle_timer(8.0)
    n.caller_speaks()
    n.caller_pauses(9.0)
    assert isinstance(n.handle_timer(17.0), KeepCompany)
    assert isinstance(n.handle_timer(17.0), GiveUp)


def test_a_ladder_that_was_stopped_says_nothing_more() -> None:
    n = ladder()
    n.stop()
    assert n.deadline is None
    n.caller_speaks()
    n.caller_pauses(1.0)
    n.agent_quiet(2.0)
    assert n.deadline is None
    assert n.handle_timer(100.0) is None


def test_who_waits_for_an_answer_hears_something_once() -> None:
    n = ladder()
    n.caller_speaks()
    n.caller_pauses(1.0)
    assert n.deadline == 1.0 + WORD_AFTER_S
    assert n.handle_timer(1.0 + WORD_AFTER_S - 0.01) is None
    assert n.handle_timer(1.0 + WORD_AFTER_S) == KeepCompany()
    assert n.deadline == 9.0


def test_an_answer_in_time_needs_no_word() -> None:
    n = ladder()
    n.caller_pauses(1.0)
    n.agent_speaks()
    assert n.deadline is None
    n.agent_quiet(5.0)
    assert n.deadline == 13.0  # it is the caller's turn: nobody is to be kept company
    n.caller_pauses(6.0)
    n.caller_speaks()
    assert n.deadline is None


def test_whether_they_have_been_kept_company_is_known_until_the_agent_speaks() -> None:
    n = ladder()
    n.caller_pauses(1.0)
    n.kept_company = isinstance(n.handle_timer(4.0), KeepCompany)
    n.caller_speaks()
    n.caller_pauses(6.0)
    assert n.handle_timer(9.0) == KeepCompany()
    assert n.kept_company
    n.agent_speaks()
    assert not n.kept_company
