"""Probes with real switches: out through a trunk, back in to our own agent, and every way in which that can fail."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from sipagent import model
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.model import Direction
from sipagent.orders import Answer, Probe, ProbeResult
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from tests.e2e.callee import callee
from tests.e2e.conftest import MakeRig, Rig
from tests.e2e.desk import RINGS, desk
from tests.e2e.test_flow import company
from tests.e2e.test_processes import get, on, output_of, ready, sipagent
from tests.e2e.town import Town, switches
from tests.observe.collector import collector
from tests.sounds import frames
from tests.test_probe import tone
from tests.waiting import until

__all__ = ["company", "switches"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

Company = Callable[..., Awaitable[Rig]]
GREETING = "Hello, this is the reception. How can I help you?"
LOOPED = "a call of ours that came back to us"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asterisk(switches: Town) -> Asterisk:
    """The rig's worker works at our switch of the town."""
    return switches.switch


async def probed(node: Rig, trunk: str, to: str, *, within_s: float = 6.0, **more: Any) -> ProbeResult:
    """Have the worker probe; what it says."""
    order = Probe(call_id=f"probe-{uuid.uuid4().hex[:8]}", name="p", trunk=trunk, to=to, within_s=within_s,
                  **{"listen_s": 0.5} | more)  # fmt: skip
    node.worker.obey(order)
    await until(lambda: any(answer.order == order.id for answer in node.of(Answer)), "the probe's answer")
    (answer,) = [answer for answer in node.of(Answer) if answer.order == order.id]
    assert not answer.error
    return msgspec.json.decode(answer.detail, type=ProbeResult)


async def in_town(switches: Town, rig: MakeRig, **more: Any) -> Rig:
    tls = switches.tls.model_dump(include={"tls_port", "tls_certificate", "tls_key", "tls_ca"})
    changes = {"agent": {"greeting": GREETING}, "numbers": {"404": "reception"}} | more
    node = await rig(StandinConfig(think_ms=100), asterisk=tls, trunks=switches.trunks, **changes)

    async def reachable() -> bool:
        return bool((await node.ari.request("GET", "endpoints/PJSIP/office"))["state"] == "online")

    # OPTIONS every second: on a machine that has too much to do, one of them may have had no answer.
    await until(reachable, "the PBX to answer")
    return node


async def test_out_through_a_trunk_and_back_to_our_agent(switches: Town, rig: MakeRig) -> None:
    node = await in_town(switches, rig)
    result = await probed(node, "office", "404")
    assert (result.ok, result.why) == (True, "")
    assert result.answer_ms is not None
    assert result.voice_ms is not None
    assert 0 < result.answer_ms < result.voice_ms < 6000
    assert result.mos is not None
    assert result.mos > 4
    assert (result.loss_percent, result.name, result.trunk) == (0.0, "p", "office")
    await until(lambda: len(node.of(model.CallEnded)) == 2, "both ends of it")
    out, back = node.of(model.CallStarted)
    assert (out.direction, out.called, out.endpoint, back.direction) == (Direction.OUT, "404", "office", Direction.IN)
    events = [event for event in node.events if getattr(event, "call_id", "") == result.call_id]
    (leg,) = [event for event in events if isinstance(event, model.LegDialled)]
    assert (leg.purpose, leg.trunk) == ("probe", "office")
    assert [event.destination for event in events if isinstance(event, model.CallRouted)] == ["probe:p"]
    (ended,) = [event for event in events if isinstance(event, model.CallEnded)]
    assert (ended.answered, ended.outcome.reason) == (True, Reason.COMPLETED)
    assert events[0] is out
    assert events[-1] is ended
    await node.nothing_left()


async def test_only_the_probe_itself_may_come_back(switches: Town, rig: MakeRig) -> None:
    """What it reaches at our end dials the same number: that one is a loop as ever, and the probe hears nobody."""
    node = await in_town(switches, rig, numbers={}, routes=[{"to": "404", "go": "dial:404@office"}])
    result = await probed(node, "office", "404", within_s=4.0)
    assert not result.ok
    await until(lambda: len(node.of(model.CallEnded)) == 3, f"all of its calls to end ({result.why})")
    assert [event.outcome.detail for event in node.of(model.CallEnded)].count(LOOPED) == 1
    await node.nothing_left()


async def test_a_trunk_that_is_down(switches: Town, rig: MakeRig) -> None:
    node = await in_town(switches, rig)
    for trunk in ("impostor", "wrong"):  # nobody there whom we trust; a carrier that does not let us in
        result = await probed(node, trunk, "404")
        assert not result.ok
        assert result.why.startswith("not answered: ")
        assert (result.answer_ms, result.voice_ms, result.mos) == (None, None, None)
    assert [event.outcome.reason for event in node.of(model.CallEnded)] == [Reason.NOT_REACHED] * 2
    await node.nothing_left(standin_sees=False)


