"""Bad lines with the real Asterisk: a relay between the phone and it, or between it and the worker.

What the stand-in was sent is laid beside what the relay did to the caller's packets.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from sipagent import model
from sipagent.ari.objects import ChannelHandle, ExternalMedia, external_media
from sipagent.audio import FRAME_BYTES, Law
from sipagent.rtp.jitter import Counters
from sipagent.rtp.quality import from_asterisk
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import MakeRig, Rig
from tests.impairment import Packetizer, Plan, Profile, Relay

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SPEECH_MS = 5000
LAW = Law.ULAW
CALLER = pattern(LAW, 77, 0, SPEECH_MS * 8)
FRAMES = [CALLER[at : at + FRAME_BYTES] for at in range(0, len(CALLER), FRAME_BYTES)]
MONOLOGUE = StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=200, gate_dbov=0.0)
"""A stand-in that takes nothing for speech: the caller is not answered, only listened to."""


@dataclass
class Told:
    """A call over a relay, as the model heard it."""

    node: Rig
    relay: Relay
    statistics: dict[str, float]

    @property
    def counters(self) -> dict[str, int]:
        return self.node.of(model.CallEnded)[-1].counters

    @property
    def quality(self) -> model.LegQuality:
        """Of the way from the caller to the model, as the call reported it."""
        return self.node.of(model.CallEnded)[-1].quality["caller_to_model"]

    @property
    def audio(self) -> list[tuple[float, bytes]]:
        return list(self.node.standin.sessions[-1].record.audio)

    @property
    def heard(self) -> bytes:
        return b"".join(data for _, data in self.audio)

    @property
    def lasted_ms(self) -> float:
        """From the model's first frame of the caller to its last."""
        return 1000 * (self.audio[-1][0] - self.audio[0][0]) + 20


async def monologue(
    node: Rig, relay: Relay, patch: pytest.MonkeyPatch, *, between_phone_and_switch: bool = True
) -> Told:
    """A caller says `CALLER` into the line and hangs up."""
    async with relay:
        if between_phone_and_switch:
            patch.setattr("sipagent.phone.phone.PhoneMedia", relay.phone_media())
        async with node.phone(LAW) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()
            await phone.say(CALLER)
            await phone.wait_quiet(100)
            statistics = await ChannelHandle(node.ari, node.of(model.CallStarted)[-1].call_id).rtp_statistics()
            await phone.hang_up()
        await node.ended()
        await node.nothing_left()
    return Told(node, relay, statistics)


def told_counters(told: Told) -> Counters:
    """The session's counters out of the call's last event."""
    ticks = {"concealed", "muted", "paused", "inserted"}
    values = {name.removeprefix("rtp_"): value for name, value in told.counters.items() if name.startswith("rtp_")}
    values |= {f"{name}_ticks": values.pop(f"{name}_ms") * 8 for name in ticks}
    return Counters(**{field.name: values[field.name] for field in fields(Counters)})


def places(heard: bytes) -> list[tuple[int, int]]:
    """(number of the caller's frame, where it was heard) of each that came through whole."""
    found = [(number, heard.find(frame)) for number, frame in enumerate(FRAMES)]
    return [(number, at) for number, at in found if at >= 0]


def keeps_time(told: Told, tolerance_ms: float = 120) -> None:
    """The model heard as much as time passed, and each frame of the caller at its place."""
    inserted_ms = told.counters["rtp_inserted_ms"]
    assert -tolerance_ms <= len(told.heard) / 8 - told.lasted_ms <= inserted_ms + tolerance_ms
    found = places(told.heard)
    places_in_time = [at for _, at in found]
    assert places_in_time == sorted(places_in_time)
    first_number, first_at = found[0]
    shifts_ms = [(at - first_at - (number - first_number) * FRAME_BYTES) / 8 for number, at in found]
    assert min(shifts_ms) >= 0
    assert max(shifts_ms) <= inserted_ms


