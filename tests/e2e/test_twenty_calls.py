"""Twenty calls of every kind through one node: records, metrics, alerts and panels tell of the same twenty.

What happened is taken from the phones, from the desk and from what the test did; each caller dials a number of its own,
so that its record is known by it. The sums of the metrics are compared with the sums over the records.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio

from grafana import picture
from sipagent.asterisk import services, trunks
from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.config import load
from sipagent.dialogue import Line, converse
from sipagent.phone.phone import CallSummary, Phone
from sipagent.speech import Flite
from sipagent.standin.config import StandinConfig
from sipagent.standin.faults import Faults
from sipagent.standin.server import StandinServer
from tests.asterisk.fixtures import test_config as make_config
from tests.e2e.desk import ANSWERS, BUSY, desk
from tests.e2e.test_api_calls import post
from tests.e2e.test_processes import get, on, phone_on, ready, sipagent
from tests.e2e.test_transfers import INTENT, SCRIPT, say
from tests.grafana.prometheus import Prometheus, prometheus
from tests.grafana.test_dashboards import BOARDS, queries
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

QUOTA = 10
CONFIG = """
[realtime]
url = "{url}"
session_quota = {quota}
[agents.reception]
instructions = "Be brief."
greeting = "Hello."
transfers = ["sales", "boss"]
[numbers]
{numbers}
[trunks.sales]
preset = "generic-ip"
hosts = ["127.0.0.1:{answers}"]
qualify = 0
[trunks.boss]
preset = "generic-ip"
hosts = ["127.0.0.1:{busy}"]
qualify = 0
[dials.sales]
number = "401"
trunk = "sales"
[dials.boss]
number = "402"
trunk = "boss"
[transfers.sales]
description = "Sales."
to = "dial:sales"
[transfers.boss]
description = "Anna."
to = "dial:boss"
[outbound]
trunks = ["boss"]
detect = false
[dial_policy]
allow = ["401", "402"]
"""
ANSWERS_TO = """
[[intent]]
name = "hours"
phrases = ["what are your opening hours"]
reply = "From nine to five."
[[intent]]
name = "address"
phrases = ["what is your address"]
reply = "We are at twelve Harbour Street, in the old town, opposite the railway station. There is a bus as well."
"""
KINDS = {"talk": 5, "interrupt": 4, "transfer": 3, "boss_busy": 2, "model_away": 4, "outbound_busy": 2}
AT_ONCE = 2
"""Callers: more would make the machine, not the node, late."""


@dataclass
class Happened:
    """What the test knows, without asking the product."""

    prometheus: Prometheus
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By kind."""
    phones: dict[str, CallSummary] = field(default_factory=dict)
    """By the number that was dialled."""
    turned_away: int = 0
    """By the model, beyond the sessions that it gives: a session of a call that is over was still open."""

    @property
    def all(self) -> list[dict[str, Any]]:
        return [record for records in self.records.values() for record in records]

    @property
    def latencies_ms(self) -> list[float]:
        """Of every turn that followed something the caller said."""
        turns = (turn["latency_ms"] for record in self.all for turn in record["history"]["turns"])
        return [latency for latency in turns if latency is not None]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Of all records."""
        return [event for record in self.all for event in record["history"]["events"] if event["type"] == kind]

    async def by(self, label: str, query: str) -> dict[str, float]:
        """What a query gives, by one of its labels; what is 0 left out."""
        result = (await self.prometheus.get("query", query=query))["result"]
        found = {series["metric"][label]: float(series["value"][1]) for series in result}
        return {name: value for name, value in found.items() if value}

    async def counted(self, query: str) -> float:
        """The sum of what a query gives; 0 where there is nothing."""
        return sum(await self.prometheus.values(query))

    async def panel(self, board: str, title: str, label: str = "") -> Any:
        """What the first query of a panel shows: one value, or several by a label."""
        query = next(query for name, query in queries(BOARDS[board]) if name == title)
        if label:
            return await self.by(label, query)
        (value,) = await self.prometheus.values(query)
        return value


def number(kind: str, index: int) -> str:
    return f"{100 + 10 * list(KINDS).index(kind) + index}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def happened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Happened]:
    """After the twenty."""
    root = fetch(("asterisk", "sipp", "flite", "prometheus"))
    folder = tmp_path_factory.mktemp("twenty")
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        answers = await start(desk(root.command("sipp"), ANSWERS, folder))
        busy = await start(desk(root.command("sipp"), BUSY, folder))
        standin = await start(StandinServer(_standin(folder, root)))
        file = folder / "sipagent.toml"
        numbers = "\n".join(
            f'"{number(kind, at)}" = "reception"'
            for kind, count in KINDS.items() if kind != "outbound_busy" for at in range(count)
        )  # fmt: skip
        file.write_text(CONFIG.format(url=standin.url, quota=QUOTA, answers=answers, busy=busy, numbers=numbers))
        settings = load(file)
        files = trunks.files(settings.asterisk, settings.trunks) | services.files(settings)
        asterisk = await start(Asterisk(make_config(folder / "asterisk", files=files), root))
        env = {**on(asterisk, folder / "run"), "XAI_API_KEY": "key"}
        await start(sipagent(env, "run", "--config", str(file)))
        await ready(env)
        server = await start(prometheus(root, folder, int(env["SIPAGENT_CONTROL__PORT"]), asterisk.config.http_port))
        it = Happened(server)
        await until(partial(server.shows, "sum(up) == 2"), "Prometheus to ask both targets")
        callers = Callers(it, env, partial(phone_on, asterisk, root), root, standin)
        for kind, count in KINDS.items():
            standin.faults = Faults(refuse=503) if kind == "model_away" else Faults()
            await callers.call(kind, count)
        await server.scraped()
        it.turned_away = standin.turned_away
        yield it


def _standin(folder: Path, root: Root) -> StandinConfig:
    def hand_over(target: str, phrase: str) -> str:
        return INTENT.format(
            name=target, phrase=phrase, tool="transfer_call", arguments=f'target = "{target}", summary = "A flat tyre."'
        )

    script = folder / "script.toml"
    script.write_text(
        SCRIPT + ANSWERS_TO + hand_over("sales", "connect me to sales") + hand_over("boss", "where is my order")
    )
    return StandinConfig(script=script, flite=tuple(root.command("flite")), max_sessions=QUOTA)


@dataclass
class Callers:
    """They call, and their records are looked up afterwards."""

    it: Happened
    env: dict[str, str]
    phone: Callable[[], Phone]
    root: Root
    standin: StandinServer

    async def call(self, kind: str, count: int) -> None:
        """All of a kind, a few at a time; then their records."""
        room = asyncio.Semaphore(AT_ONCE)
        caller: Callable[[str], Awaitable[None]] = getattr(self, kind)

        async def one(index: int) -> None:
            async with room:
                await caller(number(kind, index))

        await asyncio.gather(*map(one, range(count)))
        self.it.records[kind] = await self._records(kind, count)

    async def _records(self, kind: str, count: int) -> list[dict[str, Any]]:
        wanted = {"402"} if kind == "outbound_busy" else {number(kind, index) for index in range(count)}
        found: list[dict[str, Any]] = []

        async def written() -> bool:
            calls = (await get(self.env, "/v1/calls?limit=100"))[1]["calls"]
            found[:] = [call for call in calls if call["dst"] in wanted and call["state"] == "ended"]
            return len(found) == count

        await until(written, f"{count} record(s) of {kind}")
        return [(await get(self.env, f"/v1/calls/{call['id']}"))[1] for call in found]

    async def _converse(self, dialled: str, *lines: Line) -> None:
        async with self.phone() as phone:
            speak = Flite(self.root.command("flite"), "kal16").synthesize
            self.it.phones[dialled] = await converse(phone, dialled, lines, speak)

    async def talk(self, dialled: str) -> None:
        await self._converse(dialled, Line("what are your opening hours"))

    async def interrupt(self, dialled: str) -> None:
        await self._converse(dialled, Line("what is your address"), Line("what are your opening hours", interrupt=True))

    async def _hand_over(self, dialled: str, words: str) -> Phone:
        async with self.phone() as phone:
            await phone.dial(dialled)
            await phone.hear_agent_start()
            await say(phone, self.root, words)
            await until(partial(self._is_transferred, dialled), "the desk to be there, or not")
            await phone.wait_quiet(1500)  # the answer is heard, or the agent says why not
            await phone.hang_up()
            self.it.phones[dialled] = phone.summary()
            return phone

    async def _is_transferred(self, dialled: str) -> bool:
        """Somebody has taken the call, or has not."""
        live = (await get(self.env, "/v1/calls/live"))[1]["calls"]
        for call in live:
            if call["called"] == dialled:
                record = (await get(self.env, f"/v1/calls/{call['call_id']}"))[1]
                return any(one["type"] == "transfer_ended" for one in record.get("history", {}).get("events", []))
        return False

    async def transfer(self, dialled: str) -> None:
        await self._hand_over(dialled, "connect me to sales")

    async def boss_busy(self, dialled: str) -> None:
        await self._hand_over(dialled, "where is my order")

    async def model_away(self, dialled: str) -> None:
        async with self.phone() as phone:
            await phone.dial(dialled)
            await phone.wait_ended(15)
            self.it.phones[dialled] = phone.summary()

    async def outbound_busy(self, _: str) -> None:
        assert (await post(self.env, "/v1/calls", {"to": "402", "agent": "reception"}))[0] == 201


EXPECTED = {
    # disposition, result, turns, barge-ins
    "talk": ("ANSWERED", "success", 1, 0),
    "interrupt": ("ANSWERED", "success", 2, 1),
    "transfer": ("ANSWERED", "success", 1, 0),
    "boss_busy": ("ANSWERED", "success", 1, 0),
    "model_away": ("ANSWERED", "failure", 0, 0),
    "outbound_busy": ("BUSY", "abandoned", 0, 0),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_record_tells_what_happened(happened: Happened, kind: str) -> None:
    records = happened.records[kind]
    assert len(records) == KINDS[kind]
    facts = [(record["disposition"], record["result"], record["turns"], record["barge_ins"]) for record in records]
    assert facts == [EXPECTED[kind]] * len(records)
    assert happened.turned_away == 0
    transfers = [[(one["target"], one["result"]) for one in record["history"]["transfers"]] for record in records]
    assert transfers == [{"transfer": [("sales", "answered")], "boss_busy": [("boss", "busy")]}.get(kind, [])] * len(
        records
    )


async def test_turns_took_what_the_phones_heard(happened: Happened) -> None:
    for record in (*happened.records["talk"], *happened.records["interrupt"]):
        waits = [turn["latency_ms"] for turn in record["history"]["turns"] if turn["latency_ms"] is not None]
        heard = [turn.response_ms for turn in happened.phones[record["dst"]].turns if turn.response_ms is not None]
        assert waits == pytest.approx(heard, abs=120)  # the phone's ear ends a word a little later


async def test_metrics_count_the_same_calls(happened: Happened) -> None:
    it = happened
    assert await it.by("direction", "sum by (direction) (sipagent_calls_offered_total)") == {"in": 18, "out": 2}
    assert await it.by("trunk", "sum by (trunk) (sipagent_calls_answered_total)") == {"phone": 18}
    for label in ("result", "reason"):
        counted = await it.by(label, f"sum by ({label}) (sipagent_calls_ended_total)")
        assert counted == Counter(record[label] for record in it.all)
    assert await it.by("fault", 'sum by (fault) (sipagent_calls_finished_total{result="failure"})') == {"provider": 4}
    for target, result, count in (("sales", "answered", 3), ("boss", "busy", 2)):
        query = f'sipagent_transfers_total{{target="{target}"}}'
        assert await it.by("result", query) == {result: count}
    assert await it.by("result", 'sipagent_legs_ended_total{purpose="transfer"}') == {"answered": 3, "busy": 2}
    assert await it.counted('sipagent_call_mos_count{direction="caller_to_model"}') == 18


async def test_metrics_tell_the_same_times_to_the_millisecond(happened: Happened) -> None:
    stops = [event["stop_ms"] for event in happened.events("barge_in") if event["stop_ms"] is not None]
    for name, seconds in {
        "turn_latency": [latency / 1000 for latency in happened.latencies_ms],
        "barge_in_stop": [stop / 1000 for stop in stops],
        "call_duration": [record["duration"] for record in happened.all],
        "call_setup": [record["setup_ms"] / 1000 for record in happened.all if record["setup_ms"] is not None],
    }.items():
        count = await happened.counted(f"sipagent_{name}_seconds_count")
        total = await happened.counted(f"sipagent_{name}_seconds_sum")
        assert count == len(seconds), name
        assert total == pytest.approx(sum(seconds), abs=0.001), name


async def test_exactly_the_alerts_of_a_model_that_is_away(happened: Happened) -> None:
    alerts = (await happened.prometheus.get("alerts"))["alerts"]
    assert {alert["labels"]["alertname"] for alert in alerts} == {
        "ModelFailsCalls", "CallsFailFast", "CallsFailSlowly",
    }  # fmt: skip


async def test_panels_show_it(happened: Happened) -> None:
    it, records = happened, happened.all
    failed = Counter(record["reason"] for record in records if record["result"] != "success")
    shown = {
        reason: round(calls)
        for reason, calls in (await it.panel("sipagent-noc", "Failed calls by reason", "reason")).items()
    }
    assert shown == failed
    assert await it.panel("sipagent-noc", "Legs out by trunk and result", "result") == {"answered": 3, "busy": 4}
    assert await it.panel("sipagent-model", "Calls failed by the provider, 1 h") == 4
    assert await it.panel("sipagent-noc", "Active calls") == 0
    assert await it.panel("sipagent-noc", "Calls served, 1 h") == pytest.approx(16 / 20, abs=0.01)
    assert await it.panel("sipagent-noc", "Turns within 1.5 s, 1 h") == pytest.approx(
        mean(latency < 1500 for latency in it.latencies_ms), abs=0.01
    )
    assert await it.panel("sipagent-noc", "MOS") == pytest.approx(
        mean(record["mos"] for record in records if record["mos"] is not None), abs=0.1
    )
    worst = max(it.latencies_ms) / 1000
    assert await it.panel("sipagent-noc", "Ear to ear, p95") == pytest.approx(worst, abs=0.3)  # a bucket's width
    assert await it.panel("sipagent-switch", "Calls since the start") == 18  # as Asterisk counts them


async def test_no_query_of_any_panel_fails(happened: Happened) -> None:
    for board in BOARDS.values():
        await asyncio.gather(*(happened.prometheus.values(query) for _, query in queries(board)))


@pytest.mark.parametrize("board", sorted(BOARDS))
async def test_a_picture_of_each_dashboard(happened: Happened, board: str, tmp_path: Path) -> None:
    """Those of the docs are made by SIPAGENT_PICTURES=docs/pictures; Grafana itself cannot run here."""
    file = picture.DASHBOARDS / f"{board}.json"
    drawn = await asyncio.to_thread(picture.draw, happened.prometheus.url, file, 3.0)
    texts = [node.text or "" for node in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    for panel in BOARDS[board]["panels"]:
        assert any(panel["title"].startswith(text.removesuffix("..")) for text in texts if text), panel["title"]
    if board == "sipagent-noc":
        assert any(text.startswith("realtime_") for text in texts)  # the model that was away
    folder = Path(os.environ.get("SIPAGENT_PICTURES", tmp_path))
    (folder / f"{board.removeprefix('sipagent-')}.svg").write_text(drawn)
