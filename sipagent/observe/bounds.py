"""What may stand in a label: names that the configuration knows, and classes of what is free text in events.

A label is a time series for ever, so nothing from the wire becomes one as it is. A number, a name that a model made up
and a sentence of the dial policy all end as one of a few words here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import get_args

from sipagent import limits, model
from sipagent.config import Settings
from sipagent.config.sections import MAIN

OTHER = "other"
NONE = "none"
"""There was none: a call that came to no agent, a leg to a phone of ours."""
MODELS = 16
"""A year of a provider's model names."""

TROUBLES = frozenset({
    "ack_missing", "garbage", "model_substituted", "format_substituted", "vad_substituted", "pcm_instead_of_g711",
    "server_error", "caller_not_noticed", "listener_unreachable", "endpoint_failed", "fallback",
    "response_failed",
})  # fmt: skip
BUILTINS = frozenset({
    "transfer_call", "hang_up", "hold", "send_dtmf", "collect_digits", "take_message", "schedule_callback",
    "report_answering_machine",
})  # fmt: skip
HOWS = frozenset({"dial", "refer", "warm", "conference", "flow", "referred"})
PURPOSES = frozenset(get_args(model.Purpose))
ASKERS = PURPOSES | {"agent", "api"}
PARTIES = frozenset({"caller", "agent"})
LOOKS = frozenset({"monitor", "message", "barge", "takeover"})
RETRIES = frozenset({"no_input", "invalid"})
JUDGES = frozenset({"detector", "agent", "signalling"})
CONFIRMERS = frozenset({"model", "speech"})
FORMATS = frozenset({"wav", "opus"})
_STEP_KINDS = {
    "agent": "agents", "menu": "menus", "announcement": "announcements", "collect": "collects", "queue": "queues",
    "voicemail": "mailboxes", "messages": "mailboxes", "dial": "dials",
}  # fmt: skip
LIMITS = frozenset({
    limits.CORE, limits.WAIT, limits.CLOCK, limits.SWITCH, limits.RATE, limits.NODE, limits.CALLER, limits.ROUTE,
})  # fmt: skip
WAITS = frozenset({"granted", "gave_up", "left"})
MEDIA_ACTIONS = frozenset({"repaired", "given_up"})
RECOVERIES = frozenset({"resumed", "primed"})
_BARE_STEPS = frozenset({"hangup", "reject", "repeat", "back", "operator"})

_LEG_RESULTS = {
    "answered": "answered", "handed over": "handed_over", "busy": "busy", "no answer": "no_answer",
    "declined": "declined", "hung up": "declined", "no decision": "no_answer", "unassigned number": "invalid_number",
    "invalid number": "invalid_number", "not available": "unreachable", "unreachable": "unreachable",
    "lines are full": "congestion", "network congestion": "congestion", "network out of order": "congestion",
    "all lines are busy": "congestion", "it leads back to us": "loop", "given up": "given_up",
    "moved": "declined",
}  # fmt: skip
LEG_RESULTS = frozenset({*_LEG_RESULTS.values(), "refused", OTHER})
_REFUSALS = (
    ("dial_policy.deny", "denied"), ("dial_policy.allow", "not_allowed"), ("dial_policy.premium", "premium"),
    ("dial_policy.", "cap"), ("lines are busy", "trunk_full"), ("(cps)", "trunk_rate"),
)  # fmt: skip
_DIGITS = (
    ("pressed nothing", "timeout"), ("are needed", "invalid"), ("wrong digit", "invalid"),
    ("timeout", "timeout"), ("invalid", "invalid"), ("gave_up", "gave_up"),
)  # fmt: skip


def one_of(word: str, known: Collection[str]) -> str:
    """The word itself where it is known."""
    return word if word in known else OTHER


def leg_result(text: str) -> str:
    """How a leg out, or a transfer, ended."""
    if text in _LEG_RESULTS:
        return _LEG_RESULTS[text]
    if text.startswith("unreachable"):
        return "unreachable"
    return "refused" if refusal(text) != OTHER else OTHER


def refusal(text: str) -> str:
    """Why the dial policy, or a trunk, let no call out."""
    return next((name for sign, name in _REFUSALS if sign in text), OTHER)


def digits_result(text: str) -> str:
    """How the caller's keys were."""
    return "ok" if text == "ok" else next((name for sign, name in _DIGITS if sign in text), OTHER)


def cause_class(cause: int) -> str:
    """The class of a Q.850 cause (Q.850, table 1): its tens of thousands of combinations are nobody's panel."""
    if cause <= 0:
        return NONE
    classes = ("normal", "normal", "resource", "service", "not_implemented", "invalid", "protocol", "interworking")
    return classes[cause // 16] if cause < 128 else OTHER


class Known:
    """The names of the configuration in force; it may change between two events."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._of: Settings | None = None
        self._models: set[str] = set()
        self._read()

    @property
    def now(self) -> Settings:
        """The settings in force."""
        return self._settings()

    def trunk(self, name: str) -> str:
        """A trunk or the phone account."""
        return self._one("trunk", name)

    def route(self, name: str) -> str:
        """A route, by its name or its place in the file."""
        return self._one("route", name)

    def agent(self, name: str) -> str:
        """An agent."""
        return self._one("agent", name)

    def mailbox(self, name: str) -> str:
        """A mailbox."""
        return self._one("mailbox", name)

    def target(self, name: str) -> str:
        """A transfer's name; a number that a REFER of the caller's side named is `other`."""
        return self._one("target", name)

    def digits(self, name: str) -> str:
        """What agents have callers key in."""
        return self._one("digits", name)

    def tool(self, function: str) -> str:
        """A tool of the configuration, of an MCP server the server's name; one of ours; else the model made it up."""
        if function in BUILTINS or function in self._names["tool"]:
            return function
        return next((tool for tool in self._names["tool"] if function.startswith(f"{tool}_")), OTHER)

    def endpoint(self, name: str) -> str:
        """A realtime endpoint."""
        return name if name == MAIN or name in self.now.realtime.fallbacks else OTHER

    def model(self, name: str) -> str:
        """What answers says itself what it is called: the first `MODELS` that look like a name are believed."""
        if name not in self._models and len(self._models) < MODELS and re.fullmatch(r"[A-Za-z0-9._:/-]{1,48}", name):
            self._models.add(name)
        return one_of(name, self._models)

    def step(self, text: str) -> tuple[str, str]:
        """Kind and name of a step; `dial:401@office` has no name of the configuration's."""
        kind, _, name = text.partition(":")
        if kind in _BARE_STEPS:
            return kind, NONE
        settings = self.now
        if kind in _STEP_KINDS:
            return kind, one_of(name, getattr(settings, _STEP_KINDS[kind]))
        return (kind, one_of(name, settings.steps[kind])) if kind in settings.steps else (OTHER, OTHER)

    def _one(self, kind: str, name: str) -> str:
        if self._of is not self._settings():
            self._read()
        return one_of(name, self._names[kind]) if name else NONE

    def _read(self) -> None:
        settings = self._of = self._settings()
        routes = settings.all_routes
        self._names: dict[str, frozenset[str]] = {
            "trunk": frozenset(settings.endpoints),
            "route": frozenset(route.name or f"number {number}" for number, route in enumerate(routes, 1)),
            "agent": frozenset(settings.agents),
            "mailbox": frozenset(settings.mailboxes),
            "target": frozenset(settings.transfers),
            "digits": frozenset(settings.digits),
            "tool": frozenset(settings.tools),
        }
