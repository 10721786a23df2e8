"""Reads sipagent.toml and says what is wrong with it: file, line, key and mend."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_settings import SettingsError

from sipagent.config.base import GENERATED
from sipagent.config.policy import problems
from sipagent.config.settings import Settings
from sipagent.config.tools import KINDS
from sipagent.errors import ConfigError

_KEY_IN_MESSAGE = re.compile(r"([\w.*+#-]+): ")
_PASSWORD_IN_URL = re.compile(r"(?<=//)\S*(?=@)|(?<=password=)[^\s&']+")
SHOWN_CHARS = 80
_SECRET_KEY = re.compile("password|key|secret|auth|pin")


def load(path: Path | None) -> Settings:
    """Read and check the configuration; ConfigError names file, line, key and mend.

    `path` None means `sipagent.toml` here. A secrets folder that does not exist is no error.
    """
    file = path or Path("sipagent.toml")
    text, data = _read(file)
    own = _run_dir(data) / "secrets"
    data.setdefault("folder", str(file.parent))
    try:
        _take_unwritten(own, data)
        settings = Settings(**data, _secrets_dir=[own, *_handed_secrets(own)])
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}: secrets there must be readable for this user") from None
    except SettingsError as error:
        raise ConfigError(
            f"{_named(error)}: not JSON, as lists and tables of the environment are: {error.__cause__}"
        ) from None
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(file, text, item) for item in _told_once(error.errors()))) from None
    found = [_placed(file, text, [str(key) for key in problem.where], problem.what) for problem in problems(settings)]
    if found:
        raise ConfigError("\n".join(found))
    return _with_prompt_files(settings, file)


def run_dir_of(file: Path) -> Path:
    """The run folder a configuration names, before the rest of it is checked: secrets are made there."""
    return _run_dir(_read(file)[1])


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}. Start from the example: cp sipagent.example.toml {file}"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text: {error}") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None


def _run_dir(data: dict[str, Any]) -> Path:
    return Path(os.environ.get("SIPAGENT_RUN_DIR") or str(data.get("run_dir") or ".run"))


def _named(error: SettingsError) -> str:
    """Which variable it is about: pydantic tells no more than the section."""
    text = getattr(error.__cause__, "doc", None)
    return next((name for name, value in os.environ.items() if value == text), str(error))


def _take_unwritten(own: Path, data: dict[str, Any]) -> None:
    """What counts where the file has nothing: the key's own variable, passwords that were made at random."""
    # A section that is no table is not ours to mend: it is told with all the rest.
    realtime, asterisk = (
        table if isinstance(table := data.setdefault(section, {}), dict) else {} for section in ("realtime", "asterisk")
    )
    if os.environ.get("XAI_API_KEY"):
        realtime.setdefault("api_key", os.environ["XAI_API_KEY"])
    for name in GENERATED:
        key = name.removeprefix("asterisk__")
        if not asterisk.get(key) and (own / name).is_file():
            asterisk[key] = (own / name).read_text("utf-8").strip()


def _handed_secrets(own: Path) -> list[Path]:
    """The folders that somebody handed us (later ones win)."""
    named = (os.environ.get("CREDENTIALS_DIRECTORY"), os.environ.get("SIPAGENT_SECRETS_DIR"))
    there = [Path(name) for name in named if name and Path(name).is_dir()]
    return [folder for folder in there if not (own.is_dir() and folder.samefile(own))]


def _with_prompt_files(settings: Settings, file: Path) -> Settings:
    agents = {}
    for name, agent in settings.agents.items():
        if agent.instructions_file is not None:
            prompt = file.parent / agent.instructions_file
            try:
                text = prompt.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file}: agents.{name}.instructions_file: cannot read {prompt}: {error}") from None
            agents[name] = agent.model_copy(update={"instructions": text})
        else:
            agents[name] = agent
    return settings.model_copy(update={"agents": agents})


def _told_once(items: list[Any]) -> list[Any]:
    """Without a list's complaint that it is too short because of what was wrong with its items."""
    places = [item["loc"] for item in items]
    return [
        item for item in items if item["type"] != "too_short" or not any(place[:-1] == item["loc"] for place in places)
    ]


