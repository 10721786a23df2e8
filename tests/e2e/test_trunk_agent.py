"""The whole way: a phone of the PBX, TLS and SRTP between the switches, our worker, the stand-in on the wire."""

from __future__ import annotations

import pytest
import pytest_asyncio

from sipagent import model
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.orders import Originate
from sipagent.outcome import Reason
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import MakeRig
from tests.e2e.town import Town, switches
from tests.waiting import until

__all__ = ["switches"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SPEECH_MS = 1000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asterisk(switches: Town) -> Asterisk:
    """The rig's worker works at our switch of the town."""
    return switches.switch


async def test_an_extension_of_the_pbx_talks_with_an_agent(switches: Town, rig: MakeRig) -> None:
    tls = switches.tls.model_dump(include={"tls_port", "tls_certificate", "tls_key", "tls_ca"})
    node = await rig(
        StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=SPEECH_MS),
        asterisk=tls,
        trunks=switches.trunks,
        numbers={"401": "reception"},
    )
    caller = pattern(Law.ULAW, 77, 0, SPEECH_MS * 8)
    async with switches.phone(switches.pbx) as phone:
        await phone.dial("401")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.say(caller)
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        await phone.hang_up()
        heard = phone.media.received_payload()
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    assert caller in node.standin.sessions[-1].record.caller_audio
    for answer in range(2):  # the greeting, then the answer
        assert pattern(Law.ULAW, 1 + answer, 0, SPEECH_MS * 8) in heard
    started = node.of(model.CallStarted)[0]
    assert (started.called, started.endpoint, started.codec) == ("401", "office", "ulaw")
    await node.nothing_left()


async def test_a_trace_that_the_pbx_began_is_gone_on_with(switches: Town, rig: MakeRig) -> None:
    """304 of the PBX sends its calls with a header; it counts where the operator has named it, and nowhere else."""
    tls = switches.tls.model_dump(include={"tls_port", "tls_certificate", "tls_key", "tls_ca"})
    tracing = {"endpoint": "http://127.0.0.1:1/v1/traces", "header": "X-Traceparent"}
    node = await rig(
        StandinConfig(mode=Mode.DETERMINISTIC),
        asterisk=tls,
        trunks=switches.trunks,
        numbers={"401": "reception"},
        tracing=tracing,
    )
    async with switches.phone(switches.pbx) as phone:
        await phone.dial("304")
        await until(lambda: len(node.of(model.CallRouted)) == 1, "the call")
        await phone.hang_up()
    await node.ended()
    async with switches.phone(switches.pbx) as phone:
        await phone.dial("401")
        await until(lambda: len(node.of(model.CallRouted)) == 2, "another, without it")
        await phone.hang_up()
    await node.ended(2)
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert [event.traceparent for event in node.of(model.CallRouted)] == [theirs, ""]
    await node.nothing_left()


async def test_a_call_is_handed_back_to_an_extension_of_the_pbx(switches: Town, rig: MakeRig) -> None:
    """402 is ours; its call goes back to 210, over the same encrypted trunk, and both hear each other."""
    tls = switches.tls.model_dump(include={"tls_port", "tls_certificate", "tls_key", "tls_ca"})
    node = await rig(
        StandinConfig(mode=Mode.DETERMINISTIC),
        asterisk=tls,
        trunks=switches.trunks,
        routes=[{"to": "402", "go": "dial:210@office"}],
    )
    said = pattern(Law.ULAW, 78, 0, SPEECH_MS * 8)
    async with switches.phone(switches.pbx) as phone:
        await phone.dial("402")
        assert await phone.wait_answered()
        await phone.say(said)
        await until(lambda: said[1600:4800] in phone.media.received_payload(), "the echo of extension 210")
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    assert [step.step for step in node.of(model.StepEntered)] == ["dial:210@office"]
    await node.nothing_left(standin_sees=False)


async def test_a_number_that_leads_back_to_us_is_no_circle(switches: Town, rig: MakeRig) -> None:
    """404 is dialled at the PBX, whose admin routes 404 to us: by the dialplan, and as a leg of our own."""
    tls = switches.tls.model_dump(include={"tls_port", "tls_certificate", "tls_key", "tls_ca"})
    node = await rig(
        StandinConfig(mode=Mode.DETERMINISTIC),
        asterisk=tls,
        trunks=switches.trunks,
        numbers={},
        routes=[{"to": "404", "go": "dial:404@office"}],
        outbound={"trunks": ["office"]},
        dial_policy={"allow": ["404"]},
    )
    async with switches.phone(switches.pbx) as phone:
        await phone.dial("404")
        await until(lambda: len(node.of(model.CallEnded)) == 2, "both of its calls to end")
    details = [event.outcome.detail for event in node.of(model.CallEnded)]
    assert details[0] == "a call of ours that came back to us"
    node.worker.obey(Originate(call_id="out-1", to="404", trunks=("office",), agent="reception"))
    await until(lambda: len(node.of(model.CallEnded)) == 4, "the call out and its circle to end")
    details = [event.outcome.detail for event in node.of(model.CallEnded)[2:]]
    assert "a call of ours that came back to us" in details
    assert [leg.answered for leg in node.of(model.LegEnded)] == [False]
    await node.nothing_left()
