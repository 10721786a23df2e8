"""Opening hours: weekly spans, holidays, exceptions, a calendar; all of it local time (core: no clock).

A span belongs to the day on which it begins, also when it runs past midnight, and a day's exception replaces
all spans of that day. Local clock times are compared, so the switch to summer time moves nothing: 09:00 is
09:00. When a clock time comes twice in autumn, both are in.
"""

from __future__ import annotations

import datetime as dt
import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from sipagent.config.routes import DAYS, Hours, Span
from sipagent.errors import ConfigError

if TYPE_CHECKING:
    from recurring_ical_events import CalendarQuery


class Verdict(NamedTuple):
    """Open or not, and why."""

    open: bool
    why: str


class OpeningHours:
    """One [hours.NAME], ready to be asked. Raises ConfigError when its calendar cannot be read."""

    def __init__(self, hours: Hours, folder: Path) -> None:
        self._hours = hours
        self._zone = ZoneInfo(hours.timezone)
        self._holidays = None
        if hours.holidays is not None:
            import holidays  # noqa: PLC0415 - 30 ms that only those pay who ask for it

            place = hours.holidays
            # Further years are worked out when they are asked for.
            self._holidays = holidays.country_holidays(place.country, subdiv=place.subdivision or None)
        self._calendar = _calendar(folder / hours.ics) if hours.ics else None
        self._closures = functools.lru_cache(maxsize=8)(self._closures_of)

    def at(self, moment: dt.datetime) -> Verdict:
        """Is somebody there? `moment` knows its time zone."""
        local = moment.astimezone(self._zone)
        for begin, end, what in self._closures(local.date()):
            if begin <= moment < end:
                return Verdict(open=False, why=f"closed: {what}")
        day, minutes = local.date(), local.hour * 60 + local.minute
        for past, spans in ((0, self._spans(day)), (24 * 60, self._spans(day - dt.timedelta(days=1)))):
            for first, last in spans:
                # A span that ends below its beginning ends on the next day.
                if first <= minutes + past < (last if first < last else last + 24 * 60):
                    return Verdict(open=True, why=f"open {_clock(first)}-{_clock(last)}, {local:%a %H:%M}")
        return Verdict(open=False, why=self._why_closed(day) or f"closed on {local:%a} at {local:%H:%M}")

    def _spans(self, day: dt.date) -> tuple[Span, ...]:
        hours = self._hours
        if day in hours.open:
            return hours.open[day]
        if self._why_closed(day):
            return ()
        return hours.week.get(DAYS[day.weekday()], ())

    def _why_closed(self, day: dt.date) -> str:
        if day in self._hours.open:
            return ""
        if day in self._hours.closed:
            return f"closed on {day}"
        if self._holidays is not None and day in self._holidays:
            return f"holiday: {self._holidays[day]}"
        return ""

    def _closures_of(self, day: dt.date) -> list[tuple[dt.datetime, dt.datetime, str]]:
        """The calendar's events that touch a local day; worked out once a day, since recurrence takes a millisecond."""
        if self._calendar is None:
            return []
        # Moments of our zone: a bare date would be taken in each event's own, and one written in UTC be missed.
        begin, end = (dt.datetime.combine(d, dt.time(), self._zone) for d in (day, day + dt.timedelta(days=1)))
        found = []
        for event in self._calendar.between(begin, end):
            first, last = self._moment(event.start), self._moment(event.end)
            found.append((first, last, str(event.get("SUMMARY", "calendar"))[:60]))
        return found

    def _moment(self, when: dt.date) -> dt.datetime:
        if not isinstance(when, dt.datetime):
            when = dt.datetime.combine(when, dt.time(), self._zone)
        return when if when.tzinfo else when.replace(tzinfo=self._zone)


def _calendar(file: Path) -> CalendarQuery:
    import icalendar  # noqa: PLC0415 - for those who have a calendar
    import recurring_ical_events  # noqa: PLC0415

    try:
        return recurring_ical_events.of(icalendar.Calendar.from_ical(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: no calendar that can be read: {error}") from None
    except KeyError as missing:
        raise ConfigError(f"{file}: no calendar that can be read: an event has no {missing.args[0]}") from None


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
