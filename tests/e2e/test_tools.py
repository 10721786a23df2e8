"""Tools in real calls: the caller asks, the stand-in's script calls them as the model would, the toolbox runs them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import FliteVoice, Prompts, prompt_folder, render
from sipagent.model import Role
from sipagent.outcome import Reason
from sipagent.phone.phone import Phone
from sipagent.speech import Flite
from sipagent.standin.config import StandinConfig
from sipagent.standin.server import StandinServer
from sipagent.standin.wire import Event
from sipagent.tones import looped
from sipagent.worker import Worker, needed_prompts
from tests.e2e.conftest import Rig, settings_for
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

FILLER = "Let me see."
TOOLS = {
    "slow": {"kind": "python", "function": "shop:waits", "timeout_s": 60, "filler": FILLER},
    "fails": {"kind": "python", "function": "shop:breaks", "filler": ""},
    "late": {"kind": "python", "function": "shop:sleeps", "timeout_s": 0.5, "filler": ""},
    "weather": {"kind": "python", "function": "shop:weather", "filler": ""},
    "order_status": {"kind": "python", "function": "shop:order_status", "filler": ""},
    "long": {"kind": "python", "function": "shop:long", "filler": ""},
    "marks": {"kind": "python", "function": "shop:marks", "timeout_s": 60},
    "search": {"kind": "web_search", "allowed_domains": ["example.com"]},
}
WORKING = ("slow", "fails", "late", "weather", "order_status", "long", "marks")
ASKED = {  # what the caller says -> the calls that the model makes of it
    "where is my order": [("slow", "{ seconds = 5 }", "Your order is here.")],
    "where is my bicycle": [("slow", "{ seconds = 9 }", "Your order is here.")],
    "what is your address": [("fails", "{}", "No.")],
    "can i speak to a person": [("late", "{ seconds = 30 }", "No.")],
    "tell me about your services": [
        ("weather", '{ city = "York" }', "The weather of {city}."),
        ("order_status", '{ order = "7" }', "The order is {status}."),
    ],
    "are you a computer": [("invented", "{}", "No.")],
    "are you open tomorrow": [("long", "{ chars = 1_000_000 }", "No.")],
    "good morning": [("order_status", "'{\"order\": 5}'", "No.")],
    "thank you very much": [("order_status", "'{\"order\": '", "No.")],
    "what are your opening hours": [("marks", "{ path = '$MARK' }", "No.")],
}  # fmt: skip
SORRY = "I am sorry, that did not work."


def script(folder: Path) -> Path:
    """The model's part, one intent for each line of ASKED."""
    lines = ['greeting = "Hello."', 'fallback = "Pardon?"', 'nudge = "Anything else?"', 'check_in = "Hello?"']
    for phrase, calls in ASKED.items():
        lines += ["[[intent]]", f'name = "{phrase}"', f'phrases = ["{phrase}"]']
        for name, arguments, done in calls:
            given = arguments.replace("$MARK", str(folder / "mark"))
            lines += [
                "[[intent.tool]]", f'name = "{name}"', f"arguments = {given}", f'done = "{done}"',
                f'failed = "{SORRY}"', 'missing = "I cannot do that."', "invented = true",
            ]  # fmt: skip
    file = folder / "script.toml"
    file.write_text("\n".join(lines))
    return file


Make = Callable[..., Awaitable[Rig]]


