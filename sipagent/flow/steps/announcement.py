"""Something to hear, and on."""

from __future__ import annotations

from collections.abc import Iterable

from sipagent.config import Settings
from sipagent.config.ivr import Text
from sipagent.flow.machine import Flow, Step


class AnnouncementStep(Step):
    """[announcements.NAME]."""

    kind = "announcement"

    def __init__(self, name: str, settings: Settings) -> None:
        self._announcement = settings.announcements[name]

    @classmethod
    def texts(cls, settings: Settings) -> Iterable[Text]:
        """All of them."""
        return [announcement.prompt for announcement in settings.announcements.values()]

    def enter(self, flow: Flow) -> None:
        """Say it."""
        flow.say(self._announcement.prompt, answer=self._announcement.answer)

    def heard(self, flow: Flow) -> None:
        """On."""
        flow.go(self._announcement.then)
