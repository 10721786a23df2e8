"""Tools: what an agent may do besides talk.

Two processes, since a call worker paces audio every 20 ms and must not wait for anybody: in the worker `calls`
decides what is run and when the model hears of it, and `client` hands it over; in the toolbox, a child of the
worker, `toolbox` carries it out (`http_tool`, `python_tool`, `mcp_tool`). `messages` is what they say to each other.

A Python tool needs this module only: it may raise `ToolFailed`, and may ask for a parameter of type `CallFacts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class ToolFailed(Exception):
    """It did not work, and the text is fit for the model to read: no secrets, no addresses of ours."""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """The call that a tool is used in."""

    call_id: str
    variables: Mapping[str, str]
    """`caller`, `called`, what was collected ...; numbers as they came."""
    traceparent: str = ""
    """W3C Trace Context: for whoever is asked on the call's behalf. Empty: nobody traces."""


__all__ = ["CallFacts", "ToolFailed"]
