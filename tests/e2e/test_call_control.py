"""What an agent does with the call itself: keys that nobody sees, hold, keys of its own, messages, promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.audio import Law
from sipagent.standin.config import StandinConfig
from sipagent.tones import looped
from tests.e2e.conftest import Rig
from tests.e2e.test_flow import company
from tests.e2e.test_transfers import INTENT, SCRIPT, say
from tests.impairment import Plan, Profile, Relay
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]
CARD = "4111111111111111"


def scripted(folder: Path, *intents: tuple[str, str, str]) -> StandinConfig:
    """A stand-in that calls these functions: phrase, function, arguments (TOML)."""
    file = folder / "script.toml"
    parts = [INTENT.format(name=phrase, phrase=phrase, tool=tool, arguments=given) for phrase, tool, given in intents]
    file.write_text(SCRIPT + "".join(parts))
    return StandinConfig(script=file)


def agent(**changes: Any) -> dict[str, Any]:
    return {"routes": [{"to": "100", "go": "agent:reception"}], "agent": {"greeting": "Hello.", **changes}}


@pytest_asyncio.fixture(loop_scope="module")
async def bank() -> AsyncIterator[tuple[int, list[Any]]]:
    """A payment service that says too much: it echoes the card."""
    charged: list[Any] = []

    async def charge(request: web.Request) -> web.Response:
        body = await request.json()
        charged.append(body)
        return web.json_response({"status": "paid", "card": body["card"]})

    app = web.Application()
    app.router.add_post("/charge", charge)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], charged
    await runner.cleanup()


def returned(node: Rig) -> list[tuple[str, bool]]:
    return [(event.name, event.ok) for event in node.of(model.ToolReturned)]


async def test_digits_reach_the_tool_and_nobody_else(
    company: Company, root: Root, tmp_path: Path, bank: tuple[int, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, charged = bank
    standin = scripted(
        tmp_path, ("where is my order", "collect_digits", 'name = "card"'), ("what is your address", "pay", "")
    )
    pay = {
        "kind": "http", "description": "Charge the card.", "method": "POST", "url": f"http://127.0.0.1:{port}/charge",
        "private_networks": ["127.0.0.0/8"], "body": {"card": "{card}", "amount": 12}, "filler": "",
    }  # fmt: skip
    node = await company(
        standin=standin,
        **agent(digits=["card"], tools=["pay"], record=True),
        recording={"announcement": ""},
        digits={"card": {"description": "the card number", "min_digits": 13, "max_digits": 19, "luhn": True}},
        tools={"pay": pay},
        log={"show_transcripts": True, "show_numbers": True},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, "where is my order")
        await until(lambda: bool(node.of(model.ToolCalled)), "the tool")
        (session,) = node.standin.live
        heard = session.record.received_types["input_audio_buffer.append"]
        await phone.press(CARD[:-1] + "2#")  # a wrong digit
        await until(lambda: returned(node) == [("collect_digits", False)], "the check digit to be noticed")
        await say(phone, root, "where is my order")
        await until(lambda: len(node.of(model.ToolCalled)) == 2, "the second try")
        await phone.press("99*" + CARD + "#")
        await until(lambda: len(returned(node)) == 2, "the number")
        assert session.record.received_types["input_audio_buffer.append"] < heard + 600
        await say(phone, root, "what is your address")
        await until(lambda: bool(charged), "the payment")
        await until(lambda: len(returned(node)) == 3, "its result")
        assert charged == [{"card": CARD, "amount": 12}]
    await node.ended()
    collected = [(event.purpose, event.digits, event.result) for event in node.of(model.DigitsCollected)]
    assert [(purpose, digits) for purpose, digits, _ in collected] == [("card", 16), ("card", 16)]
    assert collected[1][2] == "ok"
    paused = [event.by for event in node.of(model.RecordingPaused)]
    assert paused == [event.by for event in node.of(model.RecordingResumed)] == ["collect_digits"] * 2
    told = str([event for _, event in session.record.received])
    seen = capsys.readouterr().out
    for place in (told, seen, str(node.events)):
        assert CARD not in place
        assert CARD[:-1] not in place
    assert "(card)" in told  # what the bank echoed
    await node.nothing_left()


KEYS = {
    "a line that stalls": (Profile(stall_every_ms=900, stall_ms=500), 5, 3),
    "a fast dialler": (Profile(), 3, 0),
}
"""Each with the frames that a key is held, and those that it is up besides two."""


@pytest.mark.parametrize("name", KEYS)
async def test_keys_that_come_close_count_once(
    company: Company,
    root: Root,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Asterisk tells of a key twice when the one before is not over."""
    profile, held, up = KEYS[name]
    monkeypatch.setattr("sipagent.phone.media._DIGIT_FRAMES", held)
    monkeypatch.setattr("sipagent.phone.media._DIGIT_GAP_FRAMES", up)
    node = await company(
        standin=scripted(tmp_path, ("where is my order", "collect_digits", 'name = "card"')),
        **agent(digits=["card"]),
        digits={"card": {"description": "the card number", "min_digits": 13, "max_digits": 30, "luhn": True}},
    )
    async with Relay(Plan(profile, 3)) as relay:
        monkeypatch.setattr("sipagent.phone.phone.PhoneMedia", relay.phone_media())
        async with node.phone() as phone:
            await phone.dial("100")
            await phone.hear_agent_start()
            await say(phone, root, "where is my order")
            await until(lambda: bool(node.of(model.ToolCalled)), "the tool")
            await phone.press(CARD + "#")
            await until(lambda: bool(returned(node)), "its result")
        await node.ended()
    assert [(event.digits, event.result) for event in node.of(model.DigitsCollected)] == [(16, "ok")]
    await node.nothing_left()


