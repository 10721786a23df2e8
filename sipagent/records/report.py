"""One call as a timeline: who spoke when, who waited for what (core: a record in, a `Timeline` or text out).

The record is what `store.call` gives. The beginning of what the agent says is measured, so is the end where the caller
broke in; the end of what the caller says is, where the agent answered it. The rest is told by the words: how long
it takes to say them. Such an end is marked as guessed, and the picture fades there. Without events (they are kept for
a shorter time) the rows of turns, words and tools still make the timeline; steps and holds are missing then.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Literal

Lane = Literal["caller", "agent", "tool"]
SECONDS_A_CHARACTER = 1 / 15
"""Of unhurried speech, in several languages."""
BREATH_S = 0.3
"""A transcript that comes so long before the end of the speech still belongs to it."""
STRIP = 72
"""Characters of a line of the text's picture."""


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted, in seconds from the start of the call."""

    lane: Lane
    start: float
    end: float
    text: str
    guessed_end: bool = False
    cut: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """The caller had finished and waited for the agent; the shares are None where the model did not tell enough."""

    number: int
    start: float
    end: float
    ms: float
    """The whole of it."""
    shares_ms: Mapping[str, float | None]
    """detection, model, network, own"""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a moment."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A call, ready to be drawn."""

    record: Mapping[str, Any]
    length: float
    spans: Sequence[Span]
    waits: Sequence[Wait]
    marks: Sequence[Mark]

    @property
    def title(self) -> str:
        """Who called whom."""
        return f"{self.record['src'] or 'anonymous'} \N{RIGHTWARDS ARROW} {self.record['dst'] or '?'}"

    @property
    def facts(self) -> Iterator[tuple[str, str]]:
        """What stands over the picture: names and values."""
        record = self.record
        yield "state", record["state"]
        if record["result"]:
            fault = "" if record["fault"] in {"", "none"} else f", fault: {record['fault']}"
            yield "result", f"{record['result']} ({record['reason']}{fault})"
        yield "lasted", seconds(self.length)
        if record["setup_ms"] is not None:
            yield "answered after", milliseconds(record["setup_ms"])
        if record["first_audio_ms"] is not None:
            yield "first word after", milliseconds(record["first_audio_ms"])
        if record["latency_avg_ms"] is not None:
            yield (
                "answers after",
                f"{milliseconds(record['latency_avg_ms'])}, at most {milliseconds(record['latency_max_ms'])}",
            )
        yield "interrupted", str(record["barge_ins"])
        if record["mos"] is not None:
            yield "MOS", f"{record['mos']:.2f}"
        for name in ("agent", "route", "trunk"):
            if record[name]:
                yield name, record[name]


def timeline(record: Mapping[str, Any]) -> Timeline:
    """What the record tells, in order of time."""
    zero = moment(record["start"])
    history = record["history"]
    events = [(moment(event["at"]) - zero, event) for event in history.get("events", ())]
    turns = [{**turn, "at": moment(turn["at"]) - zero} for turn in history["turns"]]
    for turn in turns:
        turn["cut_at"] = None if turn["cut_at"] is None else moment(turn["cut_at"]) - zero
    said = [{**words, "at": moment(words["at"]) - zero} for words in history["transcript"]]
    tools = [_tool(tool, zero) for tool in history["tools"]]
    known = [turn["at"] for turn in turns] + [words["at"] for words in said] + [at for at, _ in events]
    length: float = max([*known, 0.0]) if record["duration"] is None else record["duration"]
    waits = [
        Wait(turn["number"], turn["at"] - turn["latency_ms"] / 1000, turn["at"], turn["latency_ms"],
             {name: turn[f"{name}_ms"] for name in ("detection", "model", "network", "own")})
        for turn in turns if turn["latency_ms"] is not None
    ]  # fmt: skip
    spans = [*_caller(said, turns, waits, events), *_agent(said, turns, length), *tools]
    marks = [*_marks(turns, events), Mark(length, "end", record["reason"] or record["state"])]

    def within(at: float) -> float:
        return min(max(at, 0.0), length)

    # Clocks may jump, and transcripts come late: nothing lies outside of the call.
    return Timeline(
        record,
        length,
        sorted((replace(s, start=within(s.start), end=within(max(s.start, s.end))) for s in spans), key=_start),
        [replace(wait, start=within(wait.start), end=within(wait.end)) for wait in waits],
        sorted((replace(mark, at=within(mark.at)) for mark in marks), key=lambda mark: mark.at),
    )


