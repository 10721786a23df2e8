"""What only the whole file shows: destinations that are not there, loops, routes that nobody reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sipagent import patterns
from sipagent.config.destinations import ALONE, Destination
from sipagent.config.ivr import Text
from sipagent.config.routes import Route
from sipagent.config.tool_policy import tool_problems
from sipagent.numbers import MAX_EXTENSION, Kind, Number

if TYPE_CHECKING:
    from sipagent.config.settings import Settings

Path = tuple[str | int, ...]
CALL_VARIABLES = frozenset({"caller", "called", "original_called", "trunk", "digits", "language"})
"""Known of every call; [variables] and the digits of [collects] come on top."""
PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_DIALLABLE = re.compile(r"[0-9A-Za-z+*#._-]*")
_SPOKEN = ("prompt", "no_input", "invalid", "confirmation", "greeting")
_TABLE_OF = {
    "agent": "agents",
    "menu": "menus",
    "announcement": "announcements",
    "collect": "collects",
    "queue": "queues",
    "voicemail": "mailboxes",
    "messages": "mailboxes",
    "dial": "dials",
}
_KEPT_BY_ASTERISK = ("queue", "dial", "voicemail")
"""Kinds in which a caller may stay when no process of ours is left."""
BUILT_IN = frozenset({*_TABLE_OF, *ALONE, "reject", "language"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, and where."""

    where: Path
    what: str


def problems(settings: Settings) -> Iterator[Problem]:
    """Everything that does not hang together, in the order of the file's kinds."""
    for where, destination in walk(settings):
        if what := _wrong_with(destination, where, settings):
            yield Problem(where, what)
    yield from _routes(settings)
    yield from _queues(settings)
    yield from _others(settings)
    yield from _transfers(settings)
    yield from _outward(settings)
    yield from _prompts(settings)
    yield from _loops(settings)
    for where, what in tool_problems(settings, CALL_VARIABLES):
        yield Problem(where, what)
    if settings.call.operator == "operator":
        yield Problem(("call", "operator"), "the operator cannot be the operator")
    if (place := _meant(settings.control.drain_to, settings)) and place.kind not in _KEPT_BY_ASTERISK:
        kinds = ", ".join(f"{kind}:" for kind in _KEPT_BY_ASTERISK)
        yield Problem(("control", "drain_to"), f"{place} ends with us: it takes {kinds}, where Asterisk has the caller")