async def test_a_clean_line_through_the_relay(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await rig(MONOLOGUE)
    told = await monologue(node, Relay(Plan(Profile(), 1)), monkeypatch)
    counters = told_counters(told)
    assert len(places(told.heard)) == len(FRAMES)
    assert CALLER in told.heard or counters.inserted_ticks  # a machine that hesitates for 100 ms is a stalled line
    assert (counters.lost, counters.late, counters.duplicate, counters.reordered) == (0, 0, 0, 0)
    assert told.quality.mos == 4.41
    keeps_time(told)
    assert told.statistics["rxcount"] == pytest.approx(counters.received, abs=10)
    assert await ChannelHandle(node.ari, "gone").rtp_statistics() == {}


LINES = {
    "loss": Profile(loss=0.02),
    "bursts": Profile(burst_begins=0.01, burst_ends=0.3),
    "reorder": Profile(reorder=0.05, reorder_ms=25),
    "duplicates": Profile(duplicate=0.1, duplicate_ms=5),
    "jitter": Profile(delay_ms=10, jitter_ms=35),
    "everything": Profile(loss=0.02, jitter_ms=20, reorder=0.03, reorder_ms=30, duplicate=0.05, drift_ppm=200),
}


@pytest.mark.parametrize("name", LINES)
async def test_a_bad_line_between_phone_and_switch(rig: MakeRig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    relay = Relay(Plan(LINES[name], 5))
    told = await monologue(await rig(MONOLOGUE), relay, monkeypatch)
    counters, done = told_counters(told), relay.to_far.done
    keeps_time(told)
    # The relay worked from the phone's first packet to its last; the model's session began and ended within that.
    assert abs(counters.lost + counters.late - done.lost) <= 0.1 * done.lost + 4
    assert done.duplicated * 0.8 <= counters.duplicate <= done.duplicated
    assert abs(counters.reordered + counters.late - done.overtaken) <= 0.2 * done.overtaken + 3
    quality = told.quality
    assert quality.loss_percent == pytest.approx(done.loss_percent, abs=2.0)
    assert quality.mos
    assert (quality.mos < 4.4) is (quality.loss_percent > 0)
    # Asterisk tells of the same line, as of its last report.
    heard, by_rtcp = from_asterisk(told.statistics)
    assert by_rtcp is None  # this phone sends no RTCP
    assert heard.received >= counters.received - 10  # it was asked a moment before the end
    assert heard.lost <= done.lost + 1  # whoever is held back at the moment of the report counts as lost


@pytest.mark.parametrize("ptime_ms", [10, 30, 40, 60])
async def test_phones_of_other_packet_lengths(rig: MakeRig, monkeypatch: pytest.MonkeyPatch, ptime_ms: int) -> None:
    relay = Relay(Plan(Profile(loss=0.02), 6), repack=Packetizer(LAW, ptime_ms=ptime_ms).packets)
    told = await monologue(await rig(MONOLOGUE), relay, monkeypatch)
    keeps_time(told, 120 + ptime_ms)
    done = relay.to_far.done
    assert abs(told.counters["rtp_lost"] - done.lost) <= 2


async def test_a_phone_that_suppresses_silence_is_answered(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without silence made here the model's voice detector, which counts samples, would wait for ever."""
    node = await rig(StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=500))
    relay = Relay(Plan(Profile(), 7), repack=Packetizer(LAW, silence_suppression=True).packets)
    monkeypatch.setattr("sipagent.phone.phone.PhoneMedia", relay.phone_media())
    async with relay, node.phone(LAW) as phone:
        await phone.dial("100")
        assert await phone.wait_answered()
        await phone.hear_agent_start()
        await phone.wait_quiet(300)
        for turn in range(2):
            await phone.say(CALLER[: (1000 + 500 * turn) * 8])
            await phone.hear_agent_start()
            await phone.wait_quiet(300)
        await phone.hang_up()
    await node.ended()
    ended = node.of(model.CallEnded)[0]
    assert ended.turns >= 2
    assert ended.counters["rtp_lost"] == 0
    assert ended.counters["rtp_paused_ms"] >= 500
    assert ended.counters["rtp_inserted_ms"] <= ended.counters["rtp_paused_ms"] + 3000
    assert CALLER[:8000] in node.standin.sessions[-1].record.caller_audio


async def test_a_bad_line_between_switch_and_worker(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    to_worker = Plan(Profile(loss=0.02, duplicate=0.05, reorder=0.03), 8)
    relay = Relay(to_far=Plan(Profile(), 0), to_near=to_worker)

    @contextlib.asynccontextmanager
    async def through_the_relay(ari: Any, channel_id: str, **where: Any) -> AsyncIterator[ExternalMedia]:
        host, port = relay.far
        async with external_media(ari, channel_id, **{**where, "host": host, "port": port}) as external:
            relay.connect(external.address)
            yield replace(external, address=relay.near)

    monkeypatch.setattr("sipagent.room.external_media", through_the_relay)
    told = await monologue(await rig(MONOLOGUE), relay, monkeypatch, between_phone_and_switch=False)
    keeps_time(told)
    counters, done = told_counters(told), to_worker.done
    assert abs(counters.lost + counters.late - done.lost) <= 3
    assert abs(counters.duplicate - done.duplicated) <= 1
    assert counters.received + counters.duplicate + counters.late >= done.sent - done.lost + done.duplicated - 8


async def test_the_phones_ear_has_a_steady_agent_while_the_callers_line_stalls(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(Plan(Profile(stall_every_ms=1500, stall_ms=250), 9))
    told = await monologue(await rig(MONOLOGUE), relay, monkeypatch)
    keeps_time(told, 350)
    assert CALLER not in told.heard  # silence was lent in the middle of it
    assert len(places(told.heard)) == len(FRAMES)  # and nothing of it was lost
    assert told.counters["rtp_inserted_ms"] > 0
    assert told.counters["rtp_lost"] == 0
