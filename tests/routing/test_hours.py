"""Opening hours: weeks, holidays, exceptions, calendars, nights and the switch to summer time."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from sipagent.config.routes import Hours
from sipagent.errors import ConfigError
from sipagent.routing.hours import OpeningHours

LONDON = ZoneInfo("Europe/London")
OFFICE = {"timezone": "Europe/London", "week": {"mon-fri": "09:00-12:00, 13:00-17:30", "sat": "10:00-14:00"}}


def hours(tmp_path: Path = Path(), **changes: object) -> OpeningHours:
    return OpeningHours(Hours(**(OFFICE | changes)), tmp_path)


def at(text: str, zone: ZoneInfo = LONDON) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2026-11-23T08:59", False),
        ("2026-11-23T09:00", True),
        ("2026-11-23T11:59", True),
        ("2026-11-23T12:00", False),
        ("2026-11-23T17:29:59", True),
        ("2026-11-23T17:30", False),
        ("2026-11-28T10:00", True),
        ("2026-11-29T10:00", False),
    ],
)
def test_a_week(when: str, is_open: bool) -> None:
    assert hours().at(at(when)).open == is_open


def test_the_callers_zone_does_not_matter() -> None:
    moment = at("2026-11-23T18:00", ZoneInfo("Asia/Tokyo"))  # 09:00 in London
    assert hours().at(moment).open


def test_summer_time_moves_nothing() -> None:
    """09:00 is 09:00 on both sides of 29 March 2026 and 25 October 2026; in UTC it moves."""
    for day in ("2026-03-27", "2026-03-30", "2026-10-23", "2026-10-26"):
        assert not hours().at(at(f"{day}T08:59")).open
        assert hours().at(at(f"{day}T09:00")).open
    utc = ZoneInfo("UTC")
    assert not hours().at(at("2026-03-27T08:30", utc)).open
    assert hours().at(at("2026-03-30T08:30", utc)).open


def test_the_night_of_the_change_itself() -> None:
    night = hours(week={"sat": "22:00-06:00"})
    # 01:00 to 02:00 does not exist on 29 March 2026, and comes twice on 25 October.
    assert night.at(dt.datetime(2026, 3, 29, 0, 30, tzinfo=dt.UTC)).open
    assert night.at(dt.datetime(2026, 3, 29, 4, 59, tzinfo=dt.UTC)).open
    assert not night.at(dt.datetime(2026, 3, 29, 5, 0, tzinfo=dt.UTC)).open
    for minute in range(0, 120, 10):
        assert night.at(dt.datetime(2026, 10, 25, 0, 0, tzinfo=dt.UTC) + dt.timedelta(minutes=minute)).open
    assert not night.at(dt.datetime(2026, 10, 25, 6, 0, tzinfo=dt.UTC)).open


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    night = hours(week={"fri": "20:00-02:00"}, closed=["2026-11-28"])
    assert night.at(at("2026-11-28T01:00")).open  # Friday's night, though Saturday is closed
    assert not hours(week={"fri": "20:00-02:00"}, closed=["2026-11-27"]).at(at("2026-11-28T01:00")).open


def test_holidays_of_a_country_and_exceptions() -> None:
    english = hours(holidays={"country": "GB", "subdivision": "ENG"}, open={"2026-12-28": "10:00-12:00"})
    assert "Christmas" in english.at(at("2026-12-25T10:00")).why
    assert not english.at(at("2026-08-31T10:00")).open  # a bank holiday in England, not in Scotland
    assert hours(holidays={"country": "GB", "subdivision": "SCT"}).at(at("2026-08-31T10:00")).open
    assert english.at(at("2026-12-28T11:00")).open  # Boxing Day's substitute, open all the same
    assert not english.at(at("2026-12-28T13:00")).open
    assert hours(closed=["2026-11-23"]).at(at("2026-11-23T10:00")).why == "closed on 2026-11-23"


def test_a_calendar_closes(tmp_path: Path) -> None:
    (tmp_path / "closures.ics").write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n"
        "BEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:Staff meeting\r\n"
        "DTSTART;TZID=Europe/London:20261102T100000\r\nDTEND;TZID=Europe/London:20261102T110000\r\n"
        "RRULE:FREQ=WEEKLY;BYDAY=MO\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nUID:2\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:Works outing\r\n"
        "DTSTART;VALUE=DATE:20261126\r\nDTEND;VALUE=DATE:20261127\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    with_calendar = hours(tmp_path, ics="closures.ics")
    assert with_calendar.at(at("2026-11-23T10:30")).why == "closed: Staff meeting"
    assert with_calendar.at(at("2026-11-23T11:00")).open
    assert with_calendar.at(at("2026-11-26T16:00")).why == "closed: Works outing"
    assert with_calendar.at(at("2026-11-27T09:00")).open


def test_a_calendar_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.ics"):
        hours(tmp_path, ics="gone.ics")
    (tmp_path / "bad.ics").write_bytes(b"\xff\x00 nothing")
    with pytest.raises(ConfigError, match=r"bad\.ics"):
        hours(tmp_path, ics="bad.ics")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"week": {"mon": "25:00-26:00"}}, "25:00 is no time of day"),
        ({"week": {"mon": "09:00"}}, "are written"),
        ({"week": {"mon": "09:00-09:00"}}, "no time at all"),
        ({"week": {"mo": "09:00-10:00"}}, "days are mon"),
        ({"week": {"mon-fri": "09:00-10:00", "tue": "09:00-10:00"}}, "tue stands twice"),
        ({"timezone": "London"}, "is no time zone"),
        ({"timezone": "../etc/passwd"}, "is no time zone"),
        ({"holidays": {"country": "XX"}}, "XX"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Hours(**(OFFICE | changes))  # type: ignore[arg-type]
