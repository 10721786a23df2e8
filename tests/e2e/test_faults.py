"""Each fault of the realtime server, and a caller who leaves at any moment: a defined end, nothing left."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from sipagent import model
from sipagent.ari.objects import ChannelHandle
from sipagent.audio import Law
from sipagent.flow.phrases import Phrase
from sipagent.outcome import Fault, Reason
from sipagent.phone.phone import Phone
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.faults import KNOWN, parse_faults
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import MakeRig, Rig
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

WORDS = pattern(Law.ULAW, 50, 0, 4000)


def faulty(*faults: str, **changes: object) -> StandinConfig:
    base = {"mode": Mode.DETERMINISTIC, "think_ms": 100, "answer_ms": 600, "faults": parse_faults(faults)}
    return StandinConfig(**{**base, **changes})  # type: ignore[arg-type]


async def talk(phone: Phone) -> None:
    """A greeting and one turn, as far as the fault allows."""
    await phone.dial("100")
    assert await phone.wait_answered()
    await phone.hear_agent_start()
    await phone.wait_quiet(400)
    await phone.say(WORDS)
    await phone.hear_agent_start()
    await phone.wait_quiet(400)


SURVIVED = (
    "no-ack",
    "slow-ack=1",
    "reversed-opening",
    "slow-handshake=1",
    "garbage",
    "unknown-events",
    "wrong-format",
    "dead-deltas",
    "repeat-transcripts",
    "repeat-speech-started",
    "model=somebody-else",
    "ack-truncate",
    "early-calls=0.5",
    "abandon",
)
APOLOGISED = {
    "refuse=400": Reason.REALTIME_REFUSED,
    "refuse=401": Reason.REALTIME_REFUSED,
    "refuse=403": Reason.REALTIME_REFUSED,
    "refuse=429": Reason.REALTIME_REFUSED,
    "refuse=503": Reason.REALTIME_REFUSED,
    "refuse-update": Reason.REALTIME_UNREACHABLE,  # without its settings it hears nobody
    "drop@1.5": Reason.REALTIME_LOST,
    "close=1011@1.5": Reason.REALTIME_LOST,
    "expire@1.5": Reason.REALTIME_LOST,
    "drop@answer": Reason.REALTIME_LOST,
}
SILENT = ("stuck", "freeze@1.5")
HANGING = "hang-handshake"


async def test_every_fault_of_the_stand_in_is_here() -> None:
    tried = {re.split("[=@]", fault)[0] for fault in (*SURVIVED, *APOLOGISED, *SILENT, HANGING)}
    assert tried == set(KNOWN)


@pytest.mark.parametrize("fault", SURVIVED)
async def test_what_a_call_survives(rig: MakeRig, fault: str) -> None:
    node = await rig(faulty(fault), call={"answer_within_s": 1})
    async with node.phone() as phone:
        await talk(phone)
        await phone.hang_up()
    assert (await node.ended()).reason is Reason.CALLER_HANGUP
    await node.nothing_left()


@pytest.mark.parametrize("fault", APOLOGISED)
async def test_what_ends_a_call_with_an_apology(rig: MakeRig, fault: str) -> None:
    node = await rig(faulty(fault))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        end = await phone.wait_ended(15)
        heard = phone.media.received_payload()
    outcome = await node.ended()
    assert outcome.reason is APOLOGISED[fault]
    assert outcome.fault is Fault.PROVIDER
    apology = node.worker.house.policy.prompts.get(Phrase(node.settings.call.apology), Law.ULAW)
    assert apology in heard
    assert end.cause == 38
    await node.nothing_left()


async def test_a_drop_during_the_opening_ends_with_an_apology(rig: MakeRig) -> None:
    node = await rig(faulty("drop@0.05", "no-ack"))
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.wait_ended(15)
        heard = phone.media.received_payload()
    assert (await node.ended()).reason is Reason.REALTIME_UNREACHABLE
    assert node.worker.house.policy.prompts.get(Phrase(node.settings.call.apology), Law.ULAW) in heard
    await node.nothing_left()


async def test_a_handshake_that_hangs_ends_with_an_apology(rig: MakeRig) -> None:
    node = await rig(faulty(HANGING), call={"answer_within_s": 0}, realtime={"connect_timeout_s": 2})
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.wait_ended(15)
        heard = phone.media.received_payload()
    assert (await node.ended()).reason is Reason.REALTIME_UNREACHABLE
    for text in (node.settings.call.one_moment, node.settings.call.apology):
        assert node.worker.house.policy.prompts.get(Phrase(text), Law.ULAW) in heard
    await node.nothing_left()


@pytest.mark.parametrize("fault", SILENT)
async def test_a_model_that_falls_silent_ends_with_an_apology(rig: MakeRig, fault: str) -> None:
    node = await rig(faulty(fault), agent={"no_input_s": 2})
    async with node.phone() as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.wait_ended(30)
        heard = phone.media.received_payload()
    reason = (await node.ended()).reason
    # One that reads and answers pings, and one that does nothing any more.
    assert reason is (Reason.REALTIME_SILENT if fault == "stuck" else Reason.REALTIME_LOST)
    assert node.worker.house.policy.prompts.get(Phrase(node.settings.call.apology), Law.ULAW) in heard
    await node.nothing_left(standin_sees=fault == "stuck")


# --- a caller who leaves


async def _while_ringing(node: Rig, phone: Phone) -> None:
    await until(lambda: bool(node.of(model.CallStarted)), "the call to start")


async def _at_answer(node: Rig, phone: Phone) -> None:
    assert await phone.wait_answered()


async def _in_the_greeting(node: Rig, phone: Phone) -> None:
    assert await phone.wait_answered()
    await phone.hear_agent_start()


async def _while_speaking(node: Rig, phone: Phone) -> None:
    await _in_the_greeting(node, phone)
    phone.media.say(pattern(Law.ULAW, 60, 0, 16000))
    await until(lambda: bool(node.of(model.BargeIn)), "the barge-in")


async def _in_the_answer(node: Rig, phone: Phone) -> None:
    await _in_the_greeting(node, phone)
    await phone.wait_quiet(300)
    await phone.say(WORDS)
    await phone.hear_agent_start()


async def _while_the_model_thinks(node: Rig, phone: Phone) -> None:
    await _in_the_greeting(node, phone)
    await phone.wait_quiet(300)
    await phone.say(WORDS)


@pytest.mark.parametrize(
    ("moment", "fault", "reason"),
    [
        (_while_ringing, "hang-handshake", Reason.CALLER_CANCELLED),
        (_while_ringing, "slow-handshake=1", Reason.CALLER_CANCELLED),
        (_while_ringing, "no-ack", Reason.CALLER_CANCELLED),
        (_at_answer, "reversed-opening", Reason.CALLER_HANGUP),
        (_in_the_greeting, "reversed-opening", Reason.CALLER_HANGUP),
        (_while_speaking, "reversed-opening", Reason.CALLER_HANGUP),
        (_while_the_model_thinks, "reversed-opening", Reason.CALLER_HANGUP),
        (_in_the_answer, "reversed-opening", Reason.CALLER_HANGUP),
    ],
)
async def test_a_caller_who_leaves_leaves_nothing(
    rig: MakeRig, moment: Callable[[Rig, Phone], Awaitable[None]], fault: str, reason: Reason
) -> None:
    node = await rig(faulty(fault, answer_ms=3000))
    async with node.phone() as phone:
        await phone.dial("100")
        await moment(node, phone)
        await phone.hang_up()
    assert (await node.ended()).reason is reason
    await node.nothing_left()


async def test_callers_who_leave_at_random_moments_leave_nothing(rig: MakeRig) -> None:
    """Forty callers who give up 0 to 400 ms after dialling: through every state of the set-up."""
    node = await rig(faulty("slow-ack=0.2"))

    async def impatient(patience_ms: int) -> None:
        async with node.phone() as phone:
            await phone.dial("100")
            await asyncio.sleep(patience_ms / 1000)
            await phone.hang_up()
            lost.append(phone.summary().outcome == "lost")

    lost: list[bool] = []
    for batch in range(4):
        await asyncio.gather(*(impatient(batch * 10 + n * 40) for n in range(10)))

    async def callers() -> list[str]:
        return [channel.id for channel in await node.ari.channels() if channel.name.startswith("PJSIP/")]

    async def only_lost_ones_are_left() -> bool:
        return len(await callers()) <= sum(lost)

    # A phone that says of itself that its BYE was never answered leaves a caller behind who, for Asterisk, is there
    # and for us to serve. Nobody else may be left; these few are then hung up for it.
    await until(only_lost_ones_are_left, "everybody who hung up to be gone")
    for channel_id in await callers():
        await ChannelHandle(node.ari, channel_id).hang_up(16)
    await until(lambda: len(node.of(model.CallEnded)) == len(node.of(model.CallStarted)), "all calls to end")
    assert {e.outcome.fault for e in node.of(model.CallEnded)} <= {Fault.CALLER, Fault.NONE}
    await node.nothing_left()


async def test_no_port_free_hears_asterisk_say_sorry(rig: MakeRig) -> None:
    node = await rig(faulty())
    taken = []
    while True:
        try:
            taken.append(node.worker.house.ports.open(lambda _data, _source: None))
        except Exception:  # noqa: BLE001 - NoPortFree is what we wait for
            break
    async with node.phone() as phone:
        await phone.dial("100")
        await phone.wait_ended(15)
        spoken_ms = 20 * len(phone.media.voiced_in)
    for socket in taken:
        socket.close()
    assert (await node.ended()).reason is Reason.NO_MEDIA_PORT
    assert spoken_ms > 1000
    await node.nothing_left()
