"""What the stand-in says: a script as data, and which line of it answers what. Pure but for reading the file.

A script is TOML: the standing lines and a list of intents, each with the phrases it is known by, a reply, and
perhaps a tool to call. Everything is checked on load, with errors that name file and key. The script answers
a conversation as it stands; it keeps no state of its own.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from sipagent.errors import ConfigError
from sipagent.standin.conversation import Conversation
from sipagent.standin.items import item_text

MAX_REPLY = 2000
"""Characters: about two minutes of flite."""

_WORDS = re.compile(r"[a-z0-9']+")
_PHRASE = re.compile(r"[a-z']+( [a-z']+)*")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer says and calls."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()
    """Tools to call in this response: name and JSON text of the arguments."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the script calls, and how it speaks of the outcome."""

    name: str
    arguments: Mapping[str, object] | str
    """Sent as JSON; `{transcript}` in a string becomes the caller's words. A text is sent as it is, JSON or not."""
    done: str
    """Said after the output; `{key}` becomes that key of the output's JSON object."""
    failed: str
    """Said when the output tells of an error."""
    missing: str
    """Said instead of the reply when the client did not declare the tool."""
    invented: bool = False
    """Called all the same when the client did not declare it, as models do now and then."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Something a caller may want."""

    name: str
    phrases: tuple[str, ...]
    reply: str
    tools: tuple[Tool, ...] = ()
    """All are called in one response."""


@dataclass(frozen=True)
class Script:
    """The whole script."""

    greeting: str
    """A response asked for in an empty conversation."""
    fallback: str
    """Nothing of the script was recognised."""
    nudge: str
    """A response asked for when there is nothing to answer."""
    check_in: str
    """The caller has been silent for `idle_timeout_ms`."""
    intents: tuple[Intent, ...]

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """All phrases of all intents, for the ears' grammar."""
        return tuple(phrase for intent in self.intents for phrase in intent.phrases)

    def intent(self, text: str) -> Intent | None:
        """The intent whose longest phrase stands in the text as whole words; None if none does."""
        padded = f" {' '.join(_WORDS.findall(text.lower()))} "
        found = [
            (len(phrase), -order, intent)
            for order, intent in enumerate(self.intents)
            for phrase in intent.phrases
            if f" {phrase} " in padded
        ]
        return max(found, key=lambda entry: entry[:2])[2] if found else None

    def reply(self, conversation: Conversation, tools: Iterable[str]) -> Reply:
        """The answer to what was said last; `tools` are the names the client has declared."""
        last = next((item for item in reversed(conversation.items) if item.get("role") != "system"), None)
        if last is None:
            return Reply(self.greeting)
        if last["type"] == "function_call_output":
            return self._after_tools(conversation)
        if last.get("role") != "user":
            return Reply(self.nudge)
        text = item_text(last)
        intent = self.intent(text)
        if intent is None:
            return Reply(self.fallback)
        for tool in intent.tools:
            if tool.name not in tools and not tool.invented:
                return Reply(tool.missing)
        return Reply(intent.reply, tuple((tool.name, _fill_arguments(tool.arguments, text)) for tool in intent.tools))

    def _after_tools(self, conversation: Conversation) -> Reply:
        """Of all outputs that came last."""
        outputs = list(takewhile(lambda item: item["type"] == "function_call_output", reversed(conversation.items)))
        said = (self._after(conversation.calls.get(str(one["call_id"]), ""), str(one["output"])) for one in outputs)
        return Reply(" ".join(text for text in reversed(list(said)) if text) or self.nudge)

    def _after(self, name: str, output: str) -> str:
        tool = next((tool for intent in self.intents for tool in intent.tools if tool.name == name), None)
        if tool is None:
            return ""
        try:
            body = json.loads(output)
        except ValueError:
            body = {}
        values = body if isinstance(body, dict) else {}
        bad = values.get("error") or values.get("ok") is False or values.get("success") is False
        return _fill(tool.failed if bad else tool.done, values)


def _fill(template: str, values: Mapping[str, object]) -> str:
    """`{key}` by its value; a key that is not there leaves 'unknown', so that a reply is always speakable."""
    return re.sub(r"\{(\w+)\}", lambda match: str(values.get(match[1], "unknown"))[:200], template)


