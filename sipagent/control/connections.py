"""How many connections the API has open at once: each is a file of the process, and nobody asks who opens one.

When there is no room, whoever has been idle longest gives way: between two requests, or with one that never becomes
whole. So `/metrics` and health are reached however many connections somebody holds open; only where all are being
served, a new one is closed. uvicorn's own `limit_concurrency` would answer 503 to the monitoring, too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

GAVE_WAY, TURNED_AWAY = "gave_way", "turned_away"


class Connections:
    """Those of one listening socket. `protocol` is what uvicorn makes one of for each."""

    def __init__(self, limit: int, closed: Counter[str] | None = None) -> None:
        """`closed` counts those that had to go: idle ones that `gave_way`, and new ones that were `turned_away`."""
        self._limit, self._closed = limit, Counter() if closed is None else closed
        self._open: dict[_Protocol, None] = {}
        """The one that has been quiet longest first."""

        class Protocol(_Protocol):
            connections_of = self

        self.protocol: type[H11Protocol] = Protocol

    def __len__(self) -> int:
        return len(self._open)

    def came(self, one: _Protocol) -> None:
        """It has a place from now on, or is closed at once."""
        if len(self._open) >= self._limit:
            idle = next((other for other in self._open if other.is_idle), None)
            self._closed[GAVE_WAY if idle else TURNED_AWAY] += 1
            if idle is None:
                one.transport.abort()
                return
            self.went(idle)
            idle.transport.abort()
        self._open[one] = None

    def stirred(self, one: _Protocol) -> None:
        """A request of its is answered: it is idle from now on."""
        if one in self._open:
            self._open[one] = self._open.pop(one)

    def went(self, one: _Protocol) -> None:
        """It is closed; twice is fine."""
        self._open.pop(one, None)


class _Protocol(H11Protocol):
    """One connection."""

    connections_of: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is open."""
        super().connection_made(transport)
        self.connections_of.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is not any more."""
        super().connection_lost(exc)
        self.connections_of.went(self)

    def on_response_complete(self) -> None:
        """An answer is out."""
        super().on_response_complete()
        self.connections_of.stirred(self)

    @property
    def is_idle(self) -> bool:
        """No request of theirs is being served; one that has not come whole yet is none."""
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)
