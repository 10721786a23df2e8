"""More callers than there is room for: each hears a voice, waits in line or goes elsewhere, and none is forgotten."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import Prompts, current_folder
from sipagent.limits import CORE
from sipagent.outcome import Reason
from sipagent.phone.phone import Phone
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import Faults, parse_faults
from sipagent.standin.server import StandinServer
from sipagent.tones import looped
from tests.e2e.conftest import MakeRig
from tests.e2e.test_processes import get, metrics, on, phone_on, ready, sipagent
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

NOBODY_FREE, BUSY, NUMBER = "Nobody is free.", "All our lines are busy. Please hold.", "You are number"
CONFIG = f"""
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
fallback = "announcement:full"
[announcements.full]
prompt = "{NOBODY_FREE}"
[numbers]
"100" = "reception"
"""
QUOTA = (
    CONFIG
    + """
[realtime]
session_quota = 1
[realtime.waiting]
"""
)


class Node:
    """Processes of ours, what they say of themselves, and those who call."""

    def __init__(self, env: dict[str, str], asterisk: Asterisk, root: Root, stack: AsyncExitStack) -> None:
        self.env, self._asterisk, self._root, self._stack = env, asterisk, root, stack

    async def live(self) -> list[dict[str, Any]]:
        """Calls that are up, oldest first."""
        return list((await get(self.env, "/v1/calls/live"))[1].get("calls", []))

    async def call(self, number: str = "100") -> Phone:
        """Somebody calls, and stays until the end of the test."""
        phone = await self._stack.enter_async_context(phone_on(self._asterisk, self._root))
        await phone.dial(number)
        return phone

    async def until_places(self, *places: int) -> None:
        """Who is at which place in line, oldest call first; 0 has a session."""
        seen: list[Any] = []

        async def so() -> bool:
            seen[:] = [(call["place"], bool(call["model"])) for call in await self.live()]
            return seen == [(place, place == 0) for place in places]

        await until(so, lambda: f"places {places}, and not {seen}")

    async def until_hears(self, phone: Phone, text: str, then: bytes = b"") -> None:
        """They hear this prompt, sample by sample, and something after it."""
        prompts = Prompts(current_folder(Path(self.env["SIPAGENT_RUN_DIR"]) / "prompts"))
        said = prompts.get(Phrase(text), Law.ULAW).strip(b"\xff")[:8000]

        def are_heard() -> bool:
            _, heard, after = phone.media.received_payload().partition(said)
            return bool(heard) and then in after

        await until(are_heard, f"{text!r} to be heard")

    async def records(self, calls: int) -> list[dict[str, Any]]:
        """Of so many calls that are over, oldest first, with their events."""
        rows: list[dict[str, Any]] = []

        async def so() -> bool:
            rows[:] = [row for row in (await get(self.env, "/v1/calls"))[1]["calls"] if row["state"] == "ended"]
            return len(rows) == calls

        await until(so, lambda: f"{calls} ended calls in the records, and not {len(rows)}")
        return [(await get(self.env, f"/v1/calls/{row['id']}"))[1] for row in reversed(rows)]

    async def figure(self, name: str) -> float:
        """Of /metrics."""
        lines = [line for line in (await metrics(self.env)).splitlines() if line.startswith(f"sipagent_{name} ")]
        return float(lines[0].split(" ")[1]) if lines else 0.0


@asynccontextmanager
async def node(
    asterisk: Asterisk, root: Root, folder: Path, config: str, workers: int = 1, standin: StandinServer | None = None
) -> AsyncIterator[Node]:
    """It runs, and takes calls; its model is this one, or one of its own."""
    file = folder / "sipagent.toml"
    file.write_text(config)
    env = on(asterisk, folder / "run", CONTROL__WORKERS=workers)
    if standin:
        env |= {"SIPAGENT_REALTIME__URL": standin.url, "XAI_API_KEY": "key"}
    # The module's Asterisk was started for one worker: without this its dialplan would never try the second.
    await asterisk.cli(f"dialplan set global SIPAGENT_WORKERS {max(workers, 1)}")
    try:
        options = ["--config", str(file), *([] if standin else ["--standin"])]
        async with sipagent(env, "run", *options), AsyncExitStack() as stack:
            await ready(env)
            yield Node(env, asterisk, root, stack)
    finally:
        await asterisk.cli("dialplan set global SIPAGENT_WORKERS 1")


@asynccontextmanager
async def full_node(
    asterisk: Asterisk, root: Root, folder: Path, config: str = QUOTA, workers: int = 1
) -> AsyncIterator[Node]:
    """The model gives one session, as we are told: it turns away who comes beyond it, and never has to."""
    async with StandinServer(StandinConfig(flite=tuple(root.command("flite")), max_sessions=1)) as standin:
        async with node(asterisk, root, folder, config, workers, standin) as it:
            yield it
        assert standin.turned_away == 0


def of(record: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in record["history"]["events"] if event["type"] == kind]


async def hears_the_agent(phone: Phone) -> None:
    """After the music."""
    await phone.wait_quiet(150)
    heard = len(phone.media.voiced_in)
    await until(lambda: len(phone.media.voiced_in) > heard + 10, "the agent's voice")


@pytest.mark.parametrize("workers", [0, 1, 2])
async def test_who_finds_every_session_taken_waits_in_line(
    asterisk: Asterisk, root: Root, tmp_path: Path, workers: int
) -> None:
    async with full_node(asterisk, root, tmp_path, workers=workers) as it:
        first = await it.call()
        await it.until_places(0)
        second = await it.call()
        await it.until_places(0, 1)
        third = await it.call()
        await it.until_places(0, 1, 2)
        assert await it.figure("realtime_waiting") == 2
        await it.until_hears(third, BUSY)
        await it.until_hears(third, NUMBER)
        await it.until_hears(third, "two")
        await first.hang_up()
        await it.until_places(0, 1)
        await hears_the_agent(second)
        await second.hang_up()
        await it.until_places(0)
        await third.hang_up()
        records = await it.records(3)
    assert [record["reason"] for record in records] == ["caller_hangup"] * 3
    assert [bool(of(record, "agent_spoke")) for record in records[:2]] == [True, True]
    assert [[event["place"] for event in of(record, "waiting_for_session")] for record in records] == [[], [1], [2, 1]]
    assert [[event["result"] for event in of(record, "waited_for_session")] for record in records] == [
        [], ["granted"], ["granted"],
    ]  # fmt: skip
    assert "0 active channels" in await asterisk.cli("core show channels count")


async def test_nobody_waits_longer_than_the_operator_wants(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with full_node(asterisk, root, tmp_path, QUOTA + "at_most_s = 1\ncallers = 1\n") as it:
        first = await it.call()
        await it.until_places(0)
        second, third = await it.call(), await it.call()
        await it.until_hears(second, NOBODY_FREE)
        await it.until_hears(third, NOBODY_FREE)
        await it.records(2)
        await first.hang_up()
        records = await it.records(3)
    assert [record["reason"] for record in records[1:]] == ["completed", "completed"]
    results = [event["result"] for record in records for event in of(record, "waited_for_session")]
    assert results == ["gave_up", "gave_up"]
    # The second in line was one too many, and was not kept waiting.
    assert sum(len(of(record, "waiting_for_session")) for record in records) == 1


async def test_who_hangs_up_in_line_leaves_it(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with full_node(asterisk, root, tmp_path, workers=2) as it:
        first = await it.call()
        await it.until_places(0)
        second = await it.call()
        await it.until_places(0, 1)
        third = await it.call()
        await it.until_places(0, 1, 2)
        await second.hang_up()
        await it.until_places(0, 1)
        await first.hang_up()
        await it.until_places(0)
        await third.hang_up()
        records = await it.records(3)
    assert [[event["result"] for event in of(record, "waited_for_session")] for record in records] == [
        [], ["left"], ["granted"],
    ]  # fmt: skip


async def test_an_adopted_call_keeps_its_session_from_those_who_wait(
    asterisk: Asterisk, root: Root, tmp_path: Path
) -> None:
    """Also while the provider still counts the dead worker's, and turns the adopted call away."""
    config = StandinConfig(flite=tuple(root.command("flite")), max_sessions=1)
    async with StandinServer(config) as standin, node(asterisk, root, tmp_path, QUOTA, 2, standin) as it:
        first = await it.call()
        await it.until_places(0)
        [talks] = await it.live()
        standin.faults = parse_faults(["refuse=429"])
        workers = (await get(it.env, "/readyz"))[1]["workers"]
        os.kill(next(one["pid"] for one in workers if one["worker"] == talks["worker"]), signal.SIGKILL)
        second = await it.call()

        async def told() -> list[str]:
            events = (await get(it.env, f"/v1/calls/{talks['call_id']}"))[1].get("history", {}).get("events", [])
            return [event["type"] for event in events]

        async def is_turned_away() -> bool:
            return "realtime_trouble" in (await told())[before:]

        async def goes_on() -> bool:
            return (await told()).count("session_opened") == 2

        await it.until_places(0, 1)
        before = len(await told())
        await until(is_turned_away, "the model to turn the adopted call away while somebody waits")
        standin.faults = Faults()
        await until(goes_on, "the adopted call's session")
        await it.until_places(0, 1)
        await first.hang_up()
        await it.until_places(0)
        await second.hang_up()
        records = await it.records(2)
    assert [record["reason"] for record in records] == ["caller_hangup"] * 2
    assert [len(of(record, "call_adopted")) for record in records] == [1, 0]
    assert [event["endpoint"] for event in of(records[0], "session_opened")] == ["main", "main"]
    assert of(records[0], "waiting_for_session") == []


