"""Whether a call, a record or anything else was lost: what callers know against what the node tells (core)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.chaos.caller import Call
from bench.chaos.faults import BY_NAME
from bench.chaos.node import Level

MORE_DESCRIPTORS = 2
"""A connection of a pool that was made meanwhile; a leak grows with the calls, of which there were dozens."""
MORE_TASKS = 2


def compare(calls: Sequence[Call], records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every call that was answered has one record, with the end that its caller saw; a line for each that has not."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        rows.setdefault(record["dst"], []).append(record)
    wrong = []
    for call in calls:
        mine = rows.pop(call.number, [])
        if len(mine) != 1:
            if mine or call.answered:
                wrong.append(f"{call.number}: {len(mine)} records" + (f" (under {call.under})" if call.under else ""))
            continue
        row = mine[0]
        if call.answered and (why := _wrong(call, row)):
            wrong.append(f"{call.number}: {why}" + (f" (under {call.under})" if call.under else ""))
    wrong += [f"{number}: a record of a call that nobody made" for number in rows]
    return wrong


def _wrong(call: Call, row: Mapping[str, Any]) -> str:
    if row["state"] != "ended":
        return f"is told as {row['state']}"
    if call.under in BY_NAME and BY_NAME[call.under].ends_calls:
        # Who called while Asterisk died may have been told goodbye by either end.
        right = row["reason"] == "switch_lost" or not call.turns
        return "" if right else f"ended with Asterisk, and is told as {row['reason']}"
    if row["disposition"] != "ANSWERED":
        return f"is told as {row['disposition']}"
    if call.hung_up and row["reason"] != "caller_hangup":
        return f"was hung up by its caller, and is told as {row['reason']}"
    if row["turns"] < call.turns:
        return f"{row['turns']} turns of {call.turns} are told"
    return ""


def ends(records: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many calls ended for which reason."""
    return Counter(str(record["reason"]) for record in records)


def leaks(before: Level, after: Level) -> list[str]:
    """What is left when everybody has gone."""
    found = []
    if after.channels:
        found.append(f"{after.channels} channels of Asterisk")
    if after.bridges > before.bridges:
        found.append(f"{after.bridges - before.bridges} bridges of Asterisk")
    if after.processes > before.processes:
        found.append(f"{after.processes - before.processes} processes")
    for what, more, was, now in (
        ("descriptors", MORE_DESCRIPTORS, before.descriptors, after.descriptors),
        ("tasks", MORE_TASKS, before.tasks, after.tasks),
    ):
        found += [
            f"{now[name] - was[name]} {what} of {name}" for name in now if name in was and now[name] > was[name] + more
        ]
    return found
