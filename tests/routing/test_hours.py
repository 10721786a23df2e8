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


ALL_DAY = "DTSTART;VALUE=DATE:20260116\r\nDTEND;VALUE=DATE:20260117"
FLOATING = "DTSTART:20260116T003000\r\nDTEND:20260116T233000"
IN_TOKYO = "DTSTART;TZID=Asia/Tokyo:20260116T003000\r\nDTEND;TZID=Asia/Tokyo:20260116T023000"


@pytest.mark.parametrize(
    ("zone", "event", "begins", "ends"),
    [
        # A single event of an evening or a morning, in UTC as calendars export it: another date there than here.
        ("America/Los_Angeles", "DTSTART:20260117T010000Z\r\nDTEND:20260117T040000Z", "16T17:00", "16T20:00"),
        ("America/New_York", "DTSTART:20260117T003000Z\r\nDTEND:20260117T013000Z", "16T19:30", "16T20:30"),
        ("Asia/Tokyo", "DTSTART:20260115T230000Z\r\nDTEND:20260115T235000Z", "16T08:00", "16T08:50"),
        ("Asia/Kolkata", "DTSTART:20260115T203000Z\r\nDTEND:20260115T213000Z", "16T02:00", "16T03:00"),
        ("Europe/London", "DTSTART:20260116T010000Z\r\nDTEND:20260116T040000Z", "16T01:00", "16T04:00"),
        ("Europe/Berlin", "DTSTART:20260115T230000Z\r\nDTEND:20260116T230000Z", "16T00:00", "17T00:00"),
        ("America/Los_Angeles", IN_TOKYO, "15T07:30", "15T09:30"),
        # A day and a clock time without a zone are those of the hours, wherever they are.
        ("America/Los_Angeles", ALL_DAY, "16T00:00", "17T00:00"),
        ("Asia/Tokyo", ALL_DAY, "16T00:00", "17T00:00"),
        ("America/Los_Angeles", FLOATING, "16T00:30", "16T23:30"),
        ("Asia/Tokyo", FLOATING, "16T00:30", "16T23:30"),
    ],
)
def test_an_event_closes_at_its_moment_in_any_zone(
    tmp_path: Path, zone: str, event: str, begins: str, ends: str
) -> None:
    (tmp_path / "one.ics").write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTAMP:20260101T000000Z\r\n"
        f"{event}\r\nSUMMARY:Stock-taking\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    shop = hours(tmp_path, timezone=zone, week={"mon-sun": "00:00-24:00"}, ics="one.ics")
    begin, end = (at(f"2026-01-{moment}", ZoneInfo(zone)) for moment in (begins, ends))
    a_minute = dt.timedelta(minutes=1)
    assert [shop.at(when).open for when in (begin - a_minute, begin, end - a_minute, end)] == [True, False, False, True]


def test_a_calendar_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.ics"):
        hours(tmp_path, ics="gone.ics")
    (tmp_path / "when.ics").write_text(
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:1\nSUMMARY:x\nEND:VEVENT\nEND:VCALENDAR\n"
    )
    with pytest.raises(ConfigError, match=r"when\.ics: .* an event has no DTSTART"):
        hours(tmp_path, ics="when.ics")
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
