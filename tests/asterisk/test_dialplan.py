"""Where a call goes: to a worker, whichever there is, with its arguments; to an apology when there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.phone.sipp import SipEvent
from tests.asterisk.fixtures import no_channels_left
from tests.asterisk.fixtures import test_config as make_config

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

WORKERS = 3
EVENT_TIMEOUT_S = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asterisk(root: Root, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asterisk]:
    async with Asterisk(make_config(tmp_path_factory.mktemp("asterisk"), workers=WORKERS), root) as server:
        yield server


class Worker:
    """An ARI application that only listens, and hangs up or lets go when told."""

    def __init__(self, asterisk: Asterisk, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse):
        self._asterisk, self._session, self._socket = asterisk, session, socket

    async def event(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(EVENT_TIMEOUT_S):
            async for message in self._socket:
                event: dict[str, Any] = json.loads(message.data)
                if event["type"] == kind:
                    return event
        raise AssertionError(f"no {kind}")

    async def request(self, method: str, path: str) -> None:
        async with asyncio.timeout(EVENT_TIMEOUT_S):
            async with self._session.request(method, f"{self._asterisk.config.ari_url}/{path}") as answer:
                assert answer.status < 300, await answer.text()


@asynccontextmanager
async def worker(asterisk: Asterisk, number: int) -> AsyncIterator[Worker]:
    config = asterisk.config
    login = {"Authorization": aiohttp.encode_basic_auth(config.ari_user, config.ari_password)}
    async with aiohttp.ClientSession(headers=login) as session:
        url = f"{config.ari_url}/events?app={config.app}-{number}"
        async with session.ws_connect(url) as socket:
            yield Worker(asterisk, session, socket)


@pytest.mark.parametrize("number", range(1, WORKERS + 1))
async def test_a_call_finds_the_one_worker_there_is(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig, number: int
) -> None:
    async with worker(asterisk, number) as there, Phone(replace(phone_config, law=Law.ALAW), sipp) as phone:
        await phone.dial("+498912345")
        start = await there.event("StasisStart")
        *args, call_id, first_dialled, others = start["args"]
        assert args == ["in", "+498912345", asterisk.config.phone_user, "alaw"]
        assert int(others) in range(WORKERS)  # that have not been tried, by where it was begun
        assert first_dialled == ""
        assert call_id
        assert start["application"] == f"sipagent-{number}"
        await there.request("POST", f"channels/{start['channel']['id']}/answer")
        assert await phone.wait_answered(EVENT_TIMEOUT_S)
        await phone.hang_up()
        await there.event("StasisEnd")


async def test_calls_are_spread_over_the_workers(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    """30 calls on three workers: that one of them gets none has a chance of 1 in 60,000."""
    calls = 30
    got = dict.fromkeys(range(1, WORKERS + 1), 0)

    async def serve(number: int, there: Worker) -> None:
        while True:
            start = await there.event("StasisStart")
            got[number] += 1
            await there.request("DELETE", f"channels/{start['channel']['id']}")

    async def call() -> None:
        async with Phone(phone_config, sipp) as phone:
            await phone.dial("100")
            await phone.wait_ended(EVENT_TIMEOUT_S)

    async with worker(asterisk, 1) as one, worker(asterisk, 2) as two, worker(asterisk, 3) as three:
        serving = [asyncio.create_task(serve(n, w)) for n, w in enumerate((one, two, three), 1)]
        for _ in range(calls // 10):
            await asyncio.gather(*(call() for _ in range(10)))
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    assert sum(got.values()) == calls
    assert all(got.values()), got


async def test_after_a_worker_lets_go_the_call_ends(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    async with worker(asterisk, 1) as there, Phone(phone_config, sipp) as phone:
        await phone.dial("100")
        start = await there.event("StasisStart")
        await there.request("POST", f"channels/{start['channel']['id']}/answer")
        assert await phone.wait_answered(EVENT_TIMEOUT_S)
        await there.request("POST", f"channels/{start['channel']['id']}/continue")
        assert (await phone.wait_ended(EVENT_TIMEOUT_S)).event is SipEvent.BYE
    assert phone.summary().ended_by == "far end"


async def test_without_a_worker_the_caller_hears_an_apology_and_is_released(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    async with Phone(phone_config, sipp) as phone:
        await phone.dial("100")
        await phone.hear_agent_start(timeout_s=3)
        end = await phone.wait_ended(15)
        assert (end.event, end.status) == (SipEvent.REFUSED, 503)
        spoken_s = phone.media.voiced_in[-1] - phone.media.voiced_in[0]
        assert spoken_s > 3
    assert not phone.answered  # early media: such a call costs nothing


@pytest.mark.parametrize("number", ["h", "t", "i", "s"])
async def test_asterisks_own_extensions_are_no_numbers(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig, number: str
) -> None:
    async with Phone(phone_config, sipp) as phone:
        await phone.dial(number)
        assert not await phone.wait_answered(EVENT_TIMEOUT_S)
        assert phone.end is not None
        assert (phone.end.event, phone.end.status) == (SipEvent.REFUSED, 404)


async def test_a_number_cannot_smuggle_arguments(
    asterisk: Asterisk, sipp: Sequence[str], phone_config: PhoneConfig
) -> None:
    async with worker(asterisk, 1) as there, Phone(phone_config, sipp) as phone:
        await phone.dial("1&PJSIP/x,evil")
        start = await there.event("StasisStart")
        assert start["args"][2:4] == [asterisk.config.phone_user, "ulaw"]
        assert "&" not in start["args"][1]
        assert "," not in start["args"][1]


async def test_nothing_is_left_behind(asterisk: Asterisk) -> None:
    assert await no_channels_left(asterisk)