def moment(at: float | str) -> float:
    """Unix seconds, however they are written."""
    return at if isinstance(at, int | float) else dt.datetime.fromisoformat(at).timestamp()


def _start(span: Span) -> float:
    return span.start


def _tool(tool: Mapping[str, Any], zero: float) -> Span:
    start = moment(tool["at"]) - zero
    end = start + (tool["duration_ms"] or 0.0) / 1000
    return Span("tool", start, end, tool["name"], tool["returned_at"] is None, failed=tool["ok"] is False)


def _agent(said: Sequence[Mapping[str, Any]], turns: Sequence[Mapping[str, Any]], length: float) -> Iterator[Span]:
    words = {line["item_id"]: line["text"] for line in said if line["role"] == "agent"}
    for turn, following in zip_longest(turns, turns[1:]):
        text = words.get(turn["item_id"], "")
        if turn["cut_at"] is not None:
            yield Span("agent", turn["at"], turn["cut_at"], text, cut=True)
            continue
        latest = following["at"] - (following["latency_ms"] or 0.0) / 1000 if following else length
        guess = turn["at"] + max(0.4, len(text) * SECONDS_A_CHARACTER)
        yield Span("agent", turn["at"], max(turn["at"] + 0.2, min(guess, latest)), text, guessed_end=True)


def _caller(
    said: Sequence[Mapping[str, Any]],
    turns: Sequence[Mapping[str, Any]],
    waits: Sequence[Wait],
    events: Sequence[tuple[float, Mapping[str, Any]]],
) -> Iterator[Span]:
    first_heard: dict[str, float] = {}
    for at, event in events:
        if event["type"] == "transcript" and event["role"] == "caller":
            first_heard.setdefault(event["item_id"], at)
    onsets = [turn["cut_at"] - (turn["stop_ms"] or 0.0) / 1000 for turn in turns if turn["cut_at"] is not None]
    before = 0.0
    for line in said:
        if line["role"] != "caller":
            continue
        # The end that was measured is the last one before its transcript came.
        ends = [wait.start for wait in waits if before < wait.start <= line["at"] + BREATH_S]
        end = ends[-1] if ends else line["at"]
        start = end - len(line["text"]) * SECONDS_A_CHARACTER
        if (heard := first_heard.get(line["item_id"])) is not None and heard < end:
            start = min(start, heard)
        start = next((onset for onset in onsets if before <= onset < end), max(start, before))
        yield Span("caller", start, end, line["text"], guessed_end=not ends)
        before = end


def _marks(turns: Sequence[Mapping[str, Any]], events: Sequence[tuple[float, Mapping[str, Any]]]) -> Iterator[Mark]:
    for turn in turns:
        if turn["cut_at"] is not None:
            stop = f", silent {turn['stop_ms']:.0f} ms after the onset" if turn["stop_ms"] is not None else ""
            yield Mark(turn["cut_at"], "barge-in", f"{turn['played_ms']} ms of it heard{stop} (by {turn['cut_by']})")
    for at, event in events:
        if told := _TOLD.get(event["type"]):
            kind, template = told
            yield Mark(at, kind, template.format_map(event))


