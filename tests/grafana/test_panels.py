"""Every panel of every dashboard shows something, asked of a real Prometheus that asked a real node.

The node is `sipagent run` with a worker of its own, on a real Asterisk, called by a real SIP client: turns, an
interruption, a transfer to somebody who is busy, a model that refuses. What is dear to provoke by calls (queues, call-
backs, supervisors, ...) is fed as a worker's events through the same node's own link, so that the way from there on
(live state, instruments, HTTP, Prometheus, query) is the real one. Everything happens twice, since a rate needs two.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, unix_connect

from grafana.picture import DASHBOARDS, draw
from sipagent import model, orders
from sipagent.asterisk import services, trunks
from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.run import Asterisk
from sipagent.audio import SAMPLE_RATE_HZ, Law, resample
from sipagent.audio import encode as encode_audio
from sipagent.config import load
from sipagent.link import encode
from sipagent.outcome import Reason
from sipagent.phone.phone import Phone
from sipagent.standin.faults import Faults
from sipagent.standin.server import StandinServer
from tests.asterisk.fixtures import test_config as make_config
from tests.e2e.desk import BUSY, desk, says
from tests.e2e.test_api_calls import post
from tests.e2e.test_processes import on, phone_on, ready, sipagent
from tests.e2e.test_transfers import say, script
from tests.grafana.prometheus import Prometheus, prometheus
from tests.grafana.test_dashboards import BOARDS, queries
from tests.observe import story
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[realtime]
url = "{url}"
price_per_minute = 0.05
session_quota = 10
[recording]
announcement = ""
[agents.reception]
instructions = "Be brief."
greeting = "Hello."
record = true
transfers = ["boss"]
tools = ["order_status"]
digits = ["card"]
messages = ["office"]
[numbers]
"100" = "reception"
[trunks.office]
preset = "generic-ip"
hosts = ["127.0.0.1:{desk}"]
qualify = 0
[queues.sales]
members = ["401@office"]
[menus.main]
prompt = "Press one."
keys = {{ "1" = "queue:sales" }}
[mailboxes.office]
greeting = "Leave a message."
[trunks.carrier]
preset = "generic-ip"
hosts = ["127.0.0.1:{carrier}"]
qualify = 0
[probes.main]
trunks = ["carrier"]
number = "402"
every_s = 0
listen_s = 1
[dials.desk]
number = "401"
trunk = "office"
[transfers.boss]
description = "Anna."
to = "dial:desk"
[digits.card]
description = "The card's number."
[tools.order_status]
kind = "http"
description = "Where an order is."
url = "https://api.example.com/orders"
"""
TALKATIVE = (
    "I am sorry, nobody is at the desk. You may leave a message, or call again tomorrow from nine in the morning."
)


@dataclass
class Node:
    """What was started, and how to make it do things."""

    phone: Callable[[], Phone]
    standin: StandinServer
    link: ClientConnection
    prometheus: Prometheus
    told: int = 0

    async def tell(self, events: list[model.CallEvent]) -> None:
        await self.link.send(encode([orders.Numbered(self.told + 1), *events]))
        self.told += len(events)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """Prometheus, when it has seen everything; one call is up still."""
    root = fetch(("asterisk", "sipp", "flite", "prometheus"))
    folder = tmp_path_factory.mktemp("node")
    async with AsyncExitStack() as stack:
        desk_port = await stack.enter_async_context(desk(root.command("sipp"), BUSY, folder))
        pcm, rate_hz = await _words(root)
        (folder / "words.ulaw").write_bytes(encode_audio(resample(pcm, rate_hz, SAMPLE_RATE_HZ), Law.ULAW))
        answers = await stack.enter_async_context(desk(root.command("sipp"), says(folder / "words.ulaw"), folder))
        spoken = replace(script(folder, "boss"), flite=tuple(root.command("flite")))
        text = (folder / "script.toml").read_text()
        (folder / "script.toml").write_text(text.replace("Nobody there.", TALKATIVE))
        standin = await stack.enter_async_context(StandinServer(spoken))
        file = folder / "sipagent.toml"
        file.write_text(CONFIG.format(url=standin.url, desk=desk_port, carrier=answers))
        switch = make_config(folder / "asterisk")
        settings = load(file)
        files = trunks.files(settings.asterisk, settings.trunks) | services.files(settings)
        asterisk = await stack.enter_async_context(Asterisk(replace(switch, files=files), root))
        env = {**on(asterisk, folder / "run"), "XAI_API_KEY": "key"}
        await stack.enter_async_context(sipagent(env, "run", "--config", str(file)))
        await ready(env)
        assert (await post(env, "/v1/probes/main", None))[0] == 200  # before the story's link takes the worker's place
        link = await stack.enter_async_context(unix_connect(str(folder / "run/control.sock")))
        await link.send(encode([orders.WorkerHello(1, os.getpid(), "story")]))
        asked = await stack.enter_async_context(
            prometheus(root, folder, int(env["SIPAGENT_CONTROL__PORT"]), asterisk.config.http_port)
        )
        it = Node(lambda: phone_on(asterisk, root), standin, link, asked)
        for round_ in range(2):
            await _everything_happens(it, root, round_)
            await asked.scraped()
        phone = await stack.enter_async_context(it.phone())
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, "what is your address")
        await until(partial(asked.shows, "sipagent_live_call_turn_latency_seconds"), "its first answer")
        await asked.scraped()
        yield asked


