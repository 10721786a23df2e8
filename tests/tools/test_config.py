"""Tools in sipagent.toml: the example shows every key of every kind, and mistakes are named with their line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from sipagent.config import load
from sipagent.config.tools import Tool, schema_of
from sipagent.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "sipagent.example.toml"
START = """
[agents.reception]
instructions = "Be kind."
tools = ["order"]
[numbers]
"100" = "reception"
[tools.order]
kind = "http"
description = "Where it is."
parameters = { order = "Its number." }
"""


def test_the_example_shows_every_key_of_every_kind() -> None:
    shown = tomllib.loads(re.sub(r"(?m)^# +([a-z_]+ = |\[[a-z_.]+\])", r"\1", EXAMPLE.read_text()))["tools"]
    common = set().union(*(table.keys() for table in shown.values() if table["kind"] == "http")) & {
        "timeout_s", "filler", "filler_after_ms", "hold_sound",
    }  # fmt: skip
    for kind in get_args(get_args(Tool)[0]):
        (name,) = get_args(kind.model_fields["kind"].annotation)
        (table,) = [table for table in shown.values() if table["kind"] == name]
        assert set(kind.model_fields) - common - table.keys() == set(), name


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("url = 'https://h/{nope}'", ["sipagent.toml:7: tools.order: {nope} is neither a parameter nor a variable"]),
        ("url = 'https://{order}/'", ["sipagent.toml:11: tools.order.url: the host stands as it is"]),
        ("url = 'https://h/'\ntimeout = 3", ["sipagent.toml:12: tools.order.timeout", "did you mean 'timeout_s'"]),
        ("url = 'https://h/{secret}'", ["tools.order.secret", "SIPAGENT_TOOLS__ORDER__SECRET", "tools__order__secret"]),
        ("url = 'https://h/'\nsecret = 'hunter2'", ["sipagent.toml:12: tools.order.secret: is never used"]),
        ("url = 'https://h/'\nsecret = ['hunter2']", ["sipagent.toml:12: tools.order.secret"]),
        ("url = 'https://h/'\nfiller = 'file:none.wav'", ["sipagent.toml:12: tools.order.filler", "no recording"]),
        ("url = 'https://h/'\n[tools.hang_up]\nkind = 'python'", ["tools.hang_up", "choose another name"]),
        ("url = 'https://h/'\n[tools.a__b]\nkind = 'python'", ["tools.a__b"]),
        ("url = 'https://h/'\n[tools.b]\nkind = 'htp'", ["sipagent.toml:12: tools.b", "'http', 'python', 'mcp'"]),
        ("url = 'https://h/'\n[agents.b]\ninstructions = 'x'\ntools = ['ordr']", ["toml:14", "no tool 'ordr'"]),
        ("url = 'https://h/'\n[tools.m]\nkind = 'mcp'", ["tools.m.url: give either command or url"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(lines: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sipagent.toml").write_text(START + lines + "\n")
    with pytest.raises(ConfigError) as error:
        load(None)
    for part in told:
        assert part in str(error.value)
    assert "hunter2" not in str(error.value)


def test_secrets_come_from_the_environment_and_the_secrets_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sipagent.toml").write_text(START + "url = 'https://h/'\nheaders = { X-Key = '{secret}' }\n")
    monkeypatch.setenv("SIPAGENT_TOOLS__ORDER__SECRET", "from-environment")
    settings = load(None)
    tool: Any = settings.tools["order"]
    assert tool.secret.get_secret_value() == "from-environment"
    assert tool.url == "https://h/"
    assert "from-environment" not in settings.model_dump_json()
    monkeypatch.delenv("SIPAGENT_TOOLS__ORDER__SECRET")
    (tmp_path / "tools__order__secret").write_text("from-file")
    monkeypatch.setenv("SIPAGENT_SECRETS_DIR", str(tmp_path))
    tool = load(None).tools["order"]
    assert tool.secret.get_secret_value() == "from-file"


def test_the_short_form_of_parameters() -> None:
    assert schema_of({"order": "The number: digits", "count?": "integer: How many"}) == {
        "type": "object",
        "properties": {
            "order": {"type": "string", "description": "The number: digits"},
            "count": {"type": "integer", "description": "How many"},
        },
        "required": ["order"],
        "additionalProperties": False,
    }