@pytest_asyncio.fixture(loop_scope="module")
async def shop(asterisk: Asterisk, root: Root, tmp_path: Path) -> AsyncIterator[Make]:
    """`await shop(**changes)`: a node whose agent has TOOLS."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Rig:
            flite = tuple(root.command("flite"))
            standin = StandinConfig(script=script(tmp_path), think_ms=200, flite=flite)
            server = await stack.enter_async_context(StandinServer(standin))
            agent = {"tools": WORKING, "no_input_s": 3.0, **changes.pop("agent", {})}
            folder = Path(__file__).parents[1] / "tools"
            settings = settings_for(asterisk, server.url, tmp_path, agent=agent, tools=TOOLS, folder=folder, **changes)
            voice = FliteVoice(Flite(flite))
            await render(tmp_path, needed_prompts(settings), voice)
            events: list[model.CallEvent] = []
            worker = Worker(settings, 1, Prompts(prompt_folder(tmp_path, voice.name)), events.append)
            running = asyncio.create_task(worker.run(), name="worker")
            stack.push_async_callback(_stop, running)
            await until(lambda: worker.ari.connected, "the worker to reach Asterisk")
            return Rig(asterisk, root, settings, server, worker, events)

        yield make


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def ask(node: Rig, phone: Phone, words: str) -> None:
    """Say it once the agent has finished."""
    await phone.wait_quiet(400)
    await phone.say_pcm(*await Flite(node.root.command("flite"), "kal").synthesize(words))


async def call(node: Rig, phone: Phone) -> None:
    await phone.dial("100")
    assert await phone.wait_answered()
    await phone.hear_agent_start()


def said(node: Rig) -> str:
    """All that the agent has said so far."""
    return " ".join(e.text for e in node.of(model.Transcript) if e.role is Role.AGENT)


def outputs(node: Rig) -> list[Event]:
    """What the model was told by tools."""
    created = node.standin.sessions[-1].record.received_events("conversation.item.create")
    return [event["item"] for event in created if event["item"]["type"] == "function_call_output"]  # type: ignore[index]


def types(node: Rig) -> list[object]:
    """Every event that the model got, but audio."""
    return [event["type"] for _, event in node.standin.sessions[-1].record.received]


async def test_a_slow_tool_is_bridged_by_words_and_the_soft_sound(shop: Make) -> None:
    node = await shop()
    async with node.phone() as phone:
        await call(node, phone)
        await ask(node, phone, "where is my order")
        await until(lambda: bool(node.of(model.ToolCalled)), "the tool to be called")
        filler = node.worker.house.policy.prompts.get(Phrase(FILLER), Law.ULAW).rstrip(b"\xff")
        filler = filler[: len(filler) // 160 * 160]
        await until(lambda: filler in phone.media.received_payload(), "the filler")
        sound = looped("hold", Law.ULAW)[:8000]
        await until(lambda: sound in phone.media.received_payload(), "the soft sound")
        await until(lambda: "Your order is here." in said(node), "the answer")
        (returned,) = node.of(model.ToolReturned)
        assert (returned.name, returned.ok, returned.bytes, returned.result) == ("slow", True, 6, "")
        assert returned.duration_ms >= 5000
        assert node.of(model.ToolCalled)[0].arguments == ""
        await phone.wait_quiet(400)
        assert looped("hold", Law.ULAW)[-80_000:] not in phone.media.received_payload()  # it ended with the answer
        assert node.of(model.NoInputStep) == []  # who waits for a tool is not asked whether they are there
        assert types(node).count("response.create") == 1
        assert node.of(model.RealtimeTrouble) == []
        await phone.hang_up()
    await node.ended()
    await node.nothing_left()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("what is your address", "the tool failed (RuntimeError)"),
        ("can i speak to a person", "no answer in 0.5 seconds"),
        ("are you a computer", "there is no function 'invented'"),
        ("are you open tomorrow", "1000000 characters, too many"),
        ("good morning", "order: 5 is not of type 'string'"),
        ("thank you very much", "no JSON"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model_and_the_talk_goes_on(shop: Make, words: str, told: str) -> None:
    node = await shop()
    async with node.phone() as phone:
        await call(node, phone)
        await ask(node, phone, words)
        await until(lambda: bool(outputs(node)), "the model to be told")
        (output,) = outputs(node)
        assert told in json.loads(str(output["output"]))["error"]
        (returned,) = node.of(model.ToolReturned)
        assert not returned.ok
        # "invented" is in the script too, so the script knows what to say.
        await until(lambda: SORRY in said(node), "the agent to say so")
        await ask(node, phone, "tell me about your services")
        await until(lambda: "The order is sent." in said(node), "another tool to work")
        await phone.hang_up()
    await node.ended()
    await node.nothing_left()


async def test_a_caller_who_speaks_while_a_tool_runs_is_answered_and_then_told(shop: Make) -> None:
    node = await shop()
    async with node.phone() as phone:
        await call(node, phone)
        await ask(node, phone, "where is my bicycle")
        sound = looped("hold", Law.ULAW)[:4000]
        await until(lambda: sound in phone.media.received_payload(), "the soft sound")
        await phone.say_pcm(*await Flite(node.root.command("flite"), "kal").synthesize("tell me about your services"))
        await until(lambda: "The order is sent." in said(node), "the answer to what was said")
        await until(lambda: "Your order is here." in said(node), "the slow one")
        assert len(outputs(node)) == 3
        assert types(node).count("response.create") == 2
        assert node.of(model.RealtimeTrouble) == []
        await phone.hang_up()
    await node.ended()
    assert node.of(model.CallEnded)[-1].counters.get("realtime_server_errors", 0) == 0
    await node.nothing_left()


async def test_parallel_tools_are_answered_together(shop: Make) -> None:
    node = await shop(log={"show_transcripts": True})
    async with node.phone() as phone:
        await call(node, phone)
        await ask(node, phone, "tell me about your services")
        await until(lambda: "The weather of York. The order is sent." in said(node), "both to be told")
        assert len(outputs(node)) == 2
        order = [name for name in types(node) if name in {"conversation.item.create", "response.create"}]
        assert order[-3:] == ["conversation.item.create", "conversation.item.create", "response.create"]
        assert {event.arguments for event in node.of(model.ToolCalled)} == {'{"city": "York"}', '{"order": "7"}'}
        await phone.hang_up()
    await node.ended()
    await node.nothing_left()


async def test_a_caller_who_leaves_while_a_tool_runs_leaves_nothing(shop: Make, tmp_path: Path) -> None:
    node = await shop()
    async with node.phone() as phone:
        await call(node, phone)
        await ask(node, phone, "what are your opening hours")
        await until(lambda: bool(node.of(model.ToolCalled)), "the tool to be called")
        await phone.hang_up()
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    await until((tmp_path / "mark").exists, "the tool to be cancelled")
    await node.nothing_left()
    assert node.worker.toolbox._waiting == {}


async def test_a_toolbox_that_dies_in_a_call(shop: Make) -> None:
    node = await shop()
    async with node.phone() as phone:
        await call(node, phone)
        await ask(node, phone, "what are your opening hours")
        await until(lambda: bool(node.of(model.ToolCalled)), "the tool to be called")
        pid = node.worker.toolbox.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: SORRY in said(node), "the agent to say so")
        await until(lambda: node.worker.toolbox.pid not in {None, pid}, "another toolbox")
        await ask(node, phone, "tell me about your services")
        await until(lambda: "The order is sent." in said(node), "the next one to work")
        await phone.hang_up()
    await node.ended()
    await node.nothing_left()


async def test_what_xai_runs_itself_is_asked_of_it(shop: Make) -> None:
    node = await shop(agent={"tools": ("search", "weather")})
    async with node.phone() as phone:
        await call(node, phone)
        (update,) = node.standin.sessions[-1].record.received_events("session.update")
        tools = update["session"]["tools"]  # type: ignore[index]
        assert "weather" in [tool["name"] for tool in tools if tool["type"] == "function"]
        assert tools[-1] == {"type": "web_search", "allowed_domains": ["example.com"]}
        await phone.hang_up()
    await node.ended()
    await node.nothing_left()
