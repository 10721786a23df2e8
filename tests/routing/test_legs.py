"""Which caller id a leg out has."""

from typing import Any

import pytest

from sipagent.config import Settings
from sipagent.routing.legs import shown_number

OURS, OTHER, THEIRS = "+442079460123", "+442079460124", "+15550100"


def settings(**caller_id: Any) -> Settings:
    trunk = {
        "preset": "generic-ip", "hosts": ["192.0.2.1"], "networks": ["192.0.2.1"], "numbers": [OURS], "region": "GB",
        "caller_id": caller_id,
    }  # fmt: skip
    agents = {"a": {"instructions": "x"}}
    return Settings(agents=agents, routes=[{"go": "agent:a"}], trunks={"carrier": trunk})


@pytest.mark.parametrize(
    ("caller_id", "wanted", "shown"),
    [
        ({"allow": [OURS, OTHER]}, OTHER, OTHER),
        ({"allow": [OURS, OTHER], "default": OURS}, OTHER, OTHER),
        ({"allow": [OURS, OTHER], "default": OTHER}, THEIRS, OTHER),
        ({"allow": [OURS, OTHER]}, THEIRS, OURS),
        ({"allow": [OURS, OTHER]}, "", OURS),
        ({}, THEIRS, THEIRS),
        ({}, "", ""),
    ],
)
def test_a_trunk_shows_what_is_wanted_where_it_is_allowed(caller_id: Any, wanted: str, shown: str) -> None:
    assert shown_number("carrier", settings(**caller_id), wanted) == shown


def test_an_extension_is_shown_whoever_calls() -> None:
    assert shown_number("phone", settings(), THEIRS) == THEIRS
