"""Endpoints that fail are left alone for a while, then one call tries them."""

from sipagent.xai.health import FAILURES, PAUSE_S, TRIAL_S, Health


def failing(times: int) -> Health:
    health = Health()
    for n in range(times):
        health.bad("main", float(n))
    return health


def test_a_few_failures_are_no_reason_to_go_elsewhere() -> None:
    assert not failing(FAILURES - 1).left_alone("main", FAILURES - 1)


def test_after_several_it_is_left_alone_and_then_one_call_tries_it() -> None:
    health, failed_at = failing(FAILURES), float(FAILURES - 1)
    assert health.left_alone("main", failed_at + PAUSE_S - 0.1)
    assert not health.left_alone("other", failed_at + 1)
    assert health.away(failed_at + 1) == ["main"]
    trial_at = failed_at + PAUSE_S + 0.1
    assert not health.left_alone("main", trial_at)
    health.dialled("main", trial_at)
    assert health.left_alone("main", trial_at + 0.1)  # the trial is still out
    health.bad("main", trial_at + 1)
    assert health.left_alone("main", trial_at + 1 + PAUSE_S - 0.1)
    assert not health.left_alone("main", trial_at + 1 + PAUSE_S + 0.1)


def test_to_ask_is_no_trial() -> None:
    """Who finds a session elsewhere never dials it, and reports nothing."""
    health, later = failing(FAILURES), FAILURES + PAUSE_S
    assert not health.left_alone("main", later)
    assert not health.left_alone("main", later)
    assert health.away(later) == []


def test_a_good_trial_opens_it_for_everybody_and_a_forgotten_one_for_the_next() -> None:
    health, later = failing(FAILURES), FAILURES + PAUSE_S
    health.dialled("main", later)
    health.good("main")
    health.dialled("main", later)
    assert not health.left_alone("main", later)
    health = failing(FAILURES)
    health.dialled("main", later)
    assert not health.left_alone("main", later + TRIAL_S + 0.1)
