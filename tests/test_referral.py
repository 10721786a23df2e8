"""Whoever asks by REFER keeps their place until somebody else is in the room."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from sipagent import model, referral
from sipagent.errors import AriRefused
from sipagent.leg import ANSWERED, Rung
from sipagent.referral import Referral

GONE = AriRefused("POST", "bridges/b/addChannel", 422, "Channel not in Stasis")


class Asked:
    """A caller who asks us to go on with somebody; they answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.caller, self.told = MagicMock(), list[Any]()
        self.room = MagicMock(admit=AsyncMock(), record=AsyncMock())
        self.caller.channel.transfer_progress = self.notified = AsyncMock()
        self.caller.channel.hang_up = self.hung_up = AsyncMock()
        self.leg = MagicMock(ring=AsyncMock(return_value=Rung(ANSWERED)))
        self.leg_released = False
        monkeypatch.setattr(referral, "leg_out", self._leg_out)
        monkeypatch.setattr(referral, "SUBSCRIBED_S", 0.0)
        monkeypatch.setattr(referral, "NOTIFIED_S", 0.0)

    @contextlib.asynccontextmanager
    async def _leg_out(self, *_: object) -> AsyncIterator[Any]:
        yield self.leg
        self.leg_released = True

    async def follow(self, undo: AsyncExitStack) -> str:
        """How it went."""
        house = MagicMock()
        house.settings.trunks, house.settings.outbound.trunks, house.settings.call.dial_within_s = {}, (), 5.0

        def emit(kind: Any, **facts: Any) -> None:
            self.told.append((kind, facts))

        asks = Referral("call", self.caller, "+441", "pbx", house, emit)
        await asks.follow("401", lambda: self.room, undo)
        return str(next(facts["result"] for kind, facts in self.told if kind is model.TransferEnded))


async def test_who_answers_takes_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    async with AsyncExitStack() as undo:
        assert await asked.follow(undo) == ANSWERED
        asked.caller.become.assert_called_once_with(asked.leg.channel, asked.leg.happenings)
        asked.notified.assert_awaited_with("channel_answered")
        asked.hung_up.assert_awaited_once()
        assert not asked.leg_released
        # Whoever comes has not been told that the call is recorded: nothing of theirs is, until they have.
        asked.room.recording.end.assert_called_once()
        assert asked.room.recording.announced is False
    assert asked.leg_released


async def test_who_asked_stays_when_the_other_cannot_be_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """They answered, and hung up at once."""
    asked = Asked(monkeypatch)
    asked.room.admit.side_effect = GONE
    async with AsyncExitStack() as undo:
        assert await asked.follow(undo) == str(GONE)
        assert asked.leg_released
    asked.caller.become.assert_not_called()
    asked.notified.assert_awaited_with("channel_declined")
    asked.hung_up.assert_not_awaited()
