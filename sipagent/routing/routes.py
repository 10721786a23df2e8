"""The first route that fits takes the call, and the reasons for it (core: no I/O, no clock)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sipagent import patterns
from sipagent.config import Settings
from sipagent.config.destinations import Destination
from sipagent.config.routes import Route
from sipagent.errors import ConfigError
from sipagent.routing.hours import OpeningHours


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a call before anybody speaks. Numbers in every form one may write in a route."""

    trunk: str
    called: tuple[str, ...]
    """As dialled, and in E.164 where it is such a number."""
    caller: tuple[str, ...]
    """As it came and in E.164; ("anonymous",) for a caller who hides it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of `Routes.headers`."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One route, and why it is the one or is not."""

    route: str
    fits: bool
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a call goes."""

    go: Destination | None
    """None: no route fits."""
    route: str
    looked: tuple[Looked, ...]
    """Every route up to the one that took it."""
    record: bool = False
    """The route has its calls recorded."""
    at_once: int = 0
    """Calls of the route that may be up at the same time; 0: no limit."""
    full: Destination | None = None
    """Where the others go."""


class Routes:
    """All of [[routes]], with their lists and calendars read. ConfigError when one cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self._routes = settings.all_routes
        self._hours = {name: OpeningHours(hours, settings.folder) for name, hours in settings.hours.items()}
        self._lists = {route.from_file: NumberList(_list(settings.folder / route.from_file))
                       for route in settings.routes if route.from_file}  # fmt: skip
        self.headers = tuple(sorted({header for route in settings.routes for header in route.headers}))
        """SIP headers that a route looks at: to be read from the INVITE."""

    def look_ahead(self, at: dt.datetime) -> None:
        """Work out today and tomorrow of every calendar: a loop that has calls has no time for the first who asks."""
        for hours in self._hours.values():
            hours.at(at)
            hours.at(at + dt.timedelta(days=1))

    def decide(self, facts: Facts, at: dt.datetime) -> Decision:
        """The first that fits; `at` knows its time zone."""
        looked: list[Looked] = []
        for number, route in enumerate(self._routes, 1):
            name = route.name or f"number {number}"
            against = self._against(route, facts, at)
            looked.append(Looked(name, not against, against or self._for(route, at)))
            if not against:
                return Decision(route.go, name, tuple(looked), route.record, route.at_once, route.full)
        return Decision(None, "", tuple(looked))

    def _for(self, route: Route, at: dt.datetime) -> str:
        hours = route.hours.removeprefix("!")
        return f"goes to {route.go}" + (f"; {self._hours[hours].at(at).why}" if hours else "")

    def _against(self, route: Route, facts: Facts, at: dt.datetime) -> str:
        """The first thing that speaks against a route."""
        if route.trunk and facts.trunk not in route.trunk:
            return f"is for calls from {', '.join(route.trunk)}, not from {facts.trunk or 'nowhere'}"
        if route.to and not _any(route.to, facts.called):
            return f"is for {', '.join(route.to)}, not for {' or '.join(facts.called)}"
        listed = route.from_file is not None and self._lists[route.from_file].has(facts.caller)
        if (route.caller or route.from_file) and not (listed or _any(route.caller, facts.caller)):
            shown = ", ".join((*route.caller, *([str(route.from_file)] if route.from_file else [])))
            return f"is for callers of {shown}, not {' or '.join(facts.caller)}"
        for header, expression in route.headers.items():
            if not re.search(expression, facts.headers.get(header, "")):
                return f"wants {header} to match {expression!r}, it is {facts.headers.get(header, '')!r}"
        return self._hours_against(route.hours, at)

    def _hours_against(self, name: str, at: dt.datetime) -> str:
        if not name:
            return ""
        verdict = self._hours[name.removeprefix("!")].at(at)
        return "" if verdict.open != name.startswith("!") else f"is for {name}: {verdict.why}"


class NumberList:
    """Many patterns: of whole numbers, which most lists are made of, any number takes no time."""

    def __init__(self, wanted: Iterable[str]) -> None:
        whole, others = set[str](), list[str]()
        for pattern in wanted:
            if patterns.is_whole(pattern):
                whole.add(pattern)
            else:
                others.append(pattern)
        self._whole, self._others = frozenset(whole), tuple(map(patterns.compiled, others))

    def has(self, numbers: Iterable[str]) -> bool:
        """One of the forms of a number is meant."""
        return any(
            number in self._whole or any(pattern.fullmatch(number) for pattern in self._others) for number in numbers
        )


def _any(wanted: tuple[str, ...], numbers: tuple[str, ...]) -> bool:
    return any(patterns.matches(pattern, number) for pattern in wanted for number in numbers)


def _list(file: Path) -> tuple[str, ...]:
    """Patterns of a list file, one a line."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        pattern = line.partition("#")[0].strip()
        if not pattern:
            continue
        try:
            patterns.compiled(pattern)
        except ValueError as error:
            raise ConfigError(f"{file}:{number}: {error}") from None
        found.append(pattern)
    return tuple(found)
