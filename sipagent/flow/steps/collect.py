"""A number from the caller: digits, checked, read back if wanted, kept in a variable."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sipagent.config import Settings
from sipagent.config.ivr import Text
from sipagent.flow.machine import Flow, Step

CONFIRM, AGAIN = "1", "2"


class CollectStep(Step):
    """[collects.NAME]."""

    kind = "collect"

    def __init__(self, name: str, settings: Settings) -> None:
        self._collect = settings.collects[name]
        self._digits = ""
        self._confirming = False
        self._failed = 0

    @classmethod
    def texts(cls, settings: Settings) -> Iterable[Text]:
        """Question, read-back and complaints."""
        return [
            text
            for collect in settings.collects.values()
            for text in (collect.prompt, collect.no_input, collect.invalid, collect.confirmation)
        ]

    def enter(self, flow: Flow) -> None:
        """Ask."""
        flow.say(self._collect.prompt)

    def heard(self, flow: Flow) -> None:
        """The caller's turn."""
        if not self._digits or self._confirming:
            flow.wait(self._collect.timeout_s)

    def key(self, flow: Flow, digit: str) -> None:
        """One more digit, or the end of them."""
        flow.quiet()
        if self._confirming:
            self._confirm(flow, digit)
        elif digit == self._collect.terminator:
            self._complete(flow)
        else:
            self._digits += digit
            if len(self._digits) == self._collect.max_digits:
                self._complete(flow)
            else:
                flow.wait(self._collect.interdigit_s)

    def timer(self, flow: Flow) -> None:
        """No more digits, or none at all."""
        if self._digits and not self._confirming:
            self._complete(flow)
        else:
            self._again(flow, "no_input", self._collect.no_input)

    def _complete(self, flow: Flow) -> None:
        collect = self._collect
        if len(self._digits) < collect.min_digits or not re.fullmatch(collect.pattern or ".*", self._digits):
            self._again(flow, "invalid", collect.invalid)
        elif collect.confirm:
            self._confirming = True
            flow.variables["digits"] = self._digits
            flow.say(collect.confirmation)
        else:
            self._take(flow)

    def _confirm(self, flow: Flow, digit: str) -> None:
        if digit == CONFIRM:
            self._take(flow)
        elif digit == AGAIN:
            self._digits, self._confirming = "", False
            flow.say(self._collect.prompt)
        else:
            flow.say(self._collect.confirmation)

    def _take(self, flow: Flow) -> None:
        flow.variables["digits"] = flow.variables[self._collect.variable] = self._digits
        flow.go(self._collect.then)

    def _again(self, flow: Flow, why: str, said: Text) -> None:
        self._digits, self._confirming = "", False
        self._failed += 1
        flow.retried(why)
        if self._failed > self._collect.retries:
            flow.go(self._collect.give_up)
        else:
            flow.say(said, self._collect.prompt)
