"""The one door by which a call leaves us."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest

from sipagent.config.transfers import DialPolicy
from sipagent.dialling import DialGuard
from sipagent.errors import AriRefused, DialingRefused
from sipagent.flow.machine import ToDial
from sipagent.leg import Errand, permitted


class Door:
    """A trunk of one line; Asterisk says how many are in use when it is let."""

    def __init__(self, in_use: str = "0", **policy: Any) -> None:
        self.in_use, self.answers, self.asked = in_use, asyncio.Event(), 0
        self.house = MagicMock(guard=DialGuard(DialPolicy(**policy)))
        self.house.settings.trunks = {"pbx": MagicMock(channels=1, cps=100.0, e164=str)}
        self.house.ari.request = self._request

    async def _request(self, method: str, uri: str, *_more: object) -> dict[str, str]:
        self.asked += 1
        await self.answers.wait()
        if not self.in_use:
            raise AriRefused(method, uri, 500, "no")
        return {"value": self.in_use}

    async def go_out(self, leg: str) -> str:
        """How it was: dialled, or why not."""
        errand = Errand(leg, ToDial("401", "pbx", 5.0), "transfer", "+441", beside="call")
        try:
            async with permitted(errand, self.house, MagicMock()):
                return "dialled"
        except (DialingRefused, AriRefused) as refusal:
            return str(refusal)

    async def burst(self) -> list[str]:
        """Two at the same moment."""
        both = [asyncio.ensure_future(self.go_out(leg)) for leg in ("a", "b")]
        await asyncio.sleep(0)
        self.answers.set()
        return [await one for one in both]


@pytest.mark.parametrize("cap", ["at_once", "per_minute", "per_caller_per_day"])
async def test_a_burst_passes_no_cap(cap: str) -> None:
    first, second = await Door(**{cap: 1}).burst()
    assert first == "dialled"
    assert cap in second


@pytest.mark.parametrize("in_use", ["1", ""], ids=["the trunk is full", "Asterisk does not say"])
async def test_what_was_not_dialled_is_not_counted(in_use: str) -> None:
    door = Door(in_use, at_once=1, per_minute=1, per_caller_per_day=1)
    door.answers.set()
    assert await door.go_out("a") != "dialled"
    door.in_use = "0"
    assert await door.go_out("b") == "dialled"