async def test_nothing_is_pressed(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(
        standin=scripted(tmp_path, ("where is my order", "collect_digits", 'name = "pin"')),
        **agent(digits=["pin"]),
        digits={"pin": {"description": "the PIN", "first_s": 2}},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, "where is my order")
        await until(lambda: returned(node) == [("collect_digits", False)], "the end of the wait")
        assert not phone.ended
        await phone.press("5")  # is nobody's any more
    await node.ended()
    assert [event.digits for event in node.of(model.DigitsCollected)] == [0]
    await node.nothing_left()


async def test_the_caller_hears_music_while_the_agent_looks(company: Company, root: Root, tmp_path: Path) -> None:
    node = await company(
        standin=scripted(tmp_path, ("where is my order", "hold", "seconds = 2")), **agent(may_hold=True)
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        await say(phone, root, "where is my order")
        await until(lambda: bool(node.of(model.CallHeld)), "the hold")
        music = looped("hold", Law.ULAW)
        await until(lambda: music[:8000] in phone.media.received_payload(), "the music")
        await until(lambda: returned(node) == [("hold", True)], "the end of it")
        mark = len(phone.media.voiced_in)
        await until(lambda: len(phone.media.voiced_in) > mark + 5, "the agent")
    await node.ended()
    assert [event.by for event in node.of(model.CallRetrieved)] == ["agent"]
    await node.nothing_left()


async def test_keys_messages_and_promises(company: Company, root: Root, tmp_path: Path) -> None:
    """In one call: keys are pressed to the caller's side, a message is left, a call-back is arranged or refused."""
    node = await company(
        standin=scripted(
            tmp_path,
            ("where is my order", "send_dtmf", 'digits = "12#"'),
            (
                "what is your address",
                "take_message",
                'mailbox = "office", text = "Anna Miller wants her bicycle back."',
            ),
            ("are you open tomorrow", "schedule_callback", 'in_minutes = 30, reason = "the bicycle", number = "401"'),
            ("good morning", "schedule_callback", 'in_minutes = 0, reason = "money", number = "+19005551234"'),
        ),
        **agent(may_send_dtmf=True, messages=["office"], may_schedule_callbacks=True),
        outbound={"trunks": ["pbx"]},
        dial_policy={"allow": ["401", "+1*"]},
    )
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.hear_agent_start()
        for place, words in enumerate(
            ("where is my order", "what is your address", "are you open tomorrow", "good morning"), 1
        ):
            await say(phone, root, words)
            await until(lambda done=place: len(returned(node)) == done, words)
        keys = {one.packet.payload[0] for one in phone.media.heard if one.packet.payload_type == 101}
        assert keys == {1, 2, 11}  # RFC 4733: 1, 2, #
    await node.ended()
    assert returned(node) == [
        ("send_dtmf", True), ("take_message", True), ("schedule_callback", True), ("schedule_callback", False),
    ]  # fmt: skip
    (message,) = node.of(model.MessageTaken)
    assert (message.mailbox, message.text) == ("office", "Anna Miller wants her bicycle back.")
    (promised,) = node.of(model.CallbackRequested)
    assert (promised.number, promised.agent, promised.trunk, promised.reason) == (
        "401", "reception", "pbx", "the bicycle",
    )  # fmt: skip
    (refused,) = node.of(model.DialRefused)
    assert "premium" in refused.why
    await node.nothing_left()