@pytest.mark.parametrize("lost", ["session", "worker"])
async def test_who_talks_already_and_finds_every_session_taken_waits_in_line_and_goes_on(
    asterisk: Asterisk, root: Root, tmp_path: Path, lost: str
) -> None:
    """There is room by our count; the provider still counts the session that is no more."""
    config = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=600)
    async with StandinServer(config) as standin, node(asterisk, root, tmp_path, QUOTA, 2, standin) as it:
        phone = await it.call()
        await phone.hear_agent_start()
        await phone.wait_quiet(400)
        [talks] = await it.live()
        standin.faults = parse_faults(["refuse=429"])
        if lost == "session":
            standin.misbehave(parse_faults(["drop@0"]))
        else:
            workers = (await get(it.env, "/readyz"))[1]["workers"]
            os.kill(next(one["pid"] for one in workers if one["worker"] == talks["worker"]), signal.SIGKILL)
        await it.until_hears(phone, BUSY, looped("hold", Law.ULAW)[:1600])
        standin.faults = Faults()

        async def is_answered() -> bool:
            told = (await get(it.env, f"/v1/calls/{talks['call_id']}"))[1].get("history", {}).get("events", [])
            kinds = [event["type"] for event in told]
            return (
                "agent_spoke" in kinds[kinds.index("waited_for_session") :] if "waited_for_session" in kinds else False
            )

        await until(is_answered, "the agent's voice")
        await phone.hang_up()
        [record] = await it.records(1)
    assert record["reason"] == "caller_hangup"
    assert [event["result"] for event in of(record, "waited_for_session")] == ["granted"]
    before, after = of(record, "session_opened")
    assert before["conversation_id"] == after["conversation_id"]


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ("[[routes]]\nto = '200'\ngo = 'agent:reception'\nat_once = 1\n", "route"),
        ("[limits]\nat_once = 1\n", "node"),
        ("[limits]\nper_caller = 1\n", "caller"),
        ("[limits]\nper_second = 0.1\n", "rate"),
    ],
)
async def test_a_caller_too_many_hears_so_and_the_others_talk_on(
    asterisk: Asterisk, root: Root, tmp_path: Path, limits: str, limit: str
) -> None:
    number = "200" if limit == "route" else "100"
    async with node(asterisk, root, tmp_path, CONFIG + limits) as it:
        first = await it.call(number)
        await first.hear_agent_start()
        second = await it.call(number)
        await until(lambda: len(second.media.voiced_in) > 20, "Asterisk's word, as early media")
        await until(lambda: second.ended, "the end of it")
        assert not second.answered
        assert not first.ended
        await first.hang_up()
        records = await it.records(2)
        assert await it.figure(f'calls_turned_away_total{{limit="{limit}"}}') == 1
    assert [record["reason"] for record in records] == ["caller_hangup", "turned_away"]
    assert [event["limit"] for event in of(records[1], "turned_away")] == [limit]


