"""The configuration: the example is whole and true, and every mistake names file, line, key and mend."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from sipagent import secretfiles, switch
from sipagent.config import Settings, load
from sipagent.errors import ConfigError, ToolError

EXAMPLE = Path(__file__).parents[1] / "sipagent.example.toml"
GOOD = """
[agents.reception]
instructions = "Be kind."

[numbers]
"100" = "reception"
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(__import__("os").environ):
        if name.startswith(("SIPAGENT_", "XAI_", "CREDENTIALS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    file = Path("sipagent.toml")
    file.write_text(text)
    return file


def test_the_example_is_well_formed_and_its_commented_values_are_the_defaults() -> None:
    plain = load(EXAMPLE)
    text = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", EXAMPLE.read_text())
    text = re.sub(r"(?m)^instructions_file = .*$", "", text)
    uncommented = load(write(text))
    for section in ("asterisk", "realtime", "media", "call", "recording", "control", "standin", "log", "tracing"):
        assert getattr(uncommented, section) == getattr(plain, section), section
    assert uncommented.agents["reception"] == plain.agents["reception"]


def test_the_example_shows_every_key() -> None:
    # Behind "# " stand defaults, behind "#   " examples.
    shown = tomllib.loads(re.sub(r"(?m)^# +([a-z_]+ = |\[[a-z_.]+\])", r"\1", EXAMPLE.read_text()))

    def missing(model: type[BaseModel], table: dict[str, Any], path: str) -> list[str]:
        out = []
        for name, field in model.model_fields.items():
            key = field.alias or name
            inner = next((arg for arg in (field.annotation, *get_args(field.annotation)) if is_section(arg)), None)
            if key not in table:
                out.append(path + key)
            elif inner is not None:
                found = table[key]
                several = found.values() if inner is not field.annotation and isinstance(found, dict) else found
                # Of several tables of a kind it is enough that one shows a key.
                tables = list(several) if inner is not field.annotation and not is_one(found, inner) else [found]
                merged: dict[str, Any] = {}
                for key_of, value in ((k, v) for one in tables for k, v in one.items()):
                    before = merged.get(key_of)
                    merged[key_of] = {**before, **value} if isinstance(before, dict) else value
                out += missing(inner, merged, f"{path}{key}.")
        return out

    def is_section(arg: object) -> bool:
        return isinstance(arg, type) and issubclass(arg, BaseModel)

    def is_one(found: object, model: type[BaseModel]) -> bool:
        """A table of the section itself (an optional one), not of names to such sections."""
        return isinstance(found, dict) and bool(found.keys() & model.model_fields.keys())

    assert [key for key in missing(Settings, shown, "") if key != "folder"] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "[realtime]\nmodle = 'x'\n", ["sipagent.toml:8", "realtime.modle", "did you mean 'model'"]),
        (GOOD + "[agents.b]\ninstructions='x'\ngretting='y'\n", ["sipagent.toml:9", "agents.b.gretting", "'greeting'"]),
        (GOOD + "[control]\nport = 70000\n", ["sipagent.toml:8", "control.port", "70000"]),
        (GOOD + "[nonsense]\nx = 1\n", ["sipagent.toml:7", "nonsense", "unknown key"]),
        (GOOD.replace('= "reception"', '= "nobody"'), ["sipagent.toml:6", "numbers.100", "nobody", "reception"]),
        (GOOD + "[realtime]\nurl = 'ws://example.com/v1'\n", ["sipagent.toml:8", "realtime.url", "wss://"]),
        (GOOD + "[realtime]\nurl = 'http://example.com'\n", ["realtime.url"]),
        (GOOD + "[agents.b]\n", ["sipagent.toml:7", "agents.b", "instructions"]),
        (GOOD + "[agents.b]\ninstructions_file = 'none.md'\n", ["agents.b.instructions_file", "none.md"]),
        (GOOD + "[media]\nports = [15000, 16000]\n", ["sipagent.toml:8", "media.ports", "asterisk.rtp_ports"]),
        ("[agents.a]\ninstructions = 'x'\n", ["no call goes anywhere", "[[routes]]"]),
        ("[agents\n", ["sipagent.toml", "not TOML", "line 1"]),
    ],
)
def test_mistakes_are_named(text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load(write(text))
    for part in told:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phone_user", '"an na"'),
        ("phone_user", '"general"'),
        ("phone_password", '"hunter2;x"'),
        ("rtp_ports", "[900, 1023]"),
        ("rtp_ports", "[10000, 10002]"),
        ("sip_address", '"10.0.0.5; foo"'),
        ("sip_address", '""'),
    ],
)
def test_what_asterisks_files_cannot_hold_is_refused_by_check(key: str, value: str) -> None:
    """And not by `asterisk up` alone, or by Asterisk itself."""
    with pytest.raises(ConfigError, match=rf"sipagent\.toml:8: asterisk\.{key}: ") as error:
        load(write(GOOD + f"[asterisk]\n{key} = {value}\n"))
    assert "hunter2" not in str(error.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        load(write(GOOD + "[realtime]\nmodle = 'x'\n[control]\nprot = 1\n"))
    assert len(str(error.value).splitlines()) == 2


def test_a_long_value_is_shown_as_far_as_it_takes_to_find_it() -> None:
    """Found by `make fuzz`: three thousand characters of it."""
    with pytest.raises(ConfigError) as told:
        load(write(f'[agents.a]\ninstructions = "x"\n[[routes]]\nto = "*"\ngo = "{"x" * 3000}"\n'))
    assert "sipagent.toml:5: routes.0.go: " in str(told.value)
    assert len(str(told.value)) < 300


def test_a_missing_file_points_to_the_example() -> None:
    with pytest.raises(ConfigError, match=r"cp sipagent\.example\.toml"):
        load(Path("nowhere.toml"))


def test_a_wrong_secret_is_never_shown() -> None:
    with pytest.raises(ConfigError) as error:
        load(write(GOOD + "[realtime]\napi_key = ['hunter2']\n"))
    assert "hunter2" not in str(error.value)


def test_environment_over_secrets_over_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "asterisk__password").write_text("from-secrets\n")
    (tmp_path / "secrets" / "asterisk__username").write_text("also-secret")
    monkeypatch.setenv("SIPAGENT_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("SIPAGENT_ASTERISK__USERNAME", "from-environment")
    settings = load(write(GOOD + "[asterisk]\npassword = 'from-file'\nhttp_port = 8089\n"))
    assert settings.asterisk.password.get_secret_value() == "from-secrets"
    assert settings.asterisk.username == "from-environment"
    assert settings.asterisk.http_port == 8089


def test_generated_passwords_stay_under_the_secrets_that_were_handed_to_us(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secretfiles.ensure(tmp_path / ".run")
    (tmp_path / "handed").mkdir()
    (tmp_path / "handed" / "realtime__api_key").write_text("xai-1")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    settings = load(write(GOOD))
    assert len(settings.asterisk.password.get_secret_value()) == 16
    assert settings.realtime.api_key.get_secret_value() == "xai-1"
    (tmp_path / "handed" / "asterisk__password").write_text("theirs")
    assert load(write(GOOD)).asterisk.password.get_secret_value() == "theirs"


def test_a_password_in_the_file_stands_over_the_generated_one(tmp_path: Path) -> None:
    """And so for every reader of the file: Asterisk's configuration, the workers, the phone that the demo shows."""
    generated = secretfiles.ensure(tmp_path / ".run") / "asterisk__phone_password"
    asterisk = switch.asterisk_config(load(write(GOOD + "[asterisk]\npassword = 'written'\nphone_password = ''\n")))
    assert asterisk.ari_password == "written"
    assert asterisk.phone_password == generated.read_text()


def test_what_somebody_put_into_the_run_folder_stands_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = secretfiles.ensure(tmp_path / ".run")
    (folder / "realtime__api_key").write_text("by-hand")
    monkeypatch.setenv("SIPAGENT_SECRETS_DIR", str(folder))
    settings = load(write(GOOD + "[asterisk]\npassword = 'written'\n[realtime]\napi_key = 'from-file'\n"))
    assert settings.realtime.api_key.get_secret_value() == "by-hand"
    assert settings.asterisk.password.get_secret_value() == "written", "the same folder handed to us is no other"


def test_the_keys_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_API_KEY", "xai-123")
    settings = load(write(GOOD))
    assert settings.realtime.api_key.get_secret_value() == "xai-123"
    assert settings.realtime.endpoint == "wss://api.x.ai/v1/realtime"
    assert "xai-123" not in repr(settings)
    assert "xai-123" not in settings.model_dump_json()


def test_a_section_that_is_no_table_is_told_with_the_keys_variable_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_API_KEY", "xai-123")
    with pytest.raises(ConfigError, match=r"sipagent\.toml:1: realtime: a table is needed"):
        load(write("realtime = 3\n" + GOOD))


def test_long_prompts_live_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("You are long.\n")
    settings = load(write(GOOD.replace('instructions = "Be kind."', 'instructions_file = "p.md"')))
    assert settings.agents["reception"].instructions == "You are long."


def test_numbers_are_the_short_form_of_routes() -> None:
    settings = load(write(GOOD + '"*" = "other"\n"*98" = "other"\n[agents.other]\ninstructions = "x"\n'))
    assert [(route.to, str(route.go)) for route in settings.all_routes] == [
        (("100",), "agent:reception"),
        (("*98",), "agent:other"),
        (("*",), "agent:other"),
    ]


def test_a_run_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match=r"/file/run/secrets: Not a directory: run_dir \(SIPAGENT_RUN_DIR\)"):
        secretfiles.ensure(tmp_path / "file" / "run")


def test_secrets_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = secretfiles.ensure(tmp_path / ".run") / "asterisk__password"

    def refused(path: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    text = write(GOOD)
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **b: (refused if path.name == file.name else read)(path, *a, **b)
    )
    with pytest.raises(ConfigError, match=r"asterisk__password: Permission denied"):
        load(text)


@pytest.mark.parametrize("name", ["SIPAGENT_ASTERISK__RTP_PORTS", "SIPAGENT_ROUTES"])
def test_a_variable_that_is_no_json_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, '["hunter2"')
    with pytest.raises(ConfigError, match=f"^{name}: not JSON") as error:
        load(write(GOOD))
    assert "hunter2" not in str(error.value)


def test_generated_passwords_are_private_and_kept(tmp_path: Path) -> None:
    folder = secretfiles.ensure(tmp_path / "run")
    first = (folder / "asterisk__password").read_text()
    assert len(first) == 16
    assert (folder / "asterisk__password").stat().st_mode & 0o77 == 0
    assert folder.stat().st_mode & 0o77 == 0
    secretfiles.ensure(tmp_path / "run")
    assert (folder / "asterisk__password").read_text() == first
