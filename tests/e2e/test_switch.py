"""Asterisk away, dead, back again; the ARI client against the real thing."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from sipagent import model
from sipagent.ari.client import AriClient
from sipagent.ari.objects import ChannelHandle, drop_bridges, external_media, mixing_bridge
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.errors import AriRefused, AriUnavailable
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from tests.asterisk.fixtures import test_config
from tests.e2e.conftest import MakeRig
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


def client(asterisk: Asterisk, app: str = "probe-1", password: str | None = None) -> AriClient:
    config = asterisk.config
    return AriClient(
        url=f"http://127.0.0.1:{config.http_port}",
        app=app,
        username=config.ari_user,
        password=config.ari_password if password is None else password,
        on_call=lambda _start: None,
        on_orphan=lambda _channel: None,
    )


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_requests_over_the_events_socket(asterisk: Asterisk) -> None:
    ari = client(asterisk)
    with pytest.raises(AriUnavailable, match="not connected yet"):
        await ari.request("GET", "asterisk/info")
    running = asyncio.create_task(ari.run())
    await until(lambda: ari.connected, "the socket")
    assert ari.version.startswith("22.")
    with pytest.raises(AriRefused, match="404"):
        await ari.request("POST", "channels/nobody/answer")
    assert await ChannelHandle(ari, "nobody").variable("X") == ""
    await ChannelHandle(ari, "nobody").hang_up(16)  # gone already is no error
    # What a SIP user may bring must cross the JSON unharmed.
    odd = 'a"b\\c,d&e=f;g%41\u00e9'
    await ari.request("POST", "asterisk/variable", {"variable": "ODD", "value": odd})
    assert (await ari.request("GET", "asterisk/variable", {"variable": "ODD"}))["value"] == odd
    results = await asyncio.gather(*(ari.request("GET", "asterisk/ping") for _ in range(200)))
    assert len(results) == 200
    await stopped(running)


async def test_what_is_made_for_a_call_is_never_refused_for_what_has_just_gone(asterisk: Asterisk) -> None:
    """By its own worker a moment ago, or by one that died under it: Asterisk knows a bridge for a while longer."""
    ari = client(asterisk)
    running = asyncio.create_task(ari.run())
    await until(lambda: ari.connected, "the socket")
    media = partial(external_media, ari, "a-call", host="127.0.0.1", port=9, audio_format="alaw", variables={})
    for _ in range(20):
        async with mixing_bridge(ari, "a-call") as bridge, media() as channel:
            await bridge.add(channel.channel)
    async with mixing_bridge(ari, "a-call-2") as other, mixing_bridge(ari, "a-call") as bridge, media() as channel:
        await bridge.add(channel.channel)
        for _ in range(2):  # twice is fine
            await drop_bridges(ari, "a-call")
        async with mixing_bridge(ari, "a-call"):

            async def nothing_else_is_left() -> bool:
                bridges = {one["id"] for one in await ari.request("GET", "bridges")}
                return len(bridges) == 2 and other.id in bridges and not await ari.channels()

            await until(nothing_else_is_left, "the media channel to go with its bridge")
    await stopped(running)


async def test_a_wrong_password_and_a_silent_port_are_told(asterisk: Asterisk) -> None:
    ari = client(asterisk, password="wrong")
    running = asyncio.create_task(ari.run())
    await until(lambda: "refused our ARI user or password" in ari.trouble, "the trouble to be named")
    await stopped(running)
    nobody = AriClient(
        url="http://127.0.0.1:9",
        app="x",
        username="u",
        password="p",
        on_call=lambda _start: None,
        on_orphan=lambda _channel: None,
    )
    running = asyncio.create_task(nobody.run())
    await until(lambda: "cannot reach Asterisk" in nobody.trouble, "the trouble to be named")
    await stopped(running)


def frozen(pid: int) -> bool:
    """Every thread: the signal is delivered to one after the other, and one that runs on may answer."""
    states: set[str] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended instead
            states.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    return states == {"T"}


async def test_a_request_that_is_not_answered_ends_in_time(asterisk: Asterisk) -> None:
    ari = client(asterisk)
    running = asyncio.create_task(ari.run())
    await until(lambda: ari.connected, "the socket")
    pid = asterisk.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: frozen(pid), "every thread to have stopped")
        with pytest.raises(AriUnavailable, match=r"no answer from Asterisk in 0\.2 s"):
            await ari.request("GET", "asterisk/ping", timeout_s=0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ari.counts["request_timeouts"] == 1
    await until(lambda: ari.counts["late_responses"] == 1, "the late answer to be counted")
    await stopped(running)


async def test_asterisk_dies_and_comes_back(rig: MakeRig, root: Root, tmp_path: Path) -> None:
    config = test_config(tmp_path / "ast")
    async with Asterisk(config, root) as first:
        node = await rig(
            StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=500),
            asterisk={"http_port": config.http_port, "sip_port": config.sip_port, "password": config.ari_password},
        )
        node.asterisk = first
        async with node.phone() as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: not node.ari.connected, "the loss to be noticed")
        async with Asterisk(config, root) as second:
            assert (await node.ended()).reason is Reason.SWITCH_LOST
            await node.nothing_left()
            node.asterisk = second
            async with node.phone() as phone:
                await phone.dial("100")
                assert await phone.wait_answered()
                await phone.hear_agent_start()
                await phone.hang_up()
            assert (await node.ended(2)).reason is Reason.CALLER_HANGUP
    assert node.of(model.CallEnded)[0].outcome.fault == "switch"


async def test_a_socket_that_drops_in_a_call_does_not_end_the_call(rig: MakeRig) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC, answer_ms=500))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await node.ari.drop()
        await until(lambda: node.ari.counts["reconnects"] == 1 and node.ari.connected, "the socket to come back")
        assert node.of(model.CallEnded) == []
        await phone.hang_up()
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    await node.nothing_left()