async def test_our_own_agent_that_is_mute(switches: Town, rig: MakeRig) -> None:
    node = await in_town(switches, rig, agent={"greeting": ""})
    result = await probed(node, "office", "404", within_s=2.0)
    assert (result.ok, result.why) == (False, "answered, and nobody spoke within 2 s")
    assert result.answer_ms is not None
    assert result.mos is not None
    assert (await probed(node, "office", "404", voice=False)).ok  # where an answer is all that is expected
    await node.nothing_left()


async def test_the_dial_policy_holds_for_probes(switches: Town, rig: MakeRig) -> None:
    node = await in_town(switches, rig, dial_policy={"deny": ["404"]})
    result = await probed(node, "office", "404")
    assert (result.ok, result.why) == (False, "refused by the dial policy: denied by dial_policy.deny")
    assert node.of(model.LegDialled) == []
    assert node.outcome.reason is Reason.DIAL_REFUSED
    await node.nothing_left(standin_sees=False)


async def test_nobody_answers(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port)
        result = await probed(node, "pbx", "401", within_s=2.0)
    assert (result.ok, result.why, result.cause) == (False, "not answered: no answer", 19)
    await node.nothing_left(standin_sees=False)


async def test_a_tone_is_nobody(company: Company, root: Root, tmp_path: Path) -> None:
    async with callee(
        root.command("sipp"), tmp_path, b"".join(frames(tone(440, 480, seconds=8.0), Law.ULAW))
    ) as machine:
        node = await company(machine.port)
        result = await probed(node, "pbx", "401", within_s=2.0)
    assert (result.ok, result.why) == (False, "answered, and no speech within 2 s: a tone or noise")
    await node.nothing_left(standin_sees=False)


async def test_a_worker_that_ends_takes_its_probe_along(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), RINGS, tmp_path) as port:
        node = await company(port, StandinConfig(mode=Mode.DETERMINISTIC))
        node.worker.obey(Probe(call_id="probe-1", name="p", trunk="pbx", to="401", within_s=30, listen_s=1))
        await until(lambda: bool(node.of(model.LegDialled)), "it to ring")
        await node.worker._end_calls()
        assert node.outcome.reason is Reason.SHUTDOWN

        async def no_channels() -> bool:
            return not await node.ari.channels()

        await until(no_channels, "its channels gone")


CONFIG = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception. How can I help you?"
[numbers]
"404" = "reception"
[trunks.office]
preset = "pbx"
hosts = ["127.0.0.2:{port}"]
networks = ["127.0.0.2"]
numbers = ["_4XX"]
transport = "tls"
srtp = "required"
codecs = ["ulaw"]
[trunks.impostor]
preset = "pbx"
hosts = ["127.0.0.7:1"]
networks = ["127.0.0.7"]
[probes.office]
trunks = ["office"]
number = "404"
every_s = 0
within_s = 8
listen_s = 0.5
[probes.down]
trunks = ["impostor"]
number = "404"
every_s = 0
[webhooks.crm]
url = "http://127.0.0.1:1/"
secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
"""


async def test_by_the_command_on_a_node_that_runs(switches: Town, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG.format(port=switches.trunks["office"].hosts[0].rpartition(":")[2]))
    tls = {f"ASTERISK__{key.upper()}": value for key, value in
           switches.tls.model_dump(include={"tls_port", "tls_certificate", "tls_key", "tls_ca"}).items()}  # fmt: skip
    async with collector() as traces:
        env = on(switches.switch, tmp_path / "run", TRACING__ENDPOINT=traces.url, **tls)
        async with sipagent(env, "run", "--standin", "--config", str(file)):
            await ready(env)
            code, said = await output_of(env, "probe", "office", "--config", str(file))
            assert code == 0, said
            assert said.startswith("ok    office through office: answered after ")
            assert "MOS 4." in said
            code, said = await output_of(env, "probe", "--json", "--config", str(file))
            assert code == 1, said
            assert {one["name"]: one["ok"] for one in json.loads(said)} == {"office": True, "down": False}
            code, said = await output_of(env, "probe", "elsewhere", "--config", str(file))
            assert (code, "there is office, down" in said) == (1, True)

            async def recorded() -> bool:
                _, body = await get(env, "/v1/calls?state=ended")
                kept = sorted(call["destination"] for call in body["calls"])
                return kept == ["agent:reception"] * 2 + ["probe:down"] + ["probe:office"] * 2

            await until(recorded, "the records")
            await until(lambda: "leg probe" in {span.name for span in traces.spans}, "its trace")
            _, told = await get(env, "/v1/webhooks/deliveries")
            assert len(told["deliveries"]) == 2  # of the calls in: a probe is no customer's call
    code, said = await output_of(env, "probe", "--config", str(file))
    assert (code, "is `sipagent run` running?" in said) == (1, True)
