"""What the agent says, item by item, until it has been heard: who speaks over it has heard a part (core: no I/O)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from sipagent.ledger import heard
from sipagent.media import Flushed

MAX_ITEMS = 8
"""Of the agent whose words are remembered until they have been heard; more are never queued."""


class Words:
    """One talk's."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        """Items that may not have been heard to their end, oldest first."""
        self._cut: deque[str] = deque(maxlen=MAX_ITEMS)
        """Items that were spoken over: what the model still tells of them has not been heard."""

    def said(self, item_id: str, text: str) -> bool:
        """The words of an item so far; False when it was spoken over, and they are not to be told."""
        if item_id in self._cut:
            return False
        self._said.pop(item_id, None)
        self._said[item_id] = text
        if len(self._said) > MAX_ITEMS:
            del self._said[next(iter(self._said))]
        return True

    def cut(self, flushed: Flushed) -> Iterator[tuple[str, str]]:
        """What was heard, by item: the one under way up to here, those after it not at all."""
        items = list(self._said)
        start = items.index(flushed.item_id) if flushed.item_id in items else len(items)
        self._cut.append(flushed.item_id)
        for item_id in items[start:]:
            text = self._said.pop(item_id)
            self._cut.append(item_id)
            own = item_id == flushed.item_id
            yield item_id, heard(text, flushed.played_ms, flushed.dropped_of_item_ms) if own else ""