async def _everything_happens(it: Node, root: Any, round_: int) -> None:
    now = time.time()
    fed = [*story.everything(f"1.{round_}", now - 40), *story.outbound(f"out-{round_}", now - 40)]
    for number in range(4):
        call = f"2.{round_}{number}"
        fed += [*story.opened(call, now - 40), *story.ended(call, now - 2, Reason.REALTIME_LOST)]
    await it.tell([event for event in fed if not isinstance(event, model.Transcript)])
    async with it.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, "connect me to sales")  # somebody is busy, and the agent explains
        await phone.wait_quiet(300)
        await phone.hear_agent_start()
        pcm, rate_hz = await _words(root)
        await phone.say_pcm(pcm, rate_hz)  # ... for too long
        await phone.wait_ended(10)
    it.standin.faults = Faults(refuse=503)
    async with it.phone() as phone:
        await phone.dial("100")
        await phone.wait_ended(10)
    it.standin.faults = Faults()


async def _words(root: Any) -> tuple[Any, int]:
    from sipagent.speech import Flite  # noqa: PLC0415

    return await Flite(root.command("flite"), "kal16").synthesize("where is my order")


@pytest.mark.parametrize("uid", BOARDS)
async def test_every_panel_shows_something(seen: Prometheus, uid: str) -> None:
    async def empty(title: str, query: str) -> str:
        return "" if await seen.values(query) else f"{title}: {query}"

    asked = queries(BOARDS[uid])
    assert asked
    nothing = [one for one in await asyncio.gather(*(empty(*query) for query in asked)) if one]
    assert nothing == []


async def test_a_panel_that_asks_for_what_nobody_exports_would_be_noticed(seen: Prometheus) -> None:
    assert await seen.values('rate(sipagent_turns_latency_seconds_count{instance=~".+"}[1m])') == []
    with pytest.raises(AssertionError, match="parse error"):
        await seen.values("sum by (")


async def test_real_calls_are_what_it_shows(seen: Prometheus) -> None:
    """What only the real calls can have brought: they came from the phone."""
    asked = {
        "calls": 'sipagent_calls_offered_total{trunk="phone"}',
        "turns": 'sipagent_turn_latency_seconds_count{trunk="phone", model="sipagent-standin-1"} > 2',
        "interruptions": 'sum(sipagent_barge_in_stop_seconds_count) > 0',
        "transfers": 'sipagent_transfers_total{target="boss", how="dial", result="busy"} == 2',
        "refusals": 'sipagent_calls_ended_total{trunk="phone", reason="realtime_refused", fault="provider"} == 2',
        "media": 'sipagent_call_mos_count{trunk="phone", direction="caller_to_switch"} > 0',
        "probes": 'sipagent_probe_up{probe="main", trunk="carrier"} == 1 and sipagent_probe_mos > 4',
        "recordings": 'sipagent_recordings_active{state="on"} == 1',
        "live": 'sipagent_live_call_seconds{trunk="phone", agent="reception", state="answered"}',
        "Asterisk": 'asterisk_endpoints_channels_count{resource="phone"} == 1',
    }  # fmt: skip
    assert [what for what, query in asked.items() if not await seen.values(query)] == []


async def test_prometheus_kept_the_calls_behind_a_bucket(seen: Prometheus) -> None:
    now = time.time()
    found = await seen.get(
        "query_exemplars", query="sipagent_turn_latency_seconds_bucket", start=str(now - 300), end=str(now)
    )
    calls = {exemplar["labels"]["call_id"] for series in found for exemplar in series["exemplars"]}
    assert "2.13" in calls  # the last that was fed
    assert any(re.search(r"\d{10}\.\d+$", call) for call in calls)  # and one of Asterisk's


async def test_no_rule_of_ours_fails(seen: Prometheus) -> None:
    groups = (await seen.get("rules"))["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []


async def test_an_alert_names_the_node_and_links_to_its_page(seen: Prometheus) -> None:
    alerts = {alert["labels"]["alertname"]: alert for alert in (await seen.get("alerts"))["alerts"]}
    failing = alerts["ModelFailsCalls"]["annotations"]  # eight calls were lost to the model, and two refused by it
    assert failing["summary"].startswith("node-1: ")
    assert failing["runbook_url"] == "https://runbooks.test/ModelFailsCalls.md"


async def test_no_caller_is_named_in_any_series(seen: Prometheus) -> None:
    """Asterisk names channels in labels; they are dropped where Prometheus takes them in."""
    targets = (await seen.get("targets"))["activeTargets"]
    (url,) = [target["scrapeUrl"] for target in targets if target["labels"]["job"] == "asterisk"]
    async with seen.http.get(url) as response:
        assert "PJSIP/phone-" in await response.text()
    labels = set(await seen.get("labels"))
    values = [value for label in labels for value in await seen.get(f"label/{label}/values")]
    assert not [value for value in values if re.search(r"\+44|PJSIP/phone-", value)]


async def test_a_picture_is_drawn_of_it(seen: Prometheus) -> None:
    svg = ET.fromstring(await asyncio.to_thread(draw, seen.url, DASHBOARDS / "sipagent-noc.json", 0.5))
    words = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Node", "On", "Ear to ear, p95", "p99"} <= words
