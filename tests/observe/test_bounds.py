"""Nothing from the wire becomes a label as it is."""

import inspect
import re

import pytest

from sipagent import (
    callcontrol,
    conversation,
    leg,
    limits,
    line,
    listener,
    outbound,
    probe,
    referral,
    supervision,
    talk,
    transfer,
    visit,
)
from sipagent.dialling import DialGuard
from sipagent.observe import bounds
from sipagent.observe.bounds import MODELS, NONE, OTHER, Known
from sipagent.xai import session
from tests.observe.story import settings
from tools.generate import ROOT


def test_every_result_a_leg_can_have_has_a_class() -> None:
    assert {bounds.leg_result(text) for text in leg._RESULTS.values()} <= bounds.LEG_RESULTS - {OTHER}
    assert bounds.leg_result("unreachable (Allocation failed)") == "unreachable"
    assert bounds.leg_result("cause 127") == OTHER
    assert bounds.leg_result("refused by the dial policy: not in dial_policy.allow") == "refused"


@pytest.mark.parametrize(
    ("policy", "number", "why"),
    [
        ({"deny": ["+44*"]}, "+442079460123", "denied"),
        ({"allow": ["+1*"]}, "+442079460123", "not_allowed"),
        ({"allow": ["*"]}, "+449098790000", "premium"),
        ({"allow": ["*"], "per_minute": 1}, "+442079460123", "cap"),
    ],
)
def test_every_refusal_of_the_dial_policy_has_a_class(policy: dict[str, object], number: str, why: str) -> None:
    guard = DialGuard(settings(dial_policy=policy).dial_policy)
    guard.started("one before", "", 0)
    assert bounds.refusal(guard.refusal(number, "", 1)) == why


def test_causes_by_the_classes_of_q850() -> None:
    assert [bounds.cause_class(cause) for cause in (0, 1, 17, 34, 57, 88, 102, 127, 999)] == [
        NONE, "normal", "normal", "resource", "service", "invalid", "protocol", "interworking", OTHER,
    ]  # fmt: skip


def test_names_are_the_configurations_and_a_reload_brings_new_ones() -> None:
    now = settings()
    known = Known(lambda: now)
    assert (known.trunk("office"), known.trunk("phone"), known.trunk("evil"), known.trunk("")) == (
        "office", "phone", OTHER, NONE,
    )  # fmt: skip
    assert (known.route("number 1"), known.route("number 99")) == ("number 1", OTHER)
    now = settings(trunks={"evil": {"preset": "generic-ip", "hosts": ["127.0.0.1"]}}, queues={}, menus={}, transfers={})
    assert known.trunk("evil") == "evil"


def test_steps() -> None:
    known = Known(settings)
    assert known.step("menu:main") == ("menu", "main")
    assert known.step("dial:+442079460123@office") == ("dial", OTHER)
    assert known.step("hangup") == ("hangup", NONE)
    assert known.step("strange:thing") == (OTHER, OTHER)


def test_tools_of_a_server_go_by_its_name_and_made_up_ones_by_none() -> None:
    known = Known(settings)
    names = ("order_status", "order_status_of_an_mcp_server", "transfer_call", "rm -rf")
    assert [known.tool(name) for name in names] == ["order_status", "order_status", "transfer_call", OTHER]


def test_a_model_cannot_call_itself_anything_for_ever() -> None:
    known = Known(settings)
    assert known.model("no name, surely") == OTHER
    named = {known.model(f"m-{number}") for number in range(100)}
    assert len(named) == MODELS + 1
    assert known.model("m-0") == "m-0"


def test_builtins_are_those_of_the_program() -> None:
    assert set(re.findall(r'out\["(\w+)"\] = Builtin', inspect.getsource(callcontrol))) == bounds.BUILTINS


def test_troubles_are_those_of_the_program() -> None:
    """A new one would be counted as `other`, where nobody looks for it."""
    modules = (talk, listener, line, conversation)
    told = {what for module in modules for what in re.findall(r'what="(\w+)"', inspect.getsource(module))}
    told |= set(re.findall(r'Trouble\("(\w+)"', inspect.getsource(session).replace("(\n", "(")))
    assert told == bounds.TROUBLES


def test_limits_are_those_of_the_program() -> None:
    """The runbook of CallersTurnedAway says what to do by `limit`."""
    named = {value for name, value in vars(limits).items() if name.isupper() and isinstance(value, str)}
    assert named == bounds.LIMITS
    runbook = (ROOT / "docs/runbooks/CallersTurnedAway.md").read_text()
    assert not [limit for limit in bounds.LIMITS if f"`{limit}`" not in runbook]


def test_purposes_are_those_of_the_program() -> None:
    diallers = (outbound, probe, referral, supervision, transfer, visit)
    named = set(re.findall(r'Errand\(.*, "(\w+)"', "".join(map(inspect.getsource, diallers))))
    assert named == bounds.PURPOSES