def walk(value: Any, where: Path = ()) -> Iterator[tuple[Path, Destination]]:
    """Every destination in the configuration, with its place."""
    if isinstance(value, Destination):
        yield where, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from walk(getattr(value, name), (*where, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, (*where, str(key)))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from walk(item, (*where, index))


def _wrong_with(destination: Destination, where: Path, settings: Settings) -> str:
    kind, name = destination.kind, destination.name
    in_a_menu = where[0] == "menus" and "keys" in where
    if kind in {"repeat", "back", "language"} and not in_a_menu:
        return f"{kind!r} means something for the keys of a menu only"
    if kind == "operator" and settings.call.operator is None:
        return "there is no operator: set [call] operator"
    if kind == "dial" and "@" in name:
        number, _, trunk = name.rpartition("@")
        if not number:
            return f"{destination}: which number? As dial:401@{trunk}"
        if not _DIALLABLE.fullmatch(number.replace("{digits}", "")):
            return f"{number!r} cannot be dialled: digits, +, * and #, a name, or {{digits}}"
        bounded = where[2:3] == ("keys",) and patterns.bounds(str(where[-1]))
        if "{digits}" in number and not bounded and not settings.dial_policy.allow:
            return (
                f"callers could dial any number by {str(where[-1])!r}: bound it by a menu's key (_4XX), or list in "
                "dial_policy.allow what may be dialled"
            )
        return "" if trunk in settings.endpoints else _nobody("trunk", trunk, settings.endpoints)
    if table := _TABLE_OF.get(kind):
        known = getattr(settings, table)
        if name not in known:
            return _nobody(kind, name, known)
        if kind == "messages" and not settings.mailboxes[name].pin.get_secret_value():
            return f"mailbox {name!r} has no pin, so nobody may listen to it by phone"
        return ""
    if kind == "language" and not any(name.split("-")[0] == spoken.split("-")[0] for spoken in _languages(settings)):
        return f"nothing is written in the language {name!r}; there is {', '.join(sorted(_languages(settings)))}"
    if kind in BUILT_IN:
        return ""
    if kind in settings.steps:
        return "" if name in settings.steps[kind] else _nobody(kind, name, settings.steps[kind])
    return f"there is no step {kind!r}: {', '.join(sorted(_TABLE_OF))}, {', '.join(sorted(BUILT_IN - set(_TABLE_OF)))}"


def _languages(settings: Settings) -> set[str]:
    """Every language that something is written in."""
    found = {settings.call.language}
    for entries in (settings.menus, settings.announcements, settings.collects, settings.mailboxes):
        for entry in entries.values():
            texts = (getattr(entry, field, "") for field in _SPOKEN)
            found.update(language for text in texts if isinstance(text, dict) for language in text)
    return found


def _nobody(kind: str, name: str, known: Any) -> str:
    return f"no {kind} {name!r}; there is {', '.join(sorted(known)) or 'none'}"


def _routes(settings: Settings) -> Iterator[Problem]:
    if not settings.all_routes:
        yield Problem((), "no call goes anywhere: give [[routes]], or [numbers] as the short form of them")
    for number, agent in settings.numbers.items():
        if agent not in settings.agents:
            yield Problem(("numbers", number), _nobody("agent", agent, settings.agents))
    for index, route in enumerate(settings.routes):
        for trunk in route.trunk:
            if trunk not in settings.endpoints:
                yield Problem(("routes", index, "trunk"), _nobody("trunk", trunk, settings.endpoints))
        if route.from_file and not (settings.folder / route.from_file).is_file():
            yield Problem(("routes", index, "from_file"), f"there is no file {settings.folder / route.from_file}")
        hours = route.hours.removeprefix("!")
        if hours and hours not in settings.hours:
            yield Problem(("routes", index, "hours"), _nobody("hours", hours, settings.hours))
        for earlier, other in enumerate(settings.routes[:index]):
            if shadows(other, route):
                name = other.name or f"number {earlier + 1}"
                yield Problem(("routes", index), f"is never reached: route {name} before it takes all of its calls")
                break


def shadows(first: Route, second: Route) -> bool:
    """Does `first` surely take every call that `second` means?"""
    return (
        (not first.trunk or bool(second.trunk and set(second.trunk) <= set(first.trunk)))
        and (not first.to or (bool(second.to) and _all_of(second.to, first.to)))
        and _takes_callers_of(first, second)
        and first.headers.items() <= second.headers.items()
        and first.hours in {"", second.hours}
    )


def _takes_callers_of(first: Route, second: Route) -> bool:
    """A caller is in the patterns or in the list, and what a list holds is surely in that same list alone."""
    if not (first.caller or first.from_file):
        return True
    if not (second.caller or second.from_file):
        return False
    return second.from_file in {None, first.from_file} and _all_of(second.caller, first.caller)


def _all_of(theirs: tuple[str, ...], mine: tuple[str, ...]) -> bool:
    return all(any(patterns.covers(one, other) for one in mine) for other in theirs)


def _queues(settings: Settings) -> Iterator[Problem]:
    for name, queue in settings.queues.items():
        if name == "general":
            yield Problem(("queues", name), "Asterisk has a section of that name; take another")
        if queue.then == f"queue:{name}":
            yield Problem(("queues", name, "then"), "a queue cannot be what follows it: where do callers go at last?")
        for member in queue.members:
            number, _, endpoint = member.rpartition("@")
            if endpoint not in settings.endpoints:
                yield Problem(("queues", name, "members"), _nobody("phone or trunk", endpoint, settings.endpoints))
            elif endpoint in settings.trunks and _leads_outside(settings.trunks[endpoint].e164(number)):
                yield Problem(
                    ("queues", name, "members"),
                    f"{member!r} leads outside, where Asterisk would ring it unseen by the dial policy: members are "
                    "phones and extensions; others are reached by [dials] or [transfers]",
                )


def _leads_outside(number: Number) -> bool:
    """As the dial policy sees it, but for names, which are no numbers of anybody's."""
    return number.kind is not Kind.NAME and (number.text.startswith("+") or len(number.text) > MAX_EXTENSION)


def _others(settings: Settings) -> Iterator[Problem]:
    for name, hours in settings.hours.items():
        if hours.ics and not (settings.folder / hours.ics).is_file():
            yield Problem(("hours", name, "ics"), f"there is no calendar {settings.folder / hours.ics}")
    for name, dial in settings.dials.items():
        if dial.trunk not in settings.endpoints:
            yield Problem(("dials", name, "trunk"), _nobody("trunk", dial.trunk, settings.endpoints))
    for name, collect in settings.collects.items():
        if collect.variable in CALL_VARIABLES | set(settings.variables):
            yield Problem(("collects", name, "variable"), f"{collect.variable!r} means something else; take another")


def _transfers(settings: Settings) -> Iterator[Problem]:
    for name, agent in settings.agents.items():
        for transfer in agent.transfers:
            if transfer not in settings.transfers:
                yield Problem(("agents", name, "transfers"), _nobody("transfer", transfer, settings.transfers))
        for used in agent.digits:
            if used not in settings.digits:
                yield Problem(("agents", name, "digits"), _nobody("digits", used, settings.digits))
        for used in agent.messages:
            if used not in settings.mailboxes:
                yield Problem(("agents", name, "messages"), _nobody("mailbox", used, settings.mailboxes))
    for name, place in settings.transfers.items():
        if place.to.kind != "dial" and place.how != "dial":
            yield Problem(("transfers", name, "how"), f"{place.how!r} is for phones (dial:...), not for {place.to}")
        if place.how == "refer" and place.to.kind == "dial":
            trunk = _trunk_of(place.to, settings)
            if trunk in settings.trunks and settings.trunks[trunk].refer == "never":
                yield Problem(
                    ("transfers", name, "how"),
                    f"trunk {trunk!r} takes no REFER (trunks.{trunk}.refer); without it the call is dialled",
                )


def _ways_out(where: Path, trunks: tuple[str, ...], settings: Settings) -> Iterator[Problem]:
    for place, name in enumerate(trunks):
        trunk = settings.trunks.get(name)
        if name not in settings.endpoints:
            yield Problem((*where, place), _nobody("trunk", name, settings.endpoints))
        elif trunk and not trunk.hosts and trunk.auth.kind != "accept":
            yield Problem((*where, place), f"trunk {name!r} has no hosts: calls out go nowhere")


def _outward(settings: Settings) -> Iterator[Problem]:
    outbound = settings.outbound
    yield from _ways_out(("outbound", "trunks"), outbound.trunks, settings)
    for name, probe in settings.probes.items():
        yield from _ways_out(("probes", name, "trunks"), probe.trunks, settings)
    if outbound.hours and outbound.hours not in settings.hours:
        yield Problem(("outbound", "hours"), _nobody("hours", outbound.hours, settings.hours))
    for name, supervisor in settings.supervisors.items():
        if supervisor.to.kind != "dial":
            yield Problem(("supervisors", name, "to"), f"a supervisor has a phone (dial:...), {supervisor.to} is none")
    for name, agent in settings.agents.items():
        if agent.may_schedule_callbacks and not outbound.trunks:
            yield Problem(("agents", name, "may_schedule_callbacks"), "by which trunk? Set [outbound] trunks")


def _trunk_of(destination: Destination, settings: Settings) -> str:
    if "@" in destination.name:
        return destination.name.rpartition("@")[2]
    return settings.dials[destination.name].trunk if destination.name in settings.dials else ""


def _prompts(settings: Settings) -> Iterator[Problem]:
    known = CALL_VARIABLES | set(settings.variables) | {collect.variable for collect in settings.collects.values()}
    tables: tuple[tuple[str, Mapping[str, BaseModel]], ...] = (
        ("menus", settings.menus),
        ("announcements", settings.announcements),
        ("collects", settings.collects),
        ("mailboxes", settings.mailboxes),
    )
    for table, entries in tables:
        for name, entry in entries.items():
            for field in _SPOKEN:
                for text in _texts(getattr(entry, field, "")):
                    yield from _prompt((table, name, field), text, known, settings)
    waiting, place = settings.realtime.waiting, set(settings.variables) | {"place"}
    for field in ("say", "place"):
        for text in _texts(getattr(waiting, field)):
            yield from _prompt(("realtime", "waiting", field), text, place, settings)


def _prompt(where: Path, text: str, known: set[str] | frozenset[str], settings: Settings) -> Iterator[Problem]:
    for placeholder in PLACEHOLDER.findall(text):
        if placeholder not in known:
            yield Problem(where, f"{{{placeholder}}} is unknown; there is {', '.join(sorted(known))}")
    if text.startswith("file:") and not (settings.folder / text.removeprefix("file:")).is_file():
        yield Problem(where, f"there is no recording {settings.folder / text.removeprefix('file:')}")


def _texts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text.values())


def _meant(destination: Destination | None, settings: Settings) -> Destination | None:
    return settings.call.operator if destination == "operator" else destination


def _loops(settings: Settings) -> Iterator[Problem]:
    """Steps that follow each other without anybody doing anything, round and round."""
    onward: dict[str, Destination] = {
        **{f"announcement:{name}": step.then for name, step in settings.announcements.items()},
        **{f"menu:{name}": menu.give_up for name, menu in settings.menus.items()},
        **{f"collect:{name}": collect.give_up for name, collect in settings.collects.items()},
    }
    told: set[str] = set()
    for start in onward:
        way = [start]
        while (following := _meant(onward.get(way[-1]), settings)) is not None and str(following) not in way:
            way.append(str(following))
        if following is not None and following not in told:
            round_trip = way[way.index(str(following)) :]
            told.update(round_trip)
            kind, _, name = round_trip[0].partition(":")
            field = "then" if kind == "announcement" else "give_up"
            yield Problem(
                (_TABLE_OF[kind], name, field),
                f"goes round for ever without the caller doing anything: {' -> '.join([*round_trip, round_trip[0]])}",
            )
