"""Tokens: told once, kept as hashes in a file of the user's own, known and forgotten at once."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sipagent.cli import app
from sipagent.control.scopes import Scope
from sipagent.control.tokens import PREFIX, Tokens
from sipagent.errors import ToolError

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)


def test_the_token_itself_is_kept_nowhere(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    secret = tokens.create("wallboard", Scope.VIEWER, NOW)
    assert secret.startswith(PREFIX)
    assert len(bytes.fromhex(secret.removeprefix(PREFIX))) == 32
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.removeprefix(PREFIX).encode() not in kept
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_who_it_is(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    made = {name: tokens.create(name, Scope.OPERATOR, NOW) for name in ("anna", "bert")}
    for name, secret in made.items():
        found = tokens.find(secret, NOW)
        assert found is not None
        assert (found.name, found.scope) == (name, "operator")
    for wrong in ("", PREFIX, made["anna"][:-1], made["anna"] + "0", made["anna"].upper()):
        assert tokens.find(wrong, NOW) is None


def test_another_process_sees_a_change_at_once(tmp_path: Path) -> None:
    cli, node = Tokens(tmp_path), Tokens(tmp_path)
    assert node.all() == []
    secret = cli.create("anna", Scope.ADMIN, NOW)
    assert node.find(secret, NOW)
    cli.revoke("anna")
    assert node.find(secret, NOW) is None
    assert node.find(cli.create("anna", Scope.VIEWER, NOW), NOW)


def test_one_that_has_expired_is_worth_nothing(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    secret = tokens.create("guest", Scope.VIEWER, NOW, expires=NOW + dt.timedelta(days=1))
    assert tokens.find(secret, NOW + dt.timedelta(hours=23))
    assert tokens.find(secret, NOW + dt.timedelta(days=1)) is None


def test_names(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    for name in ("", "Anna", "no login", "../x", "a" * 41, "a\n"):
        with pytest.raises(ToolError, match="is no name"):
            tokens.create(name, Scope.VIEWER, NOW)
    tokens.create("anna", Scope.VIEWER, NOW)
    with pytest.raises(ToolError, match="already"):
        tokens.create("anna", Scope.ADMIN, NOW)
    with pytest.raises(ToolError, match="there is no token"):
        tokens.revoke("bert")


def test_two_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(12)]
    threads = [
        threading.Thread(target=Tokens(tmp_path).create, args=(name, Scope.VIEWER, NOW), daemon=True) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(token.name for token in Tokens(tmp_path).all()) == sorted(names)
    assert {file.name for file in tmp_path.iterdir()} == {"tokens.json", "tokens.lock"}


def test_a_file_that_is_damaged_lets_nobody_in_and_is_not_written_over(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    secret = tokens.create("anna", Scope.ADMIN, NOW)
    tokens.path.write_text("[{]")
    assert Tokens(tmp_path).find(secret, NOW) is None
    with pytest.raises(ToolError, match="cannot be read"):
        tokens.create("bert", Scope.ADMIN, NOW)
    assert tokens.path.read_text() == "[{]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make them for another")
def test_those_that_root_makes_are_the_nodes(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    Tokens(tmp_path).create("anna", Scope.VIEWER, NOW)
    assert {(file.stat().st_uid, file.stat().st_gid) for file in tmp_path.iterdir()} == {(12345, 12346)}


def test_a_folder_that_is_not_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="are you the node's user"):
        Tokens(tmp_path / "none").create("anna", Scope.VIEWER, NOW)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIPAGENT_RUN_DIR", str(tmp_path / "run"))
    file = tmp_path / "sipagent.toml"
    file.write_text('[agents.a]\ninstructions = "x"\n[numbers]\n"*" = "a"\n')

    def sipagent(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["token", *arguments, "--config", str(file)])
        return done.exit_code, done.stdout, done.stderr

    code, secret, note = sipagent("create", "prometheus", "--scope", "viewer")
    assert code == 0
    assert "nobody is asked for it yet" in note
    found = Tokens(tmp_path / "run").find(secret.strip(), dt.datetime.now(dt.UTC))
    assert found is not None
    assert (found.name, found.scope, found.expires) == ("prometheus", "viewer", None)
    assert sipagent("create", "guest", "--scope", "admin", "--expires-days", "7")[0] == 0
    listed = json.loads(sipagent("list", "--json")[1])
    assert [(one["name"], one["scope"], one["expired"]) for one in listed] == [
        ("prometheus", "viewer", False), ("guest", "admin", False),
    ]  # fmt: skip
    shown = sipagent("list")[1]
    assert "until" in shown
    assert secret.strip() not in shown + json.dumps(listed)
    assert sipagent("revoke", "prometheus")[0] == 0
    assert [one["name"] for one in json.loads(sipagent("list", "--json")[1])] == ["guest"]
    assert sipagent("create", "odd", "--scope", "root")[0] == 2