_TOLD = {
    "call_answered": ("answered", ""),
    "call_adopted": ("worker died", "worker {worker} goes on at {step}"),
    "turned_away": ("no room", "{limit}, to {to}"),
    "waiting_for_session": ("in line", "place {place}"),
    "waited_for_session": ("in line", "{result} after {seconds:.1f} s"),
    "session_lost": ("model lost", "{endpoint}: {detail}"),
    "session_recovered": ("model back", "{how} after {gap_ms:.0f} ms"),
    "media_trouble": ("no sound", "{action}"),
    "step_entered": ("step", "{step}"),
    "false_barge_in": ("noise", "paused {paused_ms} ms"),
    "no_input": ("silence", "step {step}"),
    "realtime_trouble": ("trouble", "{what}: {detail}"),
    "transfer_started": ("transfer", "to {target}, {how}"),
    "transfer_ended": ("transfer", "to {target}: {result}"),
    "leg_dialled": ("leg", "{to} by {trunk} ({purpose})"),
    "leg_ended": ("leg", "{result}, {seconds:.1f} s talked"),
    "dial_refused": ("refused", "{to}: {why}"),
    "call_held": ("hold", "by {by}"),
    "call_retrieved": ("hold", "over"),
    "digits_collected": ("keys", "{digits} for {purpose}: {result}"),
    "message_taken": ("message", "for {mailbox}"),
    "callback_requested": ("call-back", "wanted"),
    "supervised": ("operator", "{what}: {result}"),
    "classified": ("answered by", "{disposition}, said {said_by}"),
    "recording_started": ("recording", "on"),
    "recording_paused": ("recording", "paused by {by}"),
    "recording_resumed": ("recording", "on again by {by}"),
}
"""What of an event stands in the timeline: its kind and a text."""


def seconds(value: float) -> str:
    """A length for people: 8.5 s, 12:05."""
    return f"{value:.1f} s" if value < 100 else f"{int(value) // 60}:{int(value) % 60:02d}"


def milliseconds(value: float) -> str:
    """The same for short ones: 60 ms, 1.50 s."""
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


# --- as text


@dataclass(slots=True)
class _Line:
    at: float
    who: str
    text: str
    order: int = field(default=0)


def text(drawn: Timeline) -> str:
    """For a terminal: what there is to know, a strip of who spoke when, and what was said."""
    record = drawn.record
    when = dt.datetime.fromtimestamp(moment(record["start"]), dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    head = [f"{drawn.title}   {when}   {record['id']}", ""]
    head += [f"  {name:<18}{value}" for name, value in drawn.facts]
    return "\n".join([*head, "", *_strips(drawn), "", *_story(drawn)]) + "\n"


def _strips(drawn: Timeline) -> Iterator[str]:
    """Rows of lanes, a character a step of the time."""
    step = max(0.25, round(drawn.length / STRIP / 4 + 0.05, 2))
    cells = max(1, int(drawn.length / step) + 1)
    lanes = {lane: [" "] * cells for lane in ("caller", "agent", "tool")}
    for span in drawn.spans:
        row, sign = lanes[span.lane], {"caller": "▆", "agent": "█", "tool": "─"}[span.lane]
        for place in range(int(span.start / step), min(int(span.end / step) + 1, cells)):
            row[place] = sign
        if span.cut:
            row[min(int(span.end / step), cells - 1)] = "\N{MULTIPLICATION SIGN}"
    for wait in drawn.waits:
        for place in range(int(wait.start / step) + 1, min(int(wait.end / step), cells)):
            if lanes["agent"][place] == " ":
                lanes["agent"][place] = "·"
    for first in range(0, cells, STRIP):
        yield f"  {seconds(first * step):>8}"
        for lane, row in lanes.items():
            if line := "".join(row[first : first + STRIP]).rstrip():
                yield f"  {lane:>8} {line}"
    yield f"           a character is {step:g} s; · the caller waits, \N{MULTIPLICATION SIGN} the caller breaks in"


def _story(drawn: Timeline) -> Iterator[str]:
    waits = {round(wait.end, 3): wait for wait in drawn.waits}
    lines = [_Line(mark.at, mark.kind, mark.text, 1) for mark in drawn.marks]
    for span in drawn.spans:
        words = span.text or "(not kept)"
        if span.lane == "tool":
            words = f"{span.text}: {milliseconds((span.end - span.start) * 1000)}{', failed' if span.failed else ''}"
        elif span.lane == "agent" and (wait := waits.get(round(span.start, 3))):
            shares = ", ".join(f"{name} {ms:.0f}" for name, ms in wait.shares_ms.items() if ms is not None)
            words = f"[after {milliseconds(wait.ms)}{f': {shares}' if shares else ''}] {words}"
        lines.append(_Line(span.start, span.lane, words))
    for line in sorted(lines, key=lambda line: (line.at, line.order)):
        yield f"  {line.at:8.2f}  {line.who:<12}{line.text}".rstrip()
