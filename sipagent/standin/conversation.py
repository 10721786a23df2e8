"""Conversations and their items, and the store from which a lost one is resumed. Core: `now` is an argument.

Items are kept in the wire's own shape, since all they are for is to go back on the wire. The store is bounded
in number and in age; a conversation keeps its newest `MAX_ITEMS`.
"""

from __future__ import annotations

from collections import OrderedDict

from sipagent.standin.wire import Event

MAX_ITEMS = 400
MAX_CONVERSATIONS = 2000
KEPT_S = 30 * 60
"""xAI keeps a conversation for 30 minutes."""


class Conversation:
    """Items in order, by id."""

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self._items: OrderedDict[str, Event] = OrderedDict()
        self.calls: dict[str, str] = {}
        """call_id to function name, of calls whose response is done."""
        self.sound_ms: dict[str, int] = {}
        """How much of an assistant item's sound was sent; of items that are still here."""

    @property
    def items(self) -> list[Event]:
        """All items, oldest first, in the wire's shape."""
        return list(self._items.values())

    @property
    def last_id(self) -> str | None:
        """The newest item's id."""
        return next(reversed(self._items), None)

    def add(self, item: Event) -> None:
        """Append, or replace the item of the same id where it stands."""
        self._items[str(item["id"])] = item
        while len(self._items) > MAX_ITEMS:
            self.remove(next(iter(self._items)))

    def get(self, item_id: str) -> Event | None:
        """The item, if it is known."""
        return self._items.get(item_id)

    def remove(self, item_id: str) -> None:
        """Forget an item; an unknown one is no error here."""
        self._items.pop(item_id, None)
        self.sound_ms.pop(item_id, None)


class ConversationStore:
    """What `?conversation_id=` finds again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, Conversation]] = OrderedDict()

    def keep(self, conversation: Conversation, now: float) -> None:
        """Remember it as last used `now`; the oldest give way."""
        self._kept[conversation.id] = (now, conversation)
        self._kept.move_to_end(conversation.id)
        while self._kept and (len(self._kept) > MAX_CONVERSATIONS or next(iter(self._kept.values()))[0] < now - KEPT_S):
            self._kept.popitem(last=False)

    def find(self, conversation_id: str, now: float) -> Conversation | None:
        """The conversation, if it was kept less than 30 minutes ago."""
        at, conversation = self._kept.get(conversation_id, (0.0, None))
        return conversation if at >= now - KEPT_S else None
