"""A question, answered with keys (one, or several as an extension) or with words."""

from __future__ import annotations

from collections.abc import Iterable

from sipagent import patterns
from sipagent.config import Settings
from sipagent.config.ivr import Text
from sipagent.flow.machine import Flow, Step


class MenuStep(Step):
    """[menus.NAME]."""

    kind = "menu"

    def __init__(self, name: str, settings: Settings) -> None:
        self._menu = settings.menus[name]
        self._digits = ""
        self._failed = 0

    @classmethod
    def texts(cls, settings: Settings) -> Iterable[Text]:
        """The question, and what is said to those who do not answer it."""
        return [text for menu in settings.menus.values() for text in (menu.prompt, menu.no_input, menu.invalid)]

    def enter(self, flow: Flow) -> None:
        """Ask."""
        menu = self._menu
        flow.language = menu.language or flow.language
        if menu.words:
            flow.listen(menu.prompt, menu.words)
        flow.say(menu.prompt)

    def heard(self, flow: Flow) -> None:
        """The caller's turn."""
        if not self._digits:
            flow.wait(self._menu.timeout_s)

    def key(self, flow: Flow, digit: str) -> None:
        """The first key cuts the question; a choice that cannot become a longer one is taken at once."""
        flow.quiet()
        self._digits += digit
        if any(may_become(key, self._digits) for key in self._menu.keys):
            flow.wait(self._menu.interdigit_s)
        else:
            self._choose(flow)

    def timer(self, flow: Flow) -> None:
        """No more keys, or none at all."""
        if self._digits:
            self._choose(flow)
        else:
            self._again(flow, "no_input", self._menu.no_input)

    def understood(self, flow: Flow, key: str) -> None:
        """Said instead of pressed."""
        if key in self._menu.keys:
            flow.quiet()
            self._digits = key
            self._choose(flow)

    def _choose(self, flow: Flow) -> None:
        digits, self._digits = self._digits, ""
        key = patterns.chosen(self._menu.keys, digits)
        if key is None:
            self._again(flow, "invalid", self._menu.invalid)
        else:
            flow.variables["digits"] = digits
            flow.go(self._menu.keys[key], key)

    def _again(self, flow: Flow, why: str, said: Text) -> None:
        self._failed += 1
        flow.retried(why)
        if self._failed > self._menu.retries:
            flow.go(self._menu.give_up)
        else:
            flow.say(said, self._menu.prompt)


def may_become(key: str, digits: str) -> bool:
    """Could these digits grow into this key of the menu?"""
    return len(key) > 1 and patterns.may_become(key, digits)
