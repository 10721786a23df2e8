"""A caller's way through menus, digits, queues, mailboxes and other phones, by real SIP and real keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
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
from sipagent.house import Policy
from sipagent.outcome import Reason
from sipagent.phone import scenario
from sipagent.phone.phone import Phone
from sipagent.speech import Flite
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import parse_faults
from sipagent.standin.server import StandinServer
from sipagent.switch import asterisk_config
from sipagent.worker import Worker, needed_prompts
from tests.asterisk.fixtures import test_config as make_config
from tests.e2e.conftest import Rig, settings_for
from tests.e2e.desk import ANSWERS, BUSY, LEAVES, RINGS, desk
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

MENUS: dict[str, Any] = {
    "routes": [
        {"to": "100", "go": "menu:main"},
        {"to": "200", "go": "queue:front"},
        {"to": "300", "go": "reject:busy"},
        {"to": "301", "go": "announcement:early"},
        {"to": "400", "go": "dial:desk"},
        {"to": "500", "headers": {"X-Dept": "^sales$"}, "go": "announcement:bye"},
        {"to": "600*", "go": "menu:main"},
    ],
    "menus": {
        "main": {
            "prompt": {"en": "Press one for sales, two for an account.", "de": "Eins Verkauf, zwei Konto."},
            "keys": {
                "1": "menu:sales", "2": "collect:account", "3": "voicemail:office", "9": "language:de",
                "_4XX": "dial:{digits}@pbx", "0": "queue:front",
            },
            "timeout_s": 1, "interdigit_s": 0.5, "retries": 1,
            "no_input": "Nothing heard.", "invalid": "Not a choice.", "give_up": "announcement:bye",
        },
        "sales": {
            "prompt": "Sales. One for bicycles.", "keys": {"1": "menu:bicycles", "#": "back"}, "timeout_s": 1,
        },
        "bicycles": {"prompt": "Bicycles. One for a person.", "keys": {"1": "agent:reception"}, "timeout_s": 1},
    },
    "collects": {"account": {
        "prompt": "Your number.", "variable": "account", "max_digits": 4, "min_digits": 4, "confirm": True,
        "confirmation": "You said {digits}. Press one.", "then": "agent:reception", "interdigit_s": 1,
    }},
    "announcements": {"bye": {"prompt": "Good bye."}, "early": {"prompt": "Nobody is here.", "answer": False}},
    "mailboxes": {"office": {"greeting": "Leave a message.", "then": "announcement:bye"}},
}  # fmt: skip


@dataclass
class Company:
    """A rig whose Asterisk has the queue, the mailbox and the trunk to a PBX."""

    make: Callable[..., Awaitable[Rig]]
    folder: Path


@pytest_asyncio.fixture(loop_scope="module")
async def company(root: Root, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """`await company(desk=port, **changes)`: a node with MENUS, with somebody at the desk."""
    async with AsyncExitStack() as stack:

        async def make(desk_port: int = 9, standin: StandinConfig | None = None, **changes: Any) -> Rig:
            standin = replace(standin or StandinConfig(mode=Mode.DETERMINISTIC), flite=tuple(root.command("flite")))
            server = await stack.enter_async_context(StandinServer(standin))
            config = make_config(tmp_path / "asterisk")
            more = {
                **MENUS,
                "numbers": {},
                "trunks": {"pbx": {"preset": "generic-ip", "hosts": [f"127.0.0.1:{desk_port}"], "qualify": 0}},
                "queues": {"front": {
                    "members": ["401@pbx"], "timeout_s": 5, "ring_s": 3, "announce_position": False,
                    "keys": {"1": "announcement:bye"}, "then": "voicemail:office",
                }},
                "dials": {"desk": {"number": "401", "trunk": "pbx", "timeout_s": 2, "then": "announcement:bye"}},
                **changes,
            }  # fmt: skip
            rig_of = type("Switch", (), {"config": config})
            settings = settings_for(rig_of, server.url, tmp_path, **more)  # type: ignore[arg-type]
            files = asterisk_config(settings).files
            switch = await stack.enter_async_context(Asterisk(replace(config, files=files), root))
            voice = FliteVoice(Flite(root.command("flite")))
            await render(tmp_path, needed_prompts(settings), voice)
            events: list[model.CallEvent] = []
            worker = Worker(settings, 1, Prompts(prompt_folder(tmp_path, voice.name)), events.append)
            running = asyncio.create_task(worker.run(), name="worker")
            stack.push_async_callback(_stop, running)
            await until(lambda: worker.ari.connected, "the worker to reach Asterisk")
            return Rig(switch, root, settings, server, worker, events)

        yield make


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def prompt(node: Rig, text: str, language: str = "en") -> bytes:
    policy: Policy = node.worker.house.policy
    return policy.prompts.get(Phrase(text, language), Law.ULAW)


async def hears(phone: Phone, node: Rig, text: str, language: str = "en") -> None:
    """Wait until the whole prompt has come, bit by bit as it was made."""
    wanted = prompt(node, text, language).rstrip(b"\xff")
    wanted = wanted[: len(wanted) // 160 * 160]
    await until(lambda: wanted in phone.media.received_payload(), f"{text!r} to be heard")


def steps(node: Rig) -> list[str]:
    return [event.step for event in node.of(model.StepEntered)]


async def test_three_menus_deep_to_an_agent(company: Callable[..., Awaitable[Rig]]) -> None:
    node = await company()
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await hears(phone, node, "Press one for sales, two for an account.")
        await phone.press("1")
        await hears(phone, node, "Sales. One for bicycles.")
        await phone.press("#")
        await phone.press("1")
        await phone.press("1")
        await hears(phone, node, "Bicycles. One for a person.")
        await phone.press("1")
        await until(lambda: bool(node.of(model.SessionOpened)), "the agent")
        await phone.hear_agent_start()
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    assert steps(node) == [
        "menu:main", "menu:sales", "menu:main", "menu:sales", "menu:bicycles", "agent:reception"
    ]  # fmt: skip
    await node.nothing_left()


async def test_a_key_cuts_the_prompt(company: Callable[..., Awaitable[Rig]]) -> None:
    """In the frame after the key is reported; Asterisk does so when it is let go, 120 ms after it went down."""
    node = await company()
    main = prompt(node, "Press one for sales, two for an account.")
    sales = prompt(node, "Sales. One for bicycles.")
    async with node.phone() as phone:
        await phone.dial("100")
        await until(lambda: main[:1600] in phone.media.received_payload(), "the prompt to begin")
        await phone.press("1")
        await hears(phone, node, "Sales. One for bicycles.")
        heard = phone.media.received_payload()
    assert main not in heard
    begun, cut = heard.index(main[:1600]), heard.index(sales[:1600])
    spoken = heard[begun:cut].rstrip(b"\xff")
    assert len(spoken) < len(main) - 1600
    # What was heard of it is its beginning, whole to the frame.
    assert main.startswith(spoken[: len(spoken) // 160 * 160])


async def test_silence_a_wrong_key_and_the_way_out(company: Callable[..., Awaitable[Rig]]) -> None:
    node = await company()
    async with node.phone() as phone:
        await phone.dial("100")
        await hears(phone, node, "Nothing heard.")
        await phone.press("7")
        await hears(phone, node, "Good bye.")
        report = await phone.wait_ended(5)
    assert report.cause == 16
    assert (await node.ended()).reason is Reason.COMPLETED
    await node.nothing_left()


async def test_in_another_language(company: Callable[..., Awaitable[Rig]]) -> None:
    node = await company()
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.press("9")
        await hears(phone, node, "Eins Verkauf, zwei Konto.", "de")
        await phone.press("8")
        await hears(phone, node, "Not a choice.")


async def test_digits_are_read_back_and_leave_no_trace(
    company: Callable[..., Awaitable[Rig]], capfd: pytest.CaptureFixture[str]
) -> None:
    node = await company(agent={"instructions": "The account is {account}.", "greeting": "Hello."})
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await phone.press("2")
        await hears(phone, node, "Your number.")
        await phone.press("4711")
        await hears(phone, node, "seven")
        await hears(phone, node, "Press one.")
        await phone.press("1")
        await until(lambda: bool(node.standin.live), "the agent")
        await phone.hear_agent_start()
    await node.ended()
    assert "4711" not in "".join(str(event) for event in node.events)
    assert "4711" not in "".join(capfd.readouterr())


async def test_keys_by_sip_info_count_once(
    company: Callable[..., Awaitable[Rig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A telephone that tells of 250 ms for every key, whatever it was (RFC 6086; Asterisk takes it beside RFC 4733)."""

    def with_info(caller: scenario.Caller) -> str:
        keys = "".join(
            f'<pause milliseconds="200"/><send retrans="500">{_info(caller, key)}</send><recv response="200"/>'
            for key in "47711122#"
        )
        plain = scenario.scenario(caller)
        assert plain.count('<label id="41"/>') == 1
        return plain.replace('<label id="41"/>', keys + '<label id="41"/>')

    monkeypatch.setattr("sipagent.phone.sipp.scenario", with_info)
    node = await company(
        agent={"instructions": "The account is {account}.", "greeting": "Hello."},
        routes=[{"to": "100", "go": "collect:account"}],
        collects={"account": {"prompt": "Your number.", "variable": "account", "then": "agent:reception"}},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await until(lambda: bool(node.standin.live), "the agent")
        # The prompt has been heard by now, so hearing a voice does not say that the agent was told who calls.
        (session,) = node.standin.live
        await until(lambda: "The account is 47711122." in str(session.record.received), "the agent to be told the keys")
        await phone.hear_agent_start()
    await node.ended()
    await node.nothing_left()


def _info(caller: scenario.Caller, key: str) -> str:
    text = scenario._request("INFO", "[next_url]", caller, headers="[routes]\n", body=f"Signal={key}\nDuration=250")
    return text.replace("application/sdp", "application/dtmf-relay")


async def test_a_menu_full_of_keys_is_a_menu(company: Callable[..., Awaitable[Rig]]) -> None:
    """A flood of keys, also after the end: every one is taken or passed over, and the call ends as it should."""
    node = await company()
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.press("77777777777777777777")
        await phone.wait_ended(10)
    assert (await node.ended()).reason is Reason.COMPLETED
    await node.nothing_left()


async def test_nobody_presses_anything_and_hangs_up_anywhere(company: Callable[..., Awaitable[Rig]]) -> None:
    node = await company()
    for keys in ("", "1", "2", "24", "3", "9"):
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await phone.press(keys)
    await node.ended(6)
    assert {event.outcome.reason for event in node.of(model.CallEnded)} == {Reason.CALLER_HANGUP}
    await node.nothing_left()


async def test_rejected_without_an_answer(company: Callable[..., Awaitable[Rig]]) -> None:
    node = await company()
    for number, status in (("300", 486), ("999", 404)):
        async with node.phone() as phone:
            await phone.dial(number)
            assert not await phone.wait_answered()
            assert phone.end is not None
            assert phone.end.status == status
    assert [event.outcome.reason for event in node.of(model.CallEnded)] == [Reason.REJECTED, Reason.UNKNOWN_NUMBER]
    await node.nothing_left()


async def test_heard_before_the_answer(company: Callable[..., Awaitable[Rig]]) -> None:
    node = await company()
    async with node.phone() as phone:
        await phone.dial("301")
        await hears(phone, node, "Nobody is here.")
        await phone.wait_ended(5)
        assert not phone.answered
    assert not node.of(model.CallEnded)[0].answered
    await node.nothing_left()


async def test_another_phone_answers_and_the_caller_hangs_up(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path
) -> None:
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("400")
            assert await phone.wait_answered()
            said = bytes(range(1, 161)) * 10
            await phone.say(said)
            await until(lambda: said[160:480] in phone.media.received_payload(), "the desk's echo")
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        assert node.of(model.CallEnded)[0].answered
        await node.nothing_left(standin_sees=False)


async def test_another_phone_hangs_up(company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), LEAVES, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("400")
            await phone.wait_ended(8)
        assert (await node.ended()).reason is Reason.COMPLETED
        await node.nothing_left()


@pytest.mark.parametrize("scenario", [BUSY, RINGS], ids=["busy", "no answer"])
async def test_another_phone_does_not_answer(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path, scenario: str
) -> None:
    async with desk(root.command("sipp"), scenario, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("400")
            await hears(phone, node, "Good bye.")
            await phone.wait_ended(5)
        assert steps(node) == ["dial:desk", "announcement:bye", "hangup"]
        await node.nothing_left()


async def test_an_extension_is_dialled_from_the_menu(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path
) -> None:
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await phone.press("417")
            await until(lambda: "dial:417@pbx" in steps(node), "the extension")
            said = bytes(range(1, 161)) * 10
            await until(lambda: not node.worker.pacer_wheel, "our media to be gone")
            await phone.say(said)
            await until(lambda: said[160:480] in phone.media.received_payload(), "the desk's echo")
        await node.ended()
        await node.nothing_left()


async def test_a_queue_serves(company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), LEAVES, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("200")
            assert await phone.wait_answered()
            await phone.wait_ended(10)
        outcome = await node.ended()
        assert (outcome.reason, outcome.detail) == (Reason.COMPLETED, "served by queue front")
        await node.nothing_left()


async def test_a_member_rings_while_their_trunk_has_another_call(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path
) -> None:
    log = tmp_path / "invites.log"
    rung = ANSWERS.replace("<action>", '<action><log message="rung"/>', 1)
    async with desk(root.command("sipp"), rung, tmp_path, log=log) as port:
        node = await company(port)
        async with node.phone() as neighbour, node.phone() as phone:
            await neighbour.dial("400")
            assert await neighbour.wait_answered()
            await phone.dial("200")
            await until(lambda: log.read_text().count("rung") == 2, "the member to ring")
            assert not neighbour.ended
        await node.ended(2)
        await node.nothing_left(standin_sees=False)


async def test_a_key_takes_the_caller_out_of_the_queue(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path
) -> None:
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("200")
            assert await phone.wait_answered()
            await until(lambda: "queue:front" in steps(node), "the queue")
            await phone.press("1")
            await hears(phone, node, "Good bye.")
            await phone.wait_ended(5)
        assert steps(node) == ["queue:front", "announcement:bye", "hangup"]
        await node.nothing_left()


async def test_hanging_up_in_the_queue(company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("200")
            assert await phone.wait_answered()
        assert (await node.ended()).reason is Reason.CALLER_HANGUP
        await node.nothing_left()


async def test_nobody_in_the_queue_then_a_message(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path
) -> None:
    async with desk(root.command("sipp"), BUSY, tmp_path) as port:
        node = await company(port)
        async with node.phone() as phone:
            await phone.dial("200")
            await hears(phone, node, "Leave a message.")
            await phone.say(bytes(range(1, 161)) * 200)  # 4 s
            await phone.press("#")
            await hears(phone, node, "Good bye.")
            await phone.wait_ended(5)
        assert steps(node) == ["queue:front", "voicemail:office", "announcement:bye", "hangup"]
        messages = list((tmp_path / "asterisk").rglob("spool/voicemail/**/msg0000.wav"))
        assert len(messages) == 1
        assert messages[0].stat().st_size > 40_000
        await node.nothing_left()


SCRIPT = """
greeting = "Hello."
fallback = "Sales, or an account?"
nudge = "Please go on."
check_in = "Are you there?"

[[intent]]
name = "sales"
phrases = ["i want to buy a bicycle", "the sales department please"]
reply = "One moment."

[intent.tool]
name = "choose"
arguments = { key = "1" }
done = "Fine."
failed = "Sorry."
missing = "Sorry."
"""


async def test_a_menu_understands_words(company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT)
    menus = {**MENUS["menus"], "main": {**MENUS["menus"]["main"], "words": {"1": "sales, to buy a bicycle"}}}
    node = await company(standin=StandinConfig(script=script), menus=menus)
    pcm, rate_hz = await Flite(root.command("flite"), "kal16").synthesize("I want to buy a bicycle")
    async with node.phone() as phone:
        await phone.dial("100")
        await hears(phone, node, "Press one for sales, two for an account.")
        await until(lambda: bool(node.of(model.SessionOpened)), "the listener")
        await phone.say_pcm(pcm, rate_hz)
        await hears(phone, node, "Sales. One for bicycles.")
        await until(lambda: not node.standin.live, "the listener to be gone")
        await phone.press("1")
        await hears(phone, node, "Bicycles. One for a person.")
    assert steps(node) == ["menu:main", "menu:sales", "menu:bicycles"]
    await node.nothing_left()


async def test_a_menu_listens_in_the_language_that_was_chosen(
    company: Callable[..., Awaitable[Rig]], root: Root, tmp_path: Path
) -> None:
    """What is understood is up to the model; it is told the language, and the question as the caller hears it."""
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT)
    menus = {**MENUS["menus"], "main": {**MENUS["menus"]["main"], "words": {"1": "sales"}, "timeout_s": 5}}
    node = await company(standin=StandinConfig(script=script), menus=menus)
    pcm, rate_hz = await Flite(root.command("flite"), "kal16").synthesize("I want to buy a bicycle")
    async with node.phone() as phone:
        await phone.dial("100")
        await until(lambda: len(node.of(model.SessionOpened)) == 1, "the listener")
        await phone.press("9")
        await hears(phone, node, "Eins Verkauf, zwei Konto.", "de")
        await until(lambda: len(node.of(model.SessionOpened)) == 2, "a listener who speaks German")
        told = node.standin.sessions[-1].settings.instructions
        assert 'asked: "Eins Verkauf, zwei Konto."' in told
        assert 'the language "de"' in told
        await phone.say_pcm(pcm, rate_hz)
        await hears(phone, node, "Sales. One for bicycles.")
    assert steps(node) == ["menu:main", "menu:main", "menu:sales"]
    await node.nothing_left()


async def test_a_listener_that_dies_leaves_the_keys_and_the_clock(company: Callable[..., Awaitable[Rig]]) -> None:
    menus = {**MENUS["menus"], "main": {**MENUS["menus"]["main"], "words": {"1": "sales"}}}
    node = await company(standin=StandinConfig(faults=parse_faults(["drop@1"])), menus=menus)
    async with node.phone() as phone:
        await phone.dial("100")
        await until(lambda: bool(node.of(model.SessionOpened)), "the listener")
        await until(lambda: not node.standin.live, "the listener to be gone")
        await hears(phone, node, "Nothing heard.")
        await phone.press("1")
        await hears(phone, node, "Sales. One for bicycles.")
    await node.ended()
    await node.nothing_left()


async def test_a_menu_whose_listener_is_away_still_has_its_keys(company: Callable[..., Awaitable[Rig]]) -> None:
    menus = {**MENUS["menus"], "main": {**MENUS["menus"]["main"], "words": {"1": "sales"}}}
    node = await company(standin=StandinConfig(faults=parse_faults(["refuse=429"])), menus=menus)
    async with node.phone() as phone:
        await phone.dial("100")
        await hears(phone, node, "Press one for sales, two for an account.")
        await phone.press("1")
        await hears(phone, node, "Sales. One for bicycles.")
    assert [event.what for event in node.of(model.RealtimeTrouble)] == ["endpoint_failed", "listener_unreachable"]
    await node.nothing_left()
