"""The node's sessions with the model, counted here for all its workers: `quota` decides, this brings the word."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sipagent import model
from sipagent.config import Settings
from sipagent.control.hub import Hub
from sipagent.control.live import ORPHANED, Live
from sipagent.control.quota import Quota
from sipagent.orders import SessionAsked, SessionHeld, SessionWanted


class Sessions:
    """Hears what the hub hears of sessions."""

    def __init__(self, hub: Hub, live: Live, settings: Callable[[], Settings]) -> None:
        """`settings` gives the configuration in force."""
        self._hub, self._live, self._settings = hub, live, settings
        self.quota = Quota(settings().realtime.quotas)
        hub.counting = self
        live.subscribe(self._heard, self._lost)

    def follow(self, settings: Settings) -> None:
        """A reload."""
        self.quota.follow(settings.realtime.quotas)
        self._tell()

    def here(self, run: str, held: Iterable[SessionHeld]) -> None:
        """A worker is there, and has these open."""
        self.quota.here(run, held)

    def asked(self, run: str, item: SessionAsked) -> None:
        """It wants one, or needs one no more."""
        if isinstance(item, SessionWanted):
            self.quota.want(run, item)
        else:
            self.quota.left(item.key)
        self._tell()

    def gone(self, run: str) -> None:
        """It is away; its calls may be adopted."""
        self.quota.gone(run, [call.call_id for call in self._live.calls.values() if call.state == ORPHANED])
        self._tell()

    def _heard(self, event: model.CallEvent) -> None:
        """A call that was adopted has another session, perhaps where nobody counts, or is over without one."""
        if isinstance(event, model.SessionOpened | model.CallEnded):
            self._lost(event.call_id)

    def _lost(self, call_id: str) -> None:
        self.quota.lost(call_id)
        self._tell()

    def _tell(self) -> None:
        told, self.quota.told = self.quota.told, []
        for run, what in told:
            self._hub.tell(run, what)
