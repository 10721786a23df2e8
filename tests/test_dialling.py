"""What may be dialled: kinds of numbers, patterns, caps; with a fake clock."""

import pytest

from sipagent.config.transfers import DialPolicy
from sipagent.dialling import DialGuard, costly


def guard(workers: int = 1, **policy: object) -> DialGuard:
    return DialGuard(DialPolicy(**policy), workers)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["+449098790000", "+19005551234", "+870773111111", "+88213211234", "+9790123456789"])
def test_costly_numbers_are_refused_unless_wanted(number: str) -> None:
    assert costly(number)
    assert "premium" in guard().refusal(number, "", 0)
    assert guard(premium=True).refusal(number, "", 0) == ""


@pytest.mark.parametrize("number", ["+442079460123", "+12125550123", "401", "*98"])
def test_ordinary_numbers_pass(number: str) -> None:
    assert guard().refusal(number, "+441", 0) == ""


def test_allow_and_deny() -> None:
    strict = guard(allow=["+44*"], deny=["+4420*", "666"])
    assert strict.refusal("+441611234567", "", 0) == ""
    assert "allow" in strict.refusal("+33123456789", "", 0)
    assert "deny" in strict.refusal("+442079460123", "", 0)
    assert "deny" in strict.refusal("666", "", 0)
    assert strict.refusal("401", "", 0) == ""  # an extension is no public number


def test_caps_of_rate_and_number() -> None:
    capped = guard(per_minute=2, at_once=3)
    for leg, at in (("a", 0.0), ("b", 1.0)):
        assert capped.refusal("401", "", at) == ""
        capped.started(leg, "", at)
    assert "per_minute" in capped.refusal("401", "", 59.9)
    assert capped.refusal("401", "", 60.1) == ""
    capped.started("c", "", 61.0)
    assert "at_once" in capped.refusal("401", "", 200)
    capped.ended("a", 200)
    capped.ended("a", 201)
    assert capped.refusal("401", "", 201) == ""


def test_the_days_minutes_count_what_is_being_talked() -> None:
    capped = guard(minutes_per_day=10)
    capped.started("a", "", 0)
    capped.ended("a", 300)
    capped.started("b", "", 300)
    assert capped.refusal("401", "", 599) == ""
    assert "minutes" in capped.refusal("401", "", 600)
    capped.ended("b", 600)
    assert capped.refusal("401", "", 86400 + 601) == ""


def test_one_caller_has_a_cap_of_their_own() -> None:
    capped = guard(per_caller_per_day=1)
    capped.started("a", "+441", 0)
    capped.ended("a", 1)
    assert "this caller" in capped.refusal("401", "+441", 100)
    assert capped.refusal("401", "+442", 100) == ""
    assert capped.refusal("401", "+441", 86401) == ""


def test_workers_share_the_caps() -> None:
    quarter = guard(4, at_once=8, per_caller_per_day=4)
    quarter.started("a", "+441", 0)
    assert "per_caller_per_day" in quarter.refusal("401", "+441", 61)
    assert quarter.refusal("401", "", 61) == ""
    quarter.started("b", "", 0)
    assert "at_once" in quarter.refusal("401", "", 61)


def test_what_no_plan_knows_is_no_way_round_the_list() -> None:
    """A trunk without a region cannot tell what 0900... is; an extension of the PBX stays one."""
    guard = DialGuard(DialPolicy(allow=("+44*",)))
    assert guard.refusal("0900123456", "", 0) == "not in dial_policy.allow"
    assert guard.refusal("417", "", 0) == ""
    assert DialGuard(DialPolicy(allow=("+44*", "0800*"))).refusal("0800123456", "", 0) == ""


def test_a_reload_changes_the_rules_and_forgets_no_call() -> None:
    guard = DialGuard(DialPolicy(at_once=2))
    guard.started("a", "", 0)
    guard.follow(DialPolicy(at_once=1))
    assert "at once" in guard.refusal("417", "", 0)
    guard.ended("a", 1)
    assert guard.refusal("417", "", 1) == ""


def test_what_the_configuration_does_not_hold_must_be_allowed_by_a_pattern() -> None:
    """Numbers of callers and programs: extensions too, and with nothing allowed nothing is dialled."""
    assert guard().refusal("401", "", 0) == ""
    assert "allow" in guard().refusal("401", "", 0, listed=False)
    assert guard(allow=("_4XX",)).refusal("401", "", 0, listed=False) == ""
    assert "premium" in guard(allow=("+1*",)).forbidden("+19005551234")
    assert "deny" in guard(allow=("+44*",), deny=("+449*",)).forbidden("+449123456789")
    assert guard(allow=("+44*",)).forbidden("+442079460123") == ""


def test_a_trunk_takes_its_calls_one_after_the_other() -> None:
    turns = guard()
    assert [turns.turn("a", 2, 10.0, 5) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert turns.turn("b", 2, 10.0, 5) == 0.0
    assert turns.turn("a", 2, 20.0, 5) == 0.0
    assert guard(workers=4).turn("a", 2, 0, 5) == 0.0
    four = guard(workers=4)
    assert [four.turn("a", 2, 0.0, 5) for _ in range(4)] == [0.0, 2.0, 4.0, None]
