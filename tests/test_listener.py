"""What a menu's listener makes of what the model says."""

from __future__ import annotations

import pytest

from sipagent.listener import _key_of
from sipagent.xai.events import FunctionCall


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ('{"key": "1"}', "1"),
        ('{"key": 2}', "2"),
        ("{}", ""),
        ("[1]", ""),
        ("1", ""),
        ("{", ""),
        ("[" * 200_000 + "]" * 200_000, ""),
        ('{"key":' * 200_000, ""),
    ],
    ids=["a key", "a number", "none", "a list", "no object", "cut off", "a deep list", "a deep object"],
)
def test_a_key_or_none(arguments: str, key: str) -> None:
    assert _key_of(FunctionCall(call_id="c", response_id="r", name="choose", arguments=arguments)) == key


def test_another_function_chooses_nothing() -> None:
    assert not _key_of(FunctionCall(call_id="c", response_id="r", name="hang_up", arguments='{"key": "1"}'))