async def test_a_full_route_has_another_way(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    config = CONFIG + "[[routes]]\nto = '200'\ngo = 'agent:reception'\nat_once = 1\nfull = 'announcement:full'\n"
    async with node(asterisk, root, tmp_path, config, workers=2) as it:
        first = await it.call("200")
        await first.hear_agent_start()
        second = await it.call("200")
        await it.until_hears(second, NOBODY_FREE)
        await it.records(1)
        await first.hang_up()
        third = await it.call("200")  # there is room again
        await third.hear_agent_start()
        await third.hang_up()
        records = await it.records(3)
    assert [record["reason"] for record in records] == ["caller_hangup", "completed", "caller_hangup"]


async def test_who_found_no_room_holds_none(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    """They are elsewhere for as long as they like, and the agent takes the next one."""
    wait = "[menus.wait]\nprompt = 'Please wait.'\ntimeout_s = 60\nkeys = { '1' = 'hangup' }\n"
    config = CONFIG + wait + "[[routes]]\nto = '200'\ngo = 'agent:reception'\nat_once = 1\nfull = 'menu:wait'\n"
    async with node(asterisk, root, tmp_path, config) as it:
        first = await it.call("200")
        await first.hear_agent_start()
        second = await it.call("200")
        await it.until_hears(second, "Please wait.")
        await first.hang_up()
        await it.records(1)
        third = await it.call("200")
        await third.hear_agent_start()
        steps = [call["step"] for call in await it.live()]
        assert steps == ["menu:wait", "agent:reception"]


async def test_a_busy_worker_takes_no_call_and_keeps_a_record_of_it(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC))
    monkeypatch.setattr(node.worker.house.gate.load, "too_much", lambda _limits: CORE)
    async with node.phone() as phone:
        await phone.dial("100")
        await until(lambda: len(phone.media.voiced_in) > 20, "Asterisk's word, as early media")
    assert (await node.ended()).reason is Reason.TURNED_AWAY
    assert [event.limit for event in node.of(model.TurnedAway)] == [CORE]
    await node.nothing_left()
