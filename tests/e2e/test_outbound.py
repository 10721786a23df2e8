"""We call somebody: who answers, who does not, what a machine gets, and what is never dialled."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.audio import SAMPLE_RATE_HZ, Law, encode, resample
from sipagent.model import Direction, Disposition
from sipagent.orders import Answer, Originate
from sipagent.outcome import Reason
from sipagent.phone.sipp import free_udp_port
from sipagent.speech import Flite
from sipagent.standin.config import StandinConfig
from tests.e2e.callee import callee
from tests.e2e.conftest import Rig
from tests.e2e.desk import BUSY, RINGS, desk
from tests.e2e.test_flow import company
from tests.e2e.test_transfers import INTENT, SCRIPT
from tests.garbage import left_by_a_call
from tests.waiting import until

__all__ = ["company"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]
GREETING = (
    "Hello, you have reached the office of Miller and sons. Nobody can take your call at the moment. "
    "Please leave a message."
)
NOT_FOUND = BUSY.replace("486 Busy Here", "404 Not Found")
UNAVAILABLE = BUSY.replace("486 Busy Here", "503 Service Unavailable")


async def spoken(root: Root, text: str) -> bytes:
    pcm, rate_hz = await Flite(root.command("flite"), "kal16").synthesize(text)
    return encode(resample(pcm, rate_hz, SAMPLE_RATE_HZ), Law.ULAW)


def order(**changes: Any) -> Originate:
    return Originate(
        **{"call_id": f"out-{uuid.uuid4().hex[:8]}", "to": "401", "trunks": ("pbx",), "agent": "reception"} | changes
    )


def allowed(**changes: Any) -> dict[str, Any]:
    return {"dial_policy": {"allow": ["401"]}, "outbound": {"trunks": ["pbx"]}, **changes}


def call(node: Rig, **changes: Any) -> Originate:
    one = order(**changes)
    node.worker.obey(one)
    return one


def classified(node: Rig) -> list[tuple[Disposition, str]]:
    return [(event.disposition, event.said_by) for event in node.of(model.Classified)]


async def test_a_person_answers_and_says_hello_first(company: Company, root: Root, tmp_path: Path) -> None:
    """They hear the agent although nobody knows yet whether they are a machine."""
    hello = b"\xff" * 160 * 25 + await spoken(root, "hello") + b"\xff" * 160 * 300
    async with callee(root.command("sipp"), tmp_path, hello) as person:
        node = await company(person.port, **allowed(agent={"greeting": "Good morning from the bicycle shop."}))
        one = call(node, variables={"account": "12"})
        await until(lambda: bool(node.of(model.AgentSpoke)), "the agent to speak")
        await until(lambda: bool(person.media.voiced_in), "them to hear it")
        await until(lambda: classified(node) == [(Disposition.HUMAN, "detector")], "the verdict")
        node.hang_up()
        await node.ended()
    (started,) = node.of(model.CallStarted)
    assert (started.call_id, started.direction, started.called) == (one.call_id, Direction.OUT, "401")
    (ended,) = node.of(model.CallEnded)
    assert (ended.disposition, ended.answered) == (Disposition.HUMAN, True)
    (leg,) = node.of(model.LegEnded)
    assert leg.answered
    assert leg.seconds > 0
    await node.nothing_left()


async def test_a_machine_gets_the_message_after_its_greeting(company: Company, root: Root, tmp_path: Path) -> None:
    greeting = await spoken(root, GREETING)
    async with callee(root.command("sipp"), tmp_path, greeting) as machine:
        node = await company(machine.port, **allowed())
        call(node, machine="message", message="This is the bicycle shop. Your bicycle is ready, {name}.",
             variables={"name": "Anna"})  # fmt: skip
        await until(lambda: (Disposition.MACHINE, "detector") in classified(node), "the verdict")
        outcome = await node.ended()
        assert (outcome.reason, outcome.detail) == (Reason.COMPLETED, "a message was left on a machine")
        (greeted,) = machine.media.said
        assert all(at > greeted.last for at in machine.media.voiced_in)  # the agent was not heard before
    said_texts = [event.text for event in node.of(model.Transcript) if event.role == "agent"]
    assert said_texts[-1] == "This is the bicycle shop. Your bicycle is ready, Anna."
    assert node.of(model.CallEnded)[0].disposition is Disposition.MACHINE
    await node.nothing_left()


async def test_a_call_out_leaves_nothing_for_the_garbage_collector(
    company: Company, root: Root, tmp_path: Path
) -> None:
    """As a call in."""
    hello = b"\xff" * 160 * 25 + await spoken(root, "hello") + b"\xff" * 160 * 300
    async with callee(root.command("sipp"), tmp_path, hello) as person:
        node = await company(person.port, **allowed())
        with left_by_a_call() as garbage:
            call(node)
            await until(lambda: classified(node) == [(Disposition.HUMAN, "detector")], "the verdict")
            await until(lambda: bool(node.of(model.AgentSpoke)), "the agent to speak")
            node.hang_up()
            await node.ended()
            await node.nothing_left()
    assert garbage == []


async def test_a_machine_gets_nothing_unless_asked_to(company: Company, root: Root, tmp_path: Path) -> None:
    greeting = await spoken(root, GREETING)
    async with callee(root.command("sipp"), tmp_path, greeting) as machine:
        node = await company(machine.port, **allowed())
        call(node)
        outcome = await node.ended()
        assert (outcome.reason, outcome.detail) == (Reason.COMPLETED, "a machine answered")
    await node.nothing_left()


async def test_a_fax_is_known_by_its_tone(company: Company, root: Root, tmp_path: Path) -> None:
    time_s = np.arange(4 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = encode((8000 * np.sin(2 * np.pi * 2100 * time_s)).astype("<i2").tobytes(), Law.ULAW)
    async with callee(root.command("sipp"), tmp_path, tone) as fax:
        node = await company(fax.port, **allowed())
        call(node, machine="message", message="Never said.")
        assert (await node.ended()).detail == "a fax answered"
    assert classified(node) == [(Disposition.FAX, "detector")]
    await node.nothing_left()


async def test_the_agent_itself_hears_that_it_is_a_machine(company: Company, root: Root, tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    intent = INTENT.format(name="m", phrase="leave a message", tool="report_answering_machine", arguments="")
    script.write_text(SCRIPT + intent)
    words = b"\xff" * 160 * 25 + await spoken(root, "leave a message") + b"\xff" * 160 * 400
    async with callee(root.command("sipp"), tmp_path, words) as machine:
        node = await company(machine.port, StandinConfig(script=script), **allowed())
        call(node, detect=False)
        assert (await node.ended()).detail == "a machine answered"
    assert classified(node) == [(Disposition.MACHINE, "agent")]
    await node.nothing_left()


@pytest.mark.parametrize(
    ("scenario", "disposition", "cause"),
    [(BUSY, Disposition.BUSY, 17), (RINGS, Disposition.NO_ANSWER, 19), (NOT_FOUND, Disposition.FAILED, 1)],
    ids=["busy", "no answer", "dead number"],
)
async def test_nobody_answers(
    company: Company, root: Root, tmp_path: Path, scenario: str, disposition: Disposition, cause: int
) -> None:
    async with desk(root.command("sipp"), scenario, tmp_path) as port:
        node = await company(port, **allowed())
        call(node, ring_s=3.0)
        outcome = await node.ended()
    assert (outcome.reason, outcome.q850) == (Reason.NOT_REACHED, cause)
    assert node.of(model.CallEnded)[0].disposition is disposition
    (leg,) = node.of(model.LegEnded)
    assert (leg.answered, leg.cause) == (False, cause)
    await node.nothing_left()


async def test_the_next_trunk_carries_what_the_first_cannot(company: Company, root: Root, tmp_path: Path) -> None:
    hello = b"\xff" * 160 * 25 + await spoken(root, "hello") + b"\xff" * 160 * 300
    async with (
        desk(root.command("sipp"), UNAVAILABLE, tmp_path) as down,
        callee(root.command("sipp"), tmp_path, hello) as person,
    ):
        trunks = {
            name: {"preset": "generic-ip", "hosts": [f"127.0.0.1:{port}"], "qualify": 0}
            for name, port in {"pbx": person.port, "down": down}.items()
        }
        node = await company(**allowed(trunks=trunks))
        call(node, trunks=("down", "pbx"), detect=False)
        await until(lambda: bool(node.of(model.CallAnswered)), "the second trunk")
        tried = node.of(model.LegDialled)
        assert [leg.trunk for leg in tried] == ["down", "pbx"]
        assert tried[0].leg != tried[1].leg  # so that the records keep both
        node.worker.obey(Originate(call_id="x", to="401", trunks=("pbx",), agent="nobody"))
        assert "there is no agent 'nobody'" in [answer.error for answer in node.of(Answer)]
        node.hang_up()
        await node.ended()
    await node.nothing_left()


async def test_what_the_policy_does_not_list_is_not_dialled(company: Company, root: Root) -> None:
    port = free_udp_port("127.0.0.1")
    node = await company(port, **allowed(dial_policy={"allow": ["401"]}))
    one = call(node, to="402")
    outcome = await node.ended()
    assert outcome.reason is Reason.DIAL_REFUSED
    assert node.of(model.LegDialled) == []
    (refused,) = node.of(model.DialRefused)
    assert (refused.to, refused.asked_by) == ("402", "outbound")
    assert "dial_policy.allow" in refused.why
    assert Answer(one.id, refused.why) in node.of(Answer)
    await node.nothing_left()
