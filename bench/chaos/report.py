"""A sitting as tables, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from statistics import median

from bench.chaos.ear import USUAL_S
from bench.chaos.faults import Fault
from bench.chaos.sitting import Sitting, Struck

HEAD = """# Faults under live calls

Each fault was struck while {callers} SIP callers talked with the agent through real Asterisk: half of them in the
middle of an answer, half of them while they asked something. *Voice* is the longest time that a caller who noticed
heard nothing at all, *agent* the longest until the agent itself went on; the caller's own words and the {usual_ms:g} ms
that a healthy answer of the stand-in takes are not counted. Median / longest, in seconds. *New call*: one that came in
the middle of the fault, from INVITE to the agent's voice. What all of it means stands in docs/chaos.md.

    make chaos ARGS="{command}"

{started_at}, {machine}; {seconds:.0f} s.
"""


def lost(found: Sitting) -> bool:
    """A call or a record that need not have been."""
    return any(one.lost for one in found.struck if not one.fault.ends_calls) or bool(found.wrong_records)


def late(found: Sitting) -> list[str]:
    """Promises that were not kept."""
    return [
        f"{fault.name}: {what} {'never' if worst == inf else f'{worst:.2f} s'}, promised were {promised:g}"
        for fault, struck in _by_fault(found)
        for what, promised, worst in (
            ("voice", fault.voice_s, _worst(one.voice_s for it in struck for one in it.silences)),
            ("agent", fault.talk_s, _worst(one.talk_s for it in struck for one in it.silences)),
        )
        if promised is not None and worst > promised
    ]


def _worst(times_s: Iterable[float | None]) -> float:
    """None is never."""
    return max((inf if time_s is None else time_s for time_s in times_s), default=0.0)


def markdown(found: Sitting) -> str:
    """All of it."""
    head = HEAD.format(
        callers=found.callers, usual_ms=1000 * USUAL_S, command=found.command, started_at=found.started_at,
        machine=found.machine, seconds=found.seconds,
    )  # fmt: skip
    rows = [
        "| fault | what happens | times | callers affected | voice | agent | promised | new call | calls lost |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(fault, struck) for fault, struck in _by_fault(found)),
    ]
    return head + "\n" + "\n".join(rows) + "\n\n" + "\n".join(_sums(found)) + "\n"


def _row(fault: Fault, struck: list[Struck]) -> str:
    callers, affected = sum(one.callers for one in struck), sum(len(one.silences) for one in struck)
    mute = sum(silence.talk_s is None for one in struck for silence in one.silences)
    promised = f"{fault.voice_s:g} / {fault.talk_s:g}" if fault.voice_s and fault.talk_s else "-"
    backs = [one.back_s for one in struck if one.back_s is not None]
    agent = _spread(backs) + " (a new call)" if backs else _spread(_talks(struck))
    return (
        f"| {fault.name} | {fault.what} | {len(struck)} | {callers if backs else affected} of {callers} | "
        f"{_spread(_voices(struck))} | {agent}{f', {mute} never' if mute else ''} | {promised} | "
        f"{_newcomers(fault, struck)} | {sum(one.lost for one in struck)} |"
    )


def _newcomers(fault: Fault, struck: list[Struck]) -> str:
    new = [one.newcomer for one in struck if one.newcomer is not None]
    heard = [call.talk_s for call in new if call.talk_s is not None]
    away = len(new) - len(heard)
    told = _spread(heard)
    if away:
        why = "turned away, as told" if fault.turns_away else "no agent"
        told = f"{told}, {away} {why}" if heard else f"{away} {why}"
    return told


def _sums(found: Sitting) -> list[str]:
    answered = sum(call.answered for call in found.calls)
    kept = sum(one.lost for one in found.struck if not one.fault.ends_calls)
    died = sum(one.lost for one in found.struck if one.fault.ends_calls)
    lines = [
        f"- Calls placed: {len(found.calls)}, answered {answered}. Lost: {kept}"
        + (f"; ended by Asterisk's own death: {died}." if died else "."),
        f"- Records lost or wrong: {len(found.wrong_records)}.",
        f"- Turns: {found.turns_heard} heard between the faults; {found.turns_recorded} in all in the records.",
        f"- Left behind when all had gone: {', '.join(found.leaks) or 'nothing'}.",
    ]
    if missed := late(found):
        lines.append(f"- Promises not kept: {'; '.join(missed)}.")
    return lines + [f"    - {line}" for line in found.wrong_records[:20]]


def _by_fault(found: Sitting) -> Iterable[tuple[Fault, list[Struck]]]:
    names = dict.fromkeys(one.fault.name for one in found.struck)
    for name in names:
        struck = [one for one in found.struck if one.fault.name == name]
        yield struck[0].fault, struck


def _voices(struck: list[Struck]) -> list[float]:
    return [one.voice_s for it in struck for one in it.silences if one.voice_s is not None]


def _talks(struck: list[Struck]) -> list[float]:
    return [one.talk_s for it in struck for one in it.silences if one.talk_s is not None]


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} / {max(values):.2f}" if values else "-"
