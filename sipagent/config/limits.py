"""What is done when more callers come than can be served: `[limits]`, `[realtime.waiting]`."""

from __future__ import annotations

from pydantic import Field

from sipagent.config.base import Section
from sipagent.config.destinations import Destination
from sipagent.config.ivr import Text


class Waiting(Section):
    """[realtime.waiting]: what callers hear while every session of `session_quota` is taken."""

    at_most_s: float = Field(60.0, ge=0, le=3600)
    """Then the agent's `fallback`, or the apology; 0: at once."""
    callers: int = Field(20, ge=0, le=1000)
    """In line at most; who comes then is not kept waiting."""
    say: Text = "All our lines are busy. Please hold."
    place: Text = "You are number {place} in line."
    """Said at first, and when it has changed, not more often than `again_s`."""
    again_s: float = Field(20.0, ge=5, le=600)

    def __bool__(self) -> bool:
        """Anybody is kept waiting at all."""
        return bool(self.at_most_s and self.callers)


class Limits(Section):
    """[limits]: how many calls in are taken. Those of a trunk are its `channels`, those of a route its `at_once`."""

    at_once: int = Field(0, ge=0)
    """Calls in on this Asterisk; 0: no limit."""
    per_caller: int = Field(0, ge=0)
    """At once from one number; 0: no limit. Who hides their number is not counted."""
    per_second: float = Field(0.0, ge=0)
    """New calls in; 0: no limit. Each worker has its even share."""
    core_percent: int = Field(80, ge=0, le=100)
    """A worker that runs, or waits for a core, for more of the time than this, two seconds on end, takes no new calls,
    so that those it has sound as they should; another worker gets them. So it is with one that has priority and waits
    all the same, since others' calls have the cores, and with one whose 20 ms clock comes late, or whom Asterisk
    answers late. 0: none of that is looked at."""
    full: Destination | None = None
    """Where those go who find no room; None: they are told that all lines are busy (503 for a trunk)."""
