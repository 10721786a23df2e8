"""The timeline of a call, in words and as a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from sipagent import model
from sipagent.model import Role
from sipagent.records import database, picture, report
from sipagent.records.store import Store
from tests.records.conftest import tables_in
from tests.records.talk import call, kept

SVG = "{http://www.w3.org/2000/svg}"


async def recorded(folder: Path, events: list[model.CallEvent]) -> dict[str, Any]:
    store = Store(database.engine_for(f"sqlite+aiosqlite:///{folder}/r.db"))
    await tables_in(store)
    await store.apply(kept(events), 0)
    record = await store.call(events[0].call_id)
    await store.aclose()
    assert record is not None
    return record


@pytest_asyncio.fixture
async def record(tmp_path: Path) -> dict[str, Any]:
    return await recorded(tmp_path, call())


def lane(drawn: report.Timeline, name: str) -> list[tuple[float, float, str, bool]]:
    spans = [span for span in drawn.spans if span.lane == name]
    return [(round(span.start, 2), round(span.end, 2), span.text, span.guessed_end) for span in spans]


async def test_who_spoke_when(record: dict[str, Any]) -> None:
    drawn = report.timeline(record)
    assert drawn.length == 30.0
    assert lane(drawn, "caller") == [
        # The end is measured by the answer's latency, the beginning by the first words heard or their length.
        (3.47, 5.0, "Where is my order 4711?", False),
        # They broke in: 60 ms before the agent fell silent.
        (7.94, 9.3, "Give me your boss.", False),
    ]
    assert lane(drawn, "agent") == [
        (0.5, 2.23, "Hello, how can I help you?", True),
        (6.5, 8.0, "It is on its way", False),
        (10.0, 10.4, "", True),
    ]
    assert lane(drawn, "tool") == [(5.2, 5.7, "order_status", False)]
    assert [(wait.number, round(wait.ms)) for wait in drawn.waits] == [(2, 1500), (3, 700)]
    assert [(mark.at, mark.kind) for mark in drawn.marks if mark.kind in {"barge-in", "transfer", "end"}] == [
        (8.0, "barge-in"), (12.0, "transfer"), (20.0, "transfer"), (30.0, "end"),
    ]  # fmt: skip


async def test_in_words(record: dict[str, Any]) -> None:
    text = report.text(report.timeline(record))
    for line in (
        "+442079460123 → 100   2026-09-21 14:13:20 UTC   c1",
        "  result            success (caller_hangup)",
        "  answers after     1.10 s, at most 1.50 s",
        "      6.50  agent       [after 1.50 s: detection 500, model 960, network 30, own 10] It is on its way",
        "      8.00  barge-in    1500 ms of it heard, silent 60 ms after the onset (by speech)",
        "      5.20  tool        order_status: 500 ms",
        "     30.00  end         caller_hangup",
    ):
        assert line in text.splitlines()
    assert max(len(line) for line in text.splitlines() if "▆" in line or "█" in line) <= 90


async def test_as_a_picture(record: dict[str, Any]) -> None:
    root = ET.fromstring(picture.svg(report.timeline(record)))
    assert root.tag == f"{SVG}svg"
    words = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    for expected in ("+442079460123 → 100", "1.50 s", "700 ms", "order_status", "success (caller_hangup)", "4.20"):
        assert expected in words
    told = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert "0:06 agent: It is on its way" in told
    assert any(title.startswith("0:08 barge-in: 1500 ms of it heard") for title in told)
    bars = [float(bar.get("width", "0")) for bar in root.iter(f"{SVG}rect")]
    assert all(width > 0 for width in bars)


async def test_when_the_events_are_gone_the_rows_still_tell_it(record: dict[str, Any]) -> None:
    whole = report.timeline(record)
    del record["history"]["events"]
    drawn = report.timeline(record)
    assert lane(drawn, "agent") == lane(whole, "agent")
    assert [wait.ms for wait in drawn.waits] == [wait.ms for wait in whole.waits]
    picture.svg(drawn)


async def test_a_call_of_which_hardly_anything_is_known(tmp_path: Path) -> None:
    record = await recorded(tmp_path, call()[-1:])
    ET.fromstring(picture.svg(report.timeline(record)))
    assert "end         caller_hangup" in report.text(report.timeline(record))


async def test_a_call_that_still_lasts(tmp_path: Path) -> None:
    record = await recorded(tmp_path, call()[:14])
    ET.fromstring(picture.svg(report.timeline(record)))
    assert "  state             live" in report.text(report.timeline(record))


async def test_what_people_say_is_not_the_pictures_markup(tmp_path: Path) -> None:
    nasty = '</text><script>alert(1)</script> & "quotes" <b>'
    events = call(caller=nasty)
    events.insert(7, model.Transcript(call_id="c1", at=events[0].at + 5, role=Role.CALLER, item_id="x", text=nasty))
    root = ET.fromstring(picture.svg(report.timeline(await recorded(tmp_path, events))))
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter("script"))


@pytest.mark.parametrize("length", [0.0, 0.3, 14.9, 15.0, 121.0, 3600.0, 7300.0])
async def test_short_and_long_calls_fit(tmp_path: Path, length: float) -> None:
    record = await recorded(tmp_path, call())
    record["duration"] = length
    drawn = report.timeline(record)
    root = ET.fromstring(picture.svg(drawn))
    assert float(root.get("height", "0")) < 3000
    assert all(0 <= span.start <= span.end <= length for span in drawn.spans)
    assert len(report.text(drawn).splitlines()) < 90


@given(
    st.lists(st.tuples(st.floats(0, 60), st.sampled_from("abc"), st.integers(0, 5)), max_size=30).map(sorted),
    st.floats(0, 60),
)
def test_no_order_of_things_breaks_it(happenings: list[tuple[float, str, int]], length: float) -> None:
    """Late transcripts, clocks that jump, tools that never return."""
    iso = "2026-09-21T14:13:20.000000Z"
    zero = report.moment(iso)
    history: dict[str, Any] = {"turns": [], "transcript": [], "tools": [], "events": []}
    for number, (at, kind, item) in enumerate(happenings):
        if kind == "a":
            history["turns"].append(
                {"number": number, "item_id": str(item), "at": zero + at, "latency_ms": item * 900.0 if item else None,
                 "detection_ms": None, "model_ms": item * 100.0, "network_ms": None, "own_ms": 1.0,
                 "cut_at": zero + at + item if item % 2 else None, "played_ms": 5, "stop_ms": None, "cut_by": "model"}
            )  # fmt: skip
        elif kind == "b":
            role = "caller" if item % 2 else "agent"
            history["transcript"].append(
                {"item_id": str(item), "at": zero + at, "role": role, "text": "x" * item * 9, "cut": False}
            )
        else:
            history["tools"].append(
                {"at": zero + at, "name": "t", "duration_ms": None, "returned_at": None, "ok": None}
            )  # fmt: skip
    names = ("result", "fault", "reason", "agent", "route", "trunk", "src", "dst")
    record = dict.fromkeys(names, "") | dict.fromkeys(
        ("setup_ms", "first_audio_ms", "latency_avg_ms", "latency_max_ms", "mos")
    )
    record |= {"id": "c", "state": "live", "start": iso, "duration": length, "barge_ins": 0, "history": history}
    drawn = report.timeline(record)
    ET.fromstring(picture.svg(drawn))
    assert report.text(drawn)


SEEN_OTHERWISE = {
    # In the head, as spans or in the turns; or of no interest in a picture.
    "call_started", "call_routed", "call_ended", "session_opened", "session_closed", "agent_spoke", "barge_in",
    "transcript", "tool_called", "tool_returned", "step_retried", "recording_ended",
}  # fmt: skip


def test_every_event_is_in_the_timeline_or_said_here_to_be_seen_otherwise() -> None:
    tags = {kind.__struct_config__.tag for kind in get_args(model.CallEvent)}
    assert tags == set(report._TOLD) | SEEN_OTHERWISE


@pytest.mark.parametrize("kind", get_args(model.CallEvent), ids=lambda kind: kind.__name__)
def test_what_it_says_of_an_event_names_fields_that_it_has(kind: type[msgspec.Struct]) -> None:
    _, template = report._TOLD.get(str(kind.__struct_config__.tag), ("", ""))
    named = {name.split(":")[0] for _, name, _, _ in Formatter().parse(template) if name}
    assert named <= {field.name for field in msgspec.structs.fields(kind)}
