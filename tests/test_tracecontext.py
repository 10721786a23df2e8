"""Ids of traces: the same for everybody who knows the call, and W3C's form on the wire."""

from __future__ import annotations

import re

import pytest

from sipagent.tracecontext import ROOT, Trace, tool_span, valid

THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_two_processes_come_to_the_same_ids() -> None:
    one, other = Trace.of("1790000000.42", "a", 1.0), Trace.of("1790000000.42", "a", 1.0)
    assert one == other
    assert one.span_id(ROOT) == other.span_id(ROOT) != one.span_id(tool_span("t"))
    assert Trace.of("1790000000.42", "b", 1.0).trace_id != one.trace_id  # Asterisk counts on each node from 0


def test_what_goes_out_is_a_traceparent() -> None:
    one = Trace.of("c", "n", 1.0)
    out = one.traceparent(tool_span("t"))
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", out)
    assert out == f"00-{one.trace_id}-{one.span_id(tool_span('t'))}-01"
    assert Trace.of("c", "n", 0.0).traceparent(ROOT).endswith("-00")
    assert valid(out) == out


def test_what_came_in_is_gone_on_with() -> None:
    one = Trace.of("c", "n", 0.0, THEIRS)
    assert (one.trace_id, one.parent, one.sampled) == (THEIRS[3:35], "b7ad6b7169203331", True)
    assert not Trace.of("c", "n", 1.0, THEIRS[:-2] + "02").sampled
    # Two calls of one trace have spans of their own.
    assert one.span_id(ROOT) != Trace.of("d", "n", 0.0, THEIRS).span_id(ROOT)


@pytest.mark.parametrize(
    "wrong",
    ["", "hello", "ff" + THEIRS[2:], THEIRS.upper(), THEIRS[:-1], "00-" + "0" * 32 + THEIRS[35:],
     THEIRS[:36] + "0" * 16 + "-01", f"{THEIRS}x", f"{THEIRS}\r\nX-Evil: 1"],
)  # fmt: skip
def test_what_is_none_is_not_taken(wrong: str) -> None:
    assert valid(wrong) == ""
    assert Trace.of("c", "n", 1.0, wrong) == Trace.of("c", "n", 1.0)
