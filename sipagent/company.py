"""What a caller hears of us while an answer is late, a word or a soft sound, and that it goes when the answer comes."""

from __future__ import annotations

import asyncio

import structlog

from sipagent.errors import ConfigError
from sipagent.flow.phrases import Phrase
from sipagent.room import PROMPT, Room
from sipagent.tones import looped
from sipagent.tools.calls import HOLD

log = structlog.get_logger()


class Company:
    """Kept to the caller of one talk."""

    def __init__(self, room: Room, language: str, quiet: asyncio.Event) -> None:
        """`quiet`: nothing is played."""
        self._room, self._media, self._language, self._quiet = room, room.media, language, quiet
        self.kept = False
        """What is heard now is neither an answer nor the agent's turn."""

    def keep(self, *sounds: str) -> None:
        """Until the answer comes, which does not wait behind them: words, or HOLD for a soft sound."""
        self.kept = True
        for sound in sounds:
            self.fill(sound)

    def end(self) -> None:
        """What comes now must not wait behind a soft sound."""
        if self.kept:
            self.kept = False
            self.hush()

    def fill(self, sound: str) -> None:
        """The caller waits for something and hears this, a text or HOLD."""
        if not self._media.breakable:
            return  # a last word is being said, or the caller hears it ring
        if sound == HOLD:
            self._media.play(PROMPT + HOLD, looped("hold", self._room.law))
            self._media.play_end(PROMPT + HOLD)
        else:
            try:
                self._room.play([Phrase(sound, self._language)])
            except ConfigError as error:  # a text that nobody had rendered: silence is no reason to lose the call
                log.error("filler_missing", error=str(error))

    def hush(self) -> None:
        """The answer begins; who is hushed is quiet, and the pacer, which tells of what ran out, does not tell."""
        if self._media.breakable:
            self._media.give_way()
            self._quiet.set()
