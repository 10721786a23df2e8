"""Which trace a call belongs to, and by which ids its spans go (core: no I/O, no clock).

Everything follows from the call's id and the node's name, so the worker, its toolbox and the control process, which
alone sends spans, agree without asking each other: a tool's server is told of our span (W3C `traceparent`) while the
call still lasts. Nothing here knows OpenTelemetry.
"""

from __future__ import annotations

import hashlib
import re
from contextvars import ContextVar
from dataclasses import dataclass

ROOT = "call"
"""The span of the whole call."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_RATIO_BITS = 64


@dataclass(frozen=True, slots=True)
class Trace:
    """One call's trace."""

    call_id: str
    trace_id: str
    """32 hex digits."""
    sampled: bool
    """False: its spans are not sent; who is asked by us is told so."""
    parent: str = ""
    """The far end's span that our call hangs under, 16 hex digits; empty: ours is the root."""

    @classmethod
    def of(cls, call_id: str, node: str, sample_ratio: float, incoming: str = "") -> Trace:
        """The trace of a call on this node; `incoming` is the traceparent that came with it, if that is to be kept.

        Whoever began the trace has decided whether it is sampled; where we begin it, the id decides, as OpenTelemetry's
        TraceIdRatioBased does. The node stands in the id since Asterisk's channel ids are its own only.
        """
        if begun := _TRACEPARENT.fullmatch(incoming):
            return cls(call_id, begun[1], bool(int(begun[3], 16) & 1), begun[2])
        trace_id = _hex(f"{node}/{call_id}", 32)
        sampled = int(trace_id[16:], 16) < round(sample_ratio * 2**_RATIO_BITS)
        return cls(call_id, trace_id, sampled)

    def span_id(self, what: str) -> str:
        """Of a span, by what it is: `ROOT`, or as `tool_span` says."""
        return _hex(f"{self.trace_id}/{self.call_id}/{what}", 16)

    def traceparent(self, what: str) -> str:
        """The header for somebody whose spans are to hang under this one of ours."""
        return f"00-{self.trace_id}-{self.span_id(what)}-{'01' if self.sampled else '00'}"


def tool_span(tool_call_id: str) -> str:
    """What the span of one use of a tool is called: the worker and the control process must agree."""
    return f"tool:{tool_call_id}"


def valid(traceparent: str) -> str:
    """The same, or nothing where it is none (W3C Trace Context, 3.2)."""
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the call that a task belongs to; None while nobody traces. Set once a call, as `call_id` of the logs."""
