"""A worker that has started reads no module any more: each would be a wait of all its calls for the disk."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from numpy import frombuffer

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import resample
from sipagent.phone.phone import Phone
from sipagent.speech import Flite
from sipagent.standin.config import StandinConfig
from sipagent.standin.server import StandinServer
from tests import sounds
from tests.e2e.test_processes import on, phone_on, ready, sipagent
from tests.e2e.test_tools import script
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception of a shop that sells bicycles, and lamps, and everything else for the road."
tools = ["slow"]
record = true
[tools.slow]
kind = "python"
function = "shop:waits"
filler = "Let me see."
[recording]
announcement = "This call is recorded."
[hours.office]
timezone = "Europe/London"
week = { mon-sun = "00:00-24:00" }
holidays = { country = "GB", subdivision = "ENG" }
ics = "closed.ics"
[[routes]]
to = "100"
hours = "office"
go = "agent:reception"
[[routes]]
to = "100"
go = "agent:reception"
[[routes]]
to = "200"
go = "menu:main"
[menus.main]
prompt = "Press one for an order."
words = { "1" = "an order" }
[menus.main.keys]
"1" = "collect:order"
[collects.order]
prompt = "Please enter your number."
variable = "account"
max_digits = 3
confirm = true
then = "voicemail:office"
[mailboxes.office]
"""
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//sipagent//tests//EN
BEGIN:VEVENT
UID:1
DTSTAMP:20200101T000000Z
DTSTART;VALUE=DATE:20200101
RRULE:FREQ=YEARLY
SUMMARY:closed
END:VEVENT
END:VCALENDAR
"""


@asynccontextmanager
async def shop(asterisk: Asterisk, root: Root, folder: Path) -> AsyncIterator[tuple[dict[str, str], Path]]:
    """Its environment and configuration; the model is ours."""
    async with StandinServer(StandinConfig(script=script(folder), flite=tuple(root.command("flite")))) as server:
        config = folder / "sipagent.toml"
        config.write_text(CONFIG)
        (folder / "closed.ics").write_text(CALENDAR)
        shutil.copy(Path(__file__).parents[1] / "tools" / "shop.py", folder)
        yield on(asterisk, folder / "run", REALTIME__URL=server.url, REALTIME__API_KEY="k", LOG__FORMAT="json"), config


async def voice(root: Root, words: str) -> bytes:
    pcm, rate_hz = await Flite(root.command("flite"), "slt").synthesize(words)
    return b"".join(sounds.frames(frombuffer(resample(pcm, rate_hz, 8000), "<i2").astype(float)))


async def talk(phone: Phone, root: Root) -> None:
    """They are told that they are recorded, interrupt, ask for what a tool knows, and go."""
    await phone.dial("100")
    assert await phone.wait_answered()
    await until(lambda: len(phone.media.voiced_in) > 150, "the announcement, and three seconds of the greeting")
    await phone.say(await voice(root, "Where is my order? Where is my order?"))
    await phone.wait_quiet(2000)
    await phone.hang_up()


async def choose(phone: Phone) -> None:
    """Through a menu that listens, to a mailbox."""
    await phone.dial("200")
    assert await phone.wait_answered()
    await phone.hear_agent_start()
    await phone.press("1")
    await phone.wait_quiet(1000)
    await phone.press("123")
    await phone.wait_quiet(1000)
    await phone.press("1")
    await phone.wait_quiet(1000)
    await phone.hang_up()


async def test_calls_of_many_kinds_import_nothing(asterisk: Asterisk, root: Root, tmp_path: Path) -> None:
    async with (
        shop(asterisk, root, tmp_path) as (env, config),
        sipagent(env, "run", "--config", str(config)) as node,
    ):
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await talk(phone, root)
        async with phone_on(asterisk, root) as phone:
            await choose(phone)
        node.terminate()
        async with asyncio.timeout(10):
            told, _ = await node.communicate()
    lines = [json.loads(line) for line in told.splitlines()]
    assert {"tool_returned", "recording_started"} <= {line["event"] for line in lines}
    assert [line["barge_ins"] > 0 for line in lines if line["event"] == "call_ended"] == [True, False]
    assert [line["module"] for line in lines if line["event"] == "imported_late"] == []