def _fill_arguments(template: Mapping[str, object] | str, transcript: str) -> str:
    if isinstance(template, str):
        return template

    def fill(value: object) -> object:
        return _fill(value, {"transcript": transcript}) if isinstance(value, str) else value

    return json.dumps({key: fill(value) for key, value in template.items()})


# ---- loading


def load_script(path: Path | None = None) -> Script:
    """Read and check a script; None is the one that ships. ConfigError names file and key."""
    name = str(path) if path is not None else "default.toml of the stand-in"
    try:
        if path is None:
            text = files("sipagent.standin").joinpath("default.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return parse_script(tomllib.loads(text), name)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}. Give the path of a script file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: not TOML: {error}") from error


def parse_script(data: Mapping[str, object], name: str) -> Script:
    """A checked script from parsed TOML; `name` is the file's, for the errors."""
    table = _Table(data, name, "")
    intents = tuple(_intent(entry) for entry in table.tables("intent"))
    script = Script(
        greeting=table.line("greeting"),
        fallback=table.line("fallback"),
        nudge=table.line("nudge"),
        check_in=table.line("check_in"),
        intents=intents,
    )
    table.no_more()
    seen: dict[str, str] = {}
    for intent in intents:
        for phrase in intent.phrases:
            if phrase in seen:
                raise ConfigError(f"{name}: phrase {phrase!r} is in two intents, {seen[phrase]} and {intent.name}")
            seen[phrase] = intent.name
    return script


def _intent(table: _Table) -> Intent:
    name = table.line("name")
    phrases = table.strings("phrases")
    for phrase in phrases:
        if not _PHRASE.fullmatch(phrase):
            raise ConfigError(f"{table.where('phrases')}: {phrase!r} must be lower-case words and spaces only")
    tools = tuple(_tool(body) for body in table.one_or_more("tool"))
    # A tool may be called without a word; an intent without either would be silence.
    reply = table.line("reply", empty=bool(tools))
    table.no_more()
    return Intent(name, phrases, reply, tools)


def _tool(body: _Table) -> Tool:
    tool = Tool(
        name=body.line("name"),
        arguments=body.arguments("arguments"),
        done=body.line("done"),
        failed=body.line("failed"),
        missing=body.line("missing"),
        invented=body.flag("invented"),
    )
    body.no_more()
    return tool


class _Table:
    """A TOML table being read: every key is asked for once, and what is left over is an error."""

    def __init__(self, data: object, file: str, path: str) -> None:
        self._file, self._path = file, path
        if not isinstance(data, dict):
            raise ConfigError(f"{file}: {path or 'the file'} must be a table")
        self._left = dict(data)

    def where(self, key: str) -> str:
        return f"{self._file}: {self._path}{key}"

    def line(self, key: str, *, empty: bool = False) -> str:
        value = self._left.pop(key, "" if empty else None)
        if not isinstance(value, str) or (not value.strip() and not empty) or len(value) > MAX_REPLY:
            raise ConfigError(f"{self.where(key)}: a text of 1 to {MAX_REPLY} characters is needed")
        return " ".join(value.split())

    def strings(self, key: str) -> tuple[str, ...]:
        value = self._left.pop(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
            raise ConfigError(f"{self.where(key)}: a list of one or more texts is needed")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self._left.pop(key, False)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.where(key)}: true or false is needed")
        return value

    def arguments(self, key: str) -> Mapping[str, object] | str:
        value = self._left.pop(key, {})
        if isinstance(value, str):
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where(key)}: a table is needed, or a text that is sent as it is")
        try:
            json.dumps(value)
        except TypeError as error:
            raise ConfigError(f"{self.where(key)}: {error}; use texts, numbers and booleans") from error
        return value

    def one_or_more(self, key: str) -> list[_Table]:
        if isinstance(self._left.get(key), list):
            return self.tables(key)
        value = self._left.pop(key, None)
        return [] if value is None else [_Table(value, self._file, f"{self._path}{key}.")]

    def tables(self, key: str) -> list[_Table]:
        value = self._left.pop(key, None)
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{self.where(key)}: one or more [[{key}]] are needed")
        return [_Table(entry, self._file, f"{self._path}{key}[{index}].") for index, entry in enumerate(value, 1)]

    def no_more(self) -> None:
        if self._left:
            key = next(iter(self._left))
            raise ConfigError(f"{self.where(key)}: unknown key; take it out or correct its spelling")
