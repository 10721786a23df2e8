"""One call's rules that need no Asterisk to show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from sipagent import call as call_module
from sipagent.adoption import stay_with_them
from sipagent.ari.client import ChannelEvents
from sipagent.ari.objects import ChannelHandle
from sipagent.audio import Law
from sipagent.call import Call
from sipagent.call_over import CallOver
from sipagent.carried import Carried, read
from sipagent.errors import AriRefused, AriUnavailable
from sipagent.outcome import Reason
from sipagent.routing.facts import Invite
from tests.waiting import PATIENCE_S, until


class Patchy:
    """A channel of an Asterisk that does not answer for a moment."""

    def __init__(self) -> None:
        self.away, self.tried, self.written = False, 0, list[Carried | None]()

    async def set_variable(self, _name: str, value: str) -> None:
        self.tried += 1
        if self.away:
            raise AriUnavailable("POST channels/call/variable: no answer")
        self.written.append(read(value))


async def test_what_a_call_carries_is_told_again_when_asterisk_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever adopts the call an hour later would know the first minute of it."""
    monkeypatch.setattr(call_module, "CARRY_EVERY_S", 0.001)
    house = MagicMock(run="run")
    house.ari.app = "sipagent-1"
    call, channel = Call("call", Invite(endpoint="", called="100", caller=""), house), Patchy()
    visit = MagicMock(at=("agent:reception", "en"), variables={}, leg="", held=False)
    visitor = MagicMock(number="1", variables={})
    visitor.caller.channel = channel
    carrying = asyncio.create_task(call._carry(visit, visitor))
    channel.away = True
    call._story.changed.set()
    await until(lambda: channel.tried > 1, "another try")
    call.pause_recording("operator", on=True)
    channel.away, visit.leg, visit.held = False, "colleague", True
    await until(lambda: bool(channel.written), "the truth")
    assert channel.written[0] is not None
    assert channel.written[0].leg == "colleague"
    assert (channel.written[0].held, channel.written[0].paused) == (True, ("operator",))
    carrying.cancel()
    await asyncio.wait({carrying})


class Switch:
    """An Asterisk that has no channel of this name any more, and so never tells of its end."""

    app = "sipagent-1"

    def __init__(self, gone: str) -> None:
        self._gone = gone

    @contextlib.contextmanager
    def listen(self, channel_id: str) -> Iterator[ChannelEvents]:
        yield ChannelEvents(channel_id)

    async def request(self, method: str, uri: str, *_more: object) -> dict[str, Any]:
        if uri.split("/")[1] == self._gone:
            raise AriRefused(method, uri, 404, "Channel not found")
        return {}


@pytest.mark.parametrize("left", ["", "sipagent-2"], ids=["the same application", "another one"])
async def test_a_colleague_who_hung_up_while_no_worker_was_there_ends_the_call(left: str) -> None:
    house = MagicMock()
    house.ari = Switch(gone="leg")
    carried = Carried(left or "sipagent-1", "call", "", "100", "", Law.ULAW, 0.0, leg="leg")
    caller = ChannelHandle(house.ari, "call")
    with pytest.raises(CallOver) as over:
        async with asyncio.timeout(PATIENCE_S), contextlib.AsyncExitStack() as undo:
            await stay_with_them(carried, caller, house, "call", undo, on_joined=MagicMock())
    assert over.value.outcome.reason is Reason.COMPLETED
