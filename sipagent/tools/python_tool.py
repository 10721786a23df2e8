"""A tool that is a Python function: its type hints are the schema, and pydantic reads the arguments.

Sync functions run in threads, async ones on the toolbox's loop; neither is ever near the audio. What a function says
by `ToolFailed` the model is told; of any other exception only that there was one, since its text may hold anything.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pydantic
import structlog
from pydantic_core import to_jsonable_python

from sipagent.config.tools import PythonTool
from sipagent.errors import ConfigError
from sipagent.tools import CallFacts, ToolFailed
from sipagent.tools.http_tool import Answer

log = structlog.get_logger()

ENTRY_POINTS = "sipagent.tools"
THREADS = 16
"""Of all sync functions together; one that never returns keeps its thread."""


class PythonRunner:
    """One Python tool, ready to be used."""

    def __init__(self, name: str, tool: PythonTool, threads: ThreadPoolExecutor) -> None:
        """ConfigError when there is no such function, or its hints are no schema."""
        self.name, self._threads = name, threads
        self._function = load(tool.function or name)
        self.description = tool.description or _first_paragraph(self._function)
        if not self.description:
            raise ConfigError(f"description: {name} has none, and the function has no docstring")
        self._facts, self._model = _arguments_of(name, self._function)
        self.parameters = self._model.model_json_schema()
        self.parameters.pop("title", None)

    async def run(self, arguments: Mapping[str, Any], facts: CallFacts) -> Answer:
        """One use. ToolFailed in words for the model."""
        try:
            read = self._model.model_validate(dict(arguments))
        except pydantic.ValidationError as error:
            raise ToolFailed(_explained(error)) from None
        given = {name: getattr(read, name) for name in type(read).model_fields}
        if self._facts:
            given[self._facts] = facts
        try:
            if inspect.iscoroutinefunction(self._function):
                result = await self._function(**given)
            else:
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(self._threads, lambda: self._function(**given))
        except ToolFailed:
            raise
        except Exception as error:  # the operator's code may fail in any way; the talk goes on
            log.exception("python_tool_failed", tool=self.name)
            raise ToolFailed(f"the tool failed ({type(error).__name__})") from None
        output = _as_text(result)
        return Answer(output, len(output.encode(errors="replace")))

    async def close(self) -> None:
        """Nothing to close."""


def load(name: str) -> Callable[..., Any]:
    """The function behind ``module:function`` or an entry point; ConfigError when there is none."""
    module, colon, path = name.partition(":")
    entry = next(iter(importlib.metadata.entry_points(group=ENTRY_POINTS, name=name)), None) if not colon else None
    if entry is None and not colon:
        raise ConfigError(f"function: no package has an entry point {name!r} in {ENTRY_POINTS!r}")
    try:
        function: Any = entry.load() if entry else importlib.import_module(module)
        for part in path.split(".") if colon else ():
            function = getattr(function, part)
    except Exception as error:  # noqa: BLE001 - a module of the operator's may fail in any way
        raise ConfigError(f"function: {name} cannot be loaded: {type(error).__name__}: {error}") from None
    if not callable(function):
        raise ConfigError(f"function: {name} is no function")
    return typing.cast("Callable[..., Any]", function)


def _arguments_of(name: str, function: Callable[..., Any]) -> tuple[str, type[pydantic.BaseModel]]:
    """The parameter that wants `CallFacts`, if any, and a model of the others."""
    hints = typing.get_type_hints(function, include_extras=True)
    facts, fields = "", {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise ConfigError(f"function: parameter {parameter.name} of {name} cannot be given by name")
        if hints.get(parameter.name) is CallFacts:
            facts = parameter.name
            continue
        if parameter.name not in hints:
            raise ConfigError(f"function: parameter {parameter.name} of {name} has no type hint")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    try:
        made: dict[str, Any] = fields
        model = pydantic.create_model(name, __config__=pydantic.ConfigDict(extra="forbid"), **made)
        model.model_json_schema()
    except (pydantic.PydanticUserError, NameError) as error:
        raise ConfigError(f"function: the hints of {name} make no schema: {error}") from None
    return facts, model


def _first_paragraph(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def _explained(error: pydantic.ValidationError) -> str:
    texts = (f"{'.'.join(str(key) for key in item['loc']) or 'arguments'}: {item['msg']}" for item in error.errors())
    return "; ".join(texts)[:400]


def _as_text(result: Any) -> str:
    if isinstance(result, str):
        return result
    if result is None:
        return '{"ok": true}'
    try:
        return json.dumps(to_jsonable_python(result), ensure_ascii=False)
    except ValueError:
        raise ToolFailed("the tool gave back something that cannot be read") from None
