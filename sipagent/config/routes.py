"""Which call goes where, and when: `[[routes]]` in order, `[hours.NAME]`."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from sipagent import patterns
from sipagent.config import regular
from sipagent.config.base import Section
from sipagent.config.destinations import Destination

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Minutes = int
"""After midnight, local time; 24:00 is 1440."""
Span = tuple[Minutes, Minutes]
"""From and to; `to` below `from` runs into the next day."""


def _pattern(text: str) -> str:
    patterns.compiled(text)
    return text


def _several(value: object) -> object:
    """One text stands for a list of one."""
    return (value,) if isinstance(value, str) else value


Pattern = Annotated[str, AfterValidator(_pattern)]
Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_several)]


class Route(Section):
    """What is given must all be true; the first route that is wins."""

    name: str = ""
    """For `route-test` and the log; its place in the file otherwise."""
    trunk: Names = ()
    """One of these trunks (or phone accounts)."""
    to: Patterns = ()
    """The number or extension dialled, as it came or in E.164."""
    caller: Patterns = Field(default=(), alias="from")
    """The caller's number, as it came or in E.164; "anonymous" for those who hide it."""
    from_file: Path | None = None
    """A list of callers beside sipagent.toml, one pattern a line, # for remarks."""
    headers: dict[str, str] = {}
    """SIP headers of the INVITE -> regular expression that matches somewhere in it."""
    hours: str = ""
    """Name of [hours.NAME]; "!NAME" outside of them."""
    go: Destination
    at_once: int = Field(default=0, ge=0)
    """Calls of this route that are up at the same time; 0: no limit."""
    full: Destination | None = None
    """Where the others go; None: as [limits] says."""
    record: bool = False
    """Both sides of these calls, after the announcement of [recording]."""

    @field_validator("headers")
    @classmethod
    def _regular(cls, value: dict[str, str]) -> dict[str, str]:
        for header, expression in value.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", header):
                raise ValueError(f"{header!r} is no name of a SIP header")
            regular.checked(expression)
        return value


_WRITTEN = 'opening hours are written "09:00-17:30", several with a comma between'


def _spans(value: object) -> object:
    if isinstance(value, list) and all(isinstance(span, str) for span in value):
        value = ", ".join(value)
    if not isinstance(value, str | tuple | list):
        raise ValueError(_WRITTEN)  # noqa: TRY004 - pydantic takes no TypeError
    if not isinstance(value, str):
        return value
    spans = sorted(_span(text.strip()) for text in value.split(",") if text.strip())
    for (_, last), (first, _) in itertools.pairwise(spans):
        if first < last:
            raise ValueError(f"{value!r}: these hours overlap")
    return tuple(spans)


def _span(text: str) -> Span:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", text)
    if not found:
        raise ValueError(f"{text!r}: {_WRITTEN}")
    first, last = (int(hour) * 60 + int(minute) for hour, minute in (found.group(1, 2), found.group(3, 4)))
    for clock, minutes in ((found[1], found[2]), (found[3], found[4])):
        if int(minutes) > 59 or int(clock) * 60 + int(minutes) > 24 * 60:
            raise ValueError(f"{clock}:{minutes} is no time of day")
    if first == last:
        raise ValueError(f"{text!r} lasts no time at all; all day is 00:00-24:00")
    return first, last


Spans = Annotated[tuple[Span, ...], BeforeValidator(_spans)]


def _days(value: object) -> object:
    """``mon-fri`` and ``sat,sun`` are spread over the days they mean."""
    if not isinstance(value, dict):
        return value
    week: dict[str, object] = {}
    for key, spans in value.items():
        for part in str(key).lower().replace(" ", "").split(","):
            first, _, last = part.partition("-")
            if first not in DAYS or (last and last not in DAYS):
                raise ValueError(f'{key!r}: days are {", ".join(DAYS)}, or a run of them as "mon-fri"')
            start, end = DAYS.index(first), DAYS.index(last or first)
            for day in DAYS[start : end + 1] if start <= end else (*DAYS[start:], *DAYS[: end + 1]):
                if day in week:
                    raise ValueError(f"{day} stands twice")
                week[day] = spans
    return week


class Holidays(Section):
    """Public holidays: closed all day."""

    country: str
    """ISO 3166-1, as "GB"."""
    subdivision: str = ""
    """ISO 3166-2 without the country, as "ENG"."""


class Hours(Section):
    """When somebody is there."""

    timezone: str
    """As "Europe/London"; the switch to summer time is its business."""
    week: Annotated[dict[str, Spans], BeforeValidator(_days)]
    holidays: Holidays | None = None
    closed: tuple[dt.date, ...] = ()
    """Further days, as "2026-12-24"."""
    open: dict[dt.date, Spans] = {}
    """Days with hours of their own, also holidays: "2026-12-24" = "09:00-12:00"."""
    ics: Path | None = None
    """A calendar beside sipagent.toml: closed while one of its events lasts."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, OSError, ValueError):
            raise ValueError(f'{value!r} is no time zone; they are named as "Europe/London"') from None
        return value

    @field_validator("holidays")
    @classmethod
    def _celebrated(cls, value: Holidays | None) -> Holidays | None:
        if value is not None:
            import holidays  # noqa: PLC0415 - 30 ms that only those pay who ask for it

            try:
                holidays.country_holidays(value.country, subdiv=value.subdivision or None, years=2026)
            except NotImplementedError as error:
                raise ValueError(str(error).split(". ")[0]) from None
        return value
