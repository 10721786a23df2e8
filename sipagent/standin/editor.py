"""The client's hand in the conversation: items it creates, deletes, asks for and cuts short. Core.

What is wrong with an event becomes a Refusal in the wire's words; the conversation is then as it was.
"""

from __future__ import annotations

from sipagent.standin.conversation import Conversation
from sipagent.standin.dialect import Wire, Wrong
from sipagent.standin.wire import Event


class Editor:
    """The items of one session's conversation, as its client writes them."""

    def __init__(self, conversation: Conversation, wire: Wire) -> None:
        self._conversation, self._wire = conversation, wire

    def add(self, item: Event) -> None:
        """A whole item at the end; the client is told."""
        previous = self._conversation.last_id
        self._conversation.add(item)
        self._wire.item_added(item, previous)

    def create(self, item: object) -> None:
        """`conversation.item.create`."""
        if not isinstance(item, dict):
            raise self._wire.refusal(Wrong.NO_ITEM)
        stored = self._wire.item(item)
        call_id = stored.get("call_id")
        if stored["type"] == "function_call":
            self._conversation.calls[str(call_id)] = str(stored["name"])
        elif stored["type"] == "function_call_output" and call_id not in self._conversation.calls:
            raise self._wire.refusal(Wrong.UNKNOWN_CALL, call_id=str(call_id)[:64])
        self.add(stored)

    def delete(self, event: Event) -> None:
        """`conversation.item.delete`."""
        item = self._conversation.get(str(event.get("item_id")))
        if item is None or (item.get("role") == "assistant" and not self._wire.rules.deletes_assistant):
            raise self._wire.refusal(Wrong.UNKNOWN_TO_DELETE, item_id=event.get("item_id"))
        self._conversation.remove(str(item["id"]))
        self._wire.emit("conversation.item.deleted", item_id=item["id"])

    def retrieve(self, event: Event) -> None:
        """`conversation.item.retrieve`; sound is not kept, so it is not shown."""
        item = self._conversation.get(str(event.get("item_id")))
        if item is None:
            raise self._wire.refusal(Wrong.UNKNOWN_TO_RETRIEVE, item_id=event.get("item_id"))
        self._wire.emit("conversation.item.retrieved", item=dict(item))

    def truncate(self, event: Event, sound_ms: int | None) -> None:
        """`conversation.item.truncate`, where it has an effect; `sound_ms` of the item were sent, if it has any."""
        self._wire.truncate(event, self._conversation.get(str(event.get("item_id"))), sound_ms)
