"""Messages that callers left with an agent. The recorder writes them; here they are read, heard and removed."""

from __future__ import annotations

from sqlalchemy import select

from sipagent.records.store import Store
from sipagent.records.tables import Message


class Messages:
    """Mailboxes of text. Times are Unix seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, *, mailbox: str, text: str, number: str, call_id: str, at: float) -> Message:
        """One more; what an agent takes in a call is added by its event."""
        row = Message(mailbox=mailbox, text=text, number=number, call_id=call_id, at=at)
        async with self._store.writing() as session:
            session.add(row)
        return row

    async def list(self, mailbox: str = "", *, only_new: bool = False, limit: int = 100) -> list[Message]:
        """The newest first, of one mailbox or of all."""
        query = select(Message).order_by(Message.id.desc()).limit(limit)
        if mailbox:
            query = query.where(Message.mailbox == mailbox)
        if only_new:
            query = query.where(Message.heard_at.is_(None))
        async with self._store.reading() as session:
            return [*(await session.scalars(query)).all()]

    async def heard(self, message_id: int, now: float) -> bool:
        """Somebody has read it. False: there is none."""
        async with self._store.writing() as session:
            row = await session.get(Message, message_id)
            if row is None:
                return False
            row.heard_at = row.heard_at or now
            return True

    async def remove(self, message_id: int) -> bool:
        """It is gone. False: there was none."""
        async with self._store.writing() as session:
            row = await session.get(Message, message_id)
            if row is not None:
                await session.delete(row)
            return row is not None
