"""Endpoints that fail are left alone for a while, then one call tries them."""

from sipagent.xai.health import FAILURES, PAUSE_S, TRIAL_S, Health

BOTH = ("main", "other")


def failing(times: int) -> Health:
    health = Health()
    for n in range(times):
        health.bad("main", float(n))
    return health


def test_a_few_failures_are_no_reason_to_go_elsewhere() -> None:
    assert failing(FAILURES - 1).worth_trying(BOTH, 10) == ["main", "other"]


def test_after_several_it_is_left_alone_and_then_one_call_tries_it() -> None:
    health, failed_at = failing(FAILURES), float(FAILURES - 1)
    assert health.worth_trying(BOTH, failed_at + PAUSE_S - 0.1) == ["other"]
    assert health.away(failed_at + 1) == ["main"]
    trial_at = failed_at + PAUSE_S + 0.1
    assert health.worth_trying(BOTH, trial_at) == ["main", "other"]
    assert health.worth_trying(BOTH, trial_at + 0.1) == ["other"]  # the trial is still out
    health.bad("main", trial_at + 1)
    assert health.worth_trying(BOTH, trial_at + 1 + PAUSE_S - 0.1) == ["other"]


def test_a_good_trial_opens_it_for_everybody_and_a_forgotten_one_for_the_next() -> None:
    health = failing(FAILURES)
    later = FAILURES + PAUSE_S
    assert "main" in health.worth_trying(BOTH, later)
    health.good("main")
    assert health.worth_trying(BOTH, later) == health.worth_trying(BOTH, later) == ["main", "other"]
    health = failing(FAILURES)
    assert "main" in health.worth_trying(BOTH, later)
    assert "main" in health.worth_trying(BOTH, later + TRIAL_S + 0.1)