_PLAINLY = {
    "tuple_type": 'a list is needed, as ["one", "two"]',
    "dict_type": "a table is needed, as { key = ... }",
    "model_type": "a table is needed, as { key = ... }",
    "string_type": 'a text is needed, in quotes: "..."',
}
"""pydantic speaks of Python's types; an operator writes TOML."""


def _explain(file: Path, text: str, item: Any) -> str:
    """One pydantic error as: file:line: key: what is wrong. The offending value is shown, unless secret."""
    keys = [str(key) for key in item["loc"]]
    keys = [key for key in keys if key != "[key]"]  # pydantic's own mark for "not the value but its key"
    message = _PLAINLY.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")
    whole_table = item["type"] == "value_error" and not isinstance(item.get("input"), str | int | float)
    if whole_table and (found := _KEY_IN_MESSAGE.match(message)):
        # A check of a whole table says itself which of its keys it means.
        keys += found[1].split(".")
        message = message[found.end() :]
    if keys == ["routes"]:
        message = "routes are written as tables in a list: [[routes]], once for each"
    if item["type"] == "extra_forbidden":
        message = f"unknown key; sipagent.example.toml shows every key of this section{_nearest(keys)}"
    elif item["type"] == "missing":
        message = "is needed; sipagent.example.toml shows how it looks"
    elif isinstance(item.get("input"), str | int | float) and not any(_SECRET_KEY.search(key) for key in keys):
        given = _short(_PASSWORD_IN_URL.sub("***", repr(item["input"])))
        message += f" (it is {given})" if repr(item["input"]) not in message else ""
    return _placed(file, text, keys, message)


def _short(text: str) -> str:
    """As much of a value as somebody needs to find it."""
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def _placed(file: Path, text: str, keys: list[str], message: str) -> str:
    if keys[:1] == ["tools"] and len(keys) > 2 and keys[2] in KINDS:
        keys = [*keys[:2], *keys[3:]]  # pydantic's own word for which kind it has read is no key of the file
    line = _line_of(text, keys)
    return f"{file}{f':{line}' if line else ''}: {'.'.join(keys) or 'file'}: {message}"


def _nearest(keys: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only when something is wrong

    model: Any = Settings
    for key in keys[:-1]:
        model = _inside(model, key)
    close = difflib.get_close_matches(keys[-1], getattr(model, "model_fields", {}), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _inside(model: Any, key: str) -> Any:
    """The type behind a key: a section's field, or what a table of sections or a list of them holds."""
    fields = getattr(model, "model_fields", None)
    if fields is not None:
        by_alias = (field for name, field in fields.items() if key in {name, field.alias})
        field = next(by_alias, None)
        model = field.annotation if field else None
        return _inside(model, "") if _is_optional(model) else model
    values = [arg for arg in get_args(model) if hasattr(arg, "model_fields")]
    if values:
        return values[-1]
    # A table of several kinds of section: after its own name pydantic gives the kind.
    union = next((arg for arg in reversed(get_args(model)) if get_args(arg)), None)
    kinds = [kind for kind in get_args(union) if hasattr(kind, "model_fields")]
    return next((kind for kind in kinds if key in get_args(kind.model_fields["kind"].annotation)), union)


def _is_optional(model: Any) -> bool:
    return type(None) in get_args(model)


def _line_of(text: str, keys: list[str]) -> int | None:
    """Line of a key in the TOML text: by its table header, else the table's own line, else None."""
    best: int | None = None
    table: list[str] = []
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)([^\]]+)\]", line):
            names = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
            table = _with_places(names, counts)
            if table == keys[: len(table)]:
                best = best or number
            if table == keys:
                return number
        elif assignment := re.match(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""", line):
            path = [*table, assignment[1].strip("\"'")]
            if path == keys[: len(path)]:
                return number
    return best


def _with_places(names: tuple[str, ...], counts: dict[tuple[str, ...], int]) -> list[str]:
    """A table's path as pydantic names it: the second [[routes]] is routes.1."""
    out: list[str] = []
    for length, name in enumerate(names, 1):
        out.append(name)
        if names[:length] in counts:
            out.append(str(counts[names[:length]]))
    return out
