"""Recorded calls against what the telephone sent and got, sample by sample."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from sipagent import model, orders
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import PTIME_MS, SILENCE_FRAME, Law, decode
from sipagent.control.recordings.recorder import Recorder
from sipagent.flow.phrases import Phrase
from sipagent.flow.prompts import Prompts
from sipagent.phone.phone import Phone
from sipagent.standin.config import Mode, StandinConfig
from sipagent.standin.pattern import pattern
from tests.e2e.conftest import SHORT_PROMPTS, MakeRig, Rig
from tests.e2e.desk import ANSWERS, BUSY, desk
from tests.e2e.test_flow import company
from tests.e2e.test_processes import get, on, phone_on, ready, sipagent
from tests.e2e.test_transfers import Company, places, say, script
from tests.waiting import until

__all__ = ["company"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.flaky(reruns=3, only_rerun=["Stalled"]),
]

ANNOUNCEMENT = SHORT_PROMPTS["one_moment"]
"""A prompt that the rig has rendered anyway."""
ANSWER_MS = 1000
GOODBYE_MS = 200
"""From the caller's hang-up until the worker hears of it, at most."""
SECOND = 8000


def deterministic(**changes: Any) -> StandinConfig:
    """Answers of known bytes."""
    return StandinConfig(mode=Mode.DETERMINISTIC, think_ms=100, answer_ms=ANSWER_MS, **changes)


class Stalled(AssertionError):
    """This machine gave the worker no time for over 40 ms: it said so, and sound lies further on than it was sent."""


@dataclass
class Recorded:
    node: Rig
    recorder: Recorder
    prompts: Prompts

    def started(self) -> bool:
        return bool(self.node.of(model.RecordingStarted))

    def place(self, part: bytes, whole: bytes) -> int:
        """As `place`, in one piece; a hole that the worker knows of is no fault of its recording."""
        try:
            return place(part, whole)
        except AssertionError:
            if stalled_ms := self.node.worker.pacer_wheel.shifted_ms:
                raise Stalled(f"a stall of {stalled_ms} ms") from None
            raise

    async def kept(self, count: int = 1) -> tuple[bytes, bytes]:
        """Left and right of the newest file, 16-bit PCM."""
        shelf = self.recorder.shelf
        await until(lambda: len(shelf.listed(9)) == count, "the recording to be kept")
        return channels(b"".join(shelf.audio(shelf.listed(1)[0])))


def channels(wav_file: bytes) -> tuple[bytes, bytes]:
    with wave.open(io.BytesIO(wav_file)) as wav:
        both = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)
    return both[:, 0].tobytes(), both[:, 1].tobytes()


def place(part: bytes, whole: bytes) -> int:
    """Where it stands, in samples; fails when it does not."""
    at = whole.find(part)
    assert at >= 0
    assert at % 2 == 0
    return at // 2


@asynccontextmanager
async def taped(node: Rig) -> AsyncIterator[Recorded]:
    """A node with prompts of its own, recorded."""
    recorder = Recorder(node.settings, node.events.append)
    node.worker.house = replace(node.worker.house, record=recorder.take)
    running = asyncio.create_task(recorder.run())
    try:
        yield Recorded(node, recorder, node.worker.house.policy.prompts)
    finally:
        running.cancel()
        await asyncio.wait({running})
        await recorder.aclose()


@pytest.fixture
def recorded(rig: MakeRig) -> Callable[..., Any]:
    """A node whose recordings go where the control process would put them."""

    @asynccontextmanager
    async def make(standin: StandinConfig, **changes: Any) -> AsyncIterator[Recorded]:
        node = await rig(standin, recording={"announcement": ANNOUNCEMENT, **changes.pop("recording", {})}, **changes)
        async with taped(node) as it:
            yield it

    return make


async def spoken(node: Rig, phone: Phone, times: int) -> None:
    """The agent has said something so many times, and been heard out."""
    await until(lambda: len(node.of(model.AgentSpoke)) == times, f"answer {times}")
    await phone.wait_quiet(300)


@pytest.mark.parametrize("law", list(Law))
async def test_both_sides_sample_by_sample_after_the_announcement(recorded: Callable[..., Any], law: Law) -> None:
    async with recorded(deterministic(), agent={"record": True}) as it:
        node = it.node
        question = pattern(law, 77, 0, SECOND)
        async with node.phone(law) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await spoken(node, phone, 1)
            await phone.say(question)
            await spoken(node, phone, 2)
            await phone.hang_up()
            sent = decode(b"".join(payload for _, payload in phone.media.sent), law)
            heard = decode(phone.media.received_payload(), law)
        await node.ended()
        left, right = await it.kept()
    assert node.of(model.CallEnded)[0].counters["rtp_lost"] == 0
    # Every sample, from the first to the last: nothing but what the telephone sent, in one piece; and got.
    # The clock goes on until Asterisk tells of the hang-up: nobody spoke then, and what left us nobody heard.
    nobody = decode(SILENCE_FRAME[law], law) * (GOODBYE_MS // PTIME_MS)
    it.place(left, sent + nobody)
    begin = it.place(right[: -len(nobody)], heard)
    assert len(left) == len(right)
    # All of the announcement was heard before, and none of it is in there.
    announcement = decode(it.prompts.get(Phrase(ANNOUNCEMENT), law), law)
    assert it.place(announcement, heard) * 2 + len(announcement) <= begin * 2
    assert announcement[-1600:] not in right
    # And both stand where they were: greeting, question, answer.
    greeting, asked, answer = (
        it.place(decode(pattern(law, 1, 0, SECOND), law), right),
        it.place(decode(question, law), left),
        it.place(decode(pattern(law, 2, 0, SECOND), law), right),
    )
    assert greeting + SECOND <= asked
    assert asked + SECOND <= answer
    [event] = node.of(model.RecordingEnded)
    assert (event.seconds, event.lost_ms, event.cut) == (len(left) / 2 / SECOND, 0, False)
    assert event.recording_id == node.of(model.RecordingStarted)[0].recording_id
    await node.nothing_left()


async def test_nothing_is_recorded_unless_it_is_asked_for(recorded: Callable[..., Any]) -> None:
    async with recorded(deterministic()) as it:
        async with it.node.phone() as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await spoken(it.node, phone, 1)
            call_id = it.node.of(model.CallStarted)[0].call_id
            it.node.worker.obey(orders.PauseRecording(id="1", call_id=call_id))
            it.node.worker.obey(orders.PauseRecording(id="2", call_id="nobody"))
            heard = phone.media.received_payload()
            await phone.hang_up()
        await it.node.ended()
        errors = [answer.error for answer in it.node.of(orders.Answer)]
        assert errors == ["this call is not recorded", "no such call"]
        assert not it.started()
        assert not it.recorder.shelf.folder.exists()
        assert it.prompts.get(Phrase(ANNOUNCEMENT), Law.ULAW)[:1600] not in heard


async def test_what_is_said_in_a_pause_is_nowhere(recorded: Callable[..., Any]) -> None:
    """Two parties want it; it goes on when both have let go."""
    card, rest = pattern(Law.ULAW, 5, 0, SECOND), pattern(Law.ULAW, 6, 0, SECOND)
    async with recorded(deterministic(), agent={"record": True, "greeting": ""}) as it:
        node = it.node
        async with node.phone() as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await until(it.started, "the recording to begin")
            call_id = node.of(model.CallStarted)[0].call_id
            recording = node.worker._calls[call_id][0].recording
            node.worker.obey(orders.PauseRecording(call_id=call_id))
            with recording.paused("collect_digits"):
                assert recording.state == "paused"
                node.worker.obey(orders.ResumeRecording(call_id=call_id))
                assert recording.state == "paused"
                await phone.say(card)
                await spoken(node, phone, 1)
            await phone.say(rest)
            await spoken(node, phone, 2)
            await phone.hang_up()
        await node.ended()
        left, right = await it.kept()
        [kept] = it.recorder.shelf.listed(1)
    assert [event.by for event in node.of(model.RecordingPaused)] == ["operator"]
    assert [event.by for event in node.of(model.RecordingResumed)] == ["collect_digits"]
    assert all(answer.error == "" for answer in node.of(orders.Answer))
    for at in range(0, SECOND - 80, 80):  # not 10 ms of it
        assert decode(card[at : at + 80], Law.ULAW) not in left
    assert decode(pattern(Law.ULAW, 1, 0, 800), Law.ULAW) not in right
    it.place(decode(rest, Law.ULAW), left)
    it.place(decode(pattern(Law.ULAW, 2, 0, SECOND), Law.ULAW), right)
    first, last = (round(at * SECOND) for at in (kept.pauses[0].from_s, kept.pauses[-1].to_s))
    assert last - first > 2 * SECOND
    assert not any(left[2 * first : 2 * last] + right[2 * first : 2 * last])


async def test_a_recorded_route_is_recorded_over_all_its_steps(recorded: Callable[..., Any]) -> None:
    async with recorded(
        deterministic(),
        announcements={"hello": {"prompt": SHORT_PROMPTS["apology"], "then": "agent:reception"}},
        routes=({"to": "100", "go": "announcement:hello", "record": True},),
    ) as it:
        async with it.node.phone() as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await spoken(it.node, phone, 1)
            await phone.hang_up()
        await it.node.ended()
        _, right = await it.kept()
    assert len(it.node.of(model.RecordingStarted)) == 1
    said = decode(it.prompts.get(Phrase(SHORT_PROMPTS["apology"]), Law.ULAW), Law.ULAW)
    assert it.place(said, right) * 2 + len(said) <= 2 * it.place(
        decode(pattern(Law.ULAW, 1, 0, SECOND), Law.ULAW), right
    )


async def test_without_an_announcement_it_begins_at_once_and_with_one_that_cannot_be_said_never(
    recorded: Callable[..., Any],
) -> None:
    for announcement, count in (("", 1), ("Nobody has rendered this.", 0)):
        async with recorded(deterministic(), agent={"record": True}, recording={"announcement": announcement}) as it:
            async with it.node.phone() as phone:
                await phone.dial("100")
                assert await phone.wait_answered()
                await spoken(it.node, phone, 1)
                await phone.hang_up()
            await it.node.ended()
            assert len(it.node.of(model.RecordingStarted)) == count
            if count:
                _, right = await it.kept()
                it.place(decode(pattern(Law.ULAW, 1, 0, SECOND), Law.ULAW), right)


async def test_a_caller_who_speaks_over_the_announcement_hears_it_all(recorded: Callable[..., Any]) -> None:
    async with recorded(deterministic(), agent={"record": True, "greeting": ""}) as it:
        async with it.node.phone() as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.say(pattern(Law.ULAW, 77, 0, SECOND))
            await until(it.started, "the recording to begin")
            await spoken(it.node, phone, 1)
            heard = phone.media.received_payload()
            await phone.hang_up()
        await it.node.ended()
        _, right = await it.kept()
    assert it.node.of(model.BargeIn) == []
    it.place(decode(it.prompts.get(Phrase(ANNOUNCEMENT), Law.ULAW), Law.ULAW), decode(heard, Law.ULAW))
    it.place(decode(pattern(Law.ULAW, 1, 0, SECOND), Law.ULAW), right)


async def test_it_ends_when_a_person_takes_the_call(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), ANSWERS, tmp_path) as port:
        more = places()
        more["agent"]["record"] = True
        async with taped(await company(port, script(tmp_path, "desk"), **more)) as it:
            async with it.node.phone() as phone:
                await phone.dial("100")
                await until(it.started, "the announcement to be over")
                await phone.hear_agent_start()
                await say(phone, root, "connect me to sales")
                left, _ = await it.kept()
                assert not phone.ended
                private = bytes(range(1, 161)) * 50
                await phone.say(private)
                await phone.hang_up()
            await it.node.ended()
            assert len(it.node.of(model.RecordingStarted)) == len(it.node.of(model.RecordingEnded)) == 1
            assert it.recorder.counts["blocks_late"] == 0
            assert decode(private[:160], Law.ULAW) not in left


async def test_who_comes_back_is_recorded_again_and_told_once(company: Company, root: Root, tmp_path: Path) -> None:
    async with desk(root.command("sipp"), BUSY, tmp_path) as port:
        node = await company(
            port,
            deterministic(),
            announcements={"hello": {"prompt": "Hello caller.", "then": "dial:away"}},
            dials={"away": {"number": "401", "trunk": "pbx", "then": "agent:reception"}},
            routes=[{"to": "100", "go": "announcement:hello", "record": True}],
            menus={},
            collects={},
            mailboxes={},
            queues={},
        )
        async with taped(node) as it:
            async with node.phone() as phone:
                await phone.dial("100")
                await spoken(node, phone, 1)
                heard = decode(phone.media.received_payload(), Law.ULAW)
                await phone.hang_up()
            await node.ended()
            _, second = await it.kept(2)
            first = channels(b"".join(it.recorder.shelf.audio(it.recorder.shelf.listed(2)[1])))[1]
            announcement = decode(it.prompts.get(Phrase("This call is recorded."), Law.ULAW), Law.ULAW)
            assert heard.count(announcement[:3200]) == 1
            it.place(decode(it.prompts.get(Phrase("Hello caller."), Law.ULAW), Law.ULAW), first)
            it.place(decode(pattern(Law.ULAW, 1, 0, SECOND), Law.ULAW), second)
            assert {kept.call_id for kept in it.recorder.shelf.listed(9)} == {node.of(model.CallStarted)[0].call_id}


CONFIG = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
record = true
[numbers]
"100" = "reception"
[recording]
announcement = "Recorded."
"""


async def post(env: dict[str, str], path: str) -> int:
    url = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}{path}"
    async with aiohttp.ClientSession() as http, http.post(url) as response:
        return response.status


async def live_call(env: dict[str, str]) -> dict[str, Any]:
    calls = (await get(env, "/v1/calls/live"))[1].get("calls", [])
    return calls[0] if calls else {}


async def until_recording(env: dict[str, str], state: str) -> str:
    async def is_so() -> bool:
        return (await live_call(env)).get("recording") == state

    await until(is_so, f"the recording to be {state!r}")
    return str((await live_call(env))["call_id"])


@pytest.mark.parametrize("key", ["", "00ff" * 16])
async def test_a_worker_killed_in_the_middle_costs_a_second_at_most(
    asterisk: Asterisk, root: Root, tmp_path: Path, key: str
) -> None:
    config_file = tmp_path / "sipagent.toml"
    config_file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", RECORDING__KEY=key)
    async with sipagent(env, "run", "--standin", "--config", str(config_file)):
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await until_recording(env, "on")
            await phone.say(pattern(Law.ULAW, 3, 0, 3 * SECOND))
            [worker] = (await get(env, "/readyz"))[1]["workers"]
            saying = asyncio.ensure_future(phone.say(pattern(Law.ULAW, 4, 0, 3 * SECOND)))
            await until(lambda: len(phone.media._queue) < 75, "half of it to be said")
            os.kill(worker["pid"], signal.SIGKILL)
            said = len(phone.media.sent) * 160
            await saying
            await phone.hang_up()
            sent = decode(b"".join(payload for _, payload in phone.media.sent), Law.ULAW)

        # Whoever adopted the call in time has made one of its own.
        async def of_the_dead_worker() -> list[dict[str, Any]]:
            return [kept for kept in (await get(env, "/v1/recordings"))[1].get("recordings", []) if kept["cut"]]

        async def is_kept() -> bool:
            return bool(await of_the_dead_worker())

        await until(is_kept, "the recording to be kept")
        [kept] = await of_the_dead_worker()
        base = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}/v1/recordings/{kept['recording_id']}"
        async with aiohttp.ClientSession() as http, http.get(base + "/audio") as response:
            assert response.content_type == "audio/wav"
            left, _ = channels(await response.read())
    assert (kept["lost_ms"], kept["encrypted"]) == (0, bool(key))
    until_sample = place(left, sent) + len(left) // 2
    # A second, and what was on its way through Asterisk.
    assert said - until_sample <= SECOND + 800


@pytest.mark.parametrize("workers", [0, 1])
async def test_the_operator_pauses_and_fetches_by_api_and_command(
    asterisk: Asterisk, root: Root, tmp_path: Path, workers: int
) -> None:
    config_file = tmp_path / "sipagent.toml"
    config_file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=workers, RECORDING__KEY="00ff" * 16)
    options = ("--config", str(config_file))
    async with sipagent(env, "run", "--standin", *options):
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            call_id = await until_recording(env, "on")
            assert await post(env, f"/v1/calls/{call_id}/recording/pause") == 204
            await until_recording(env, "paused")
            await phone.say(pattern(Law.ULAW, 5, 0, 2400))
            assert await post(env, f"/v1/calls/{call_id}/recording/resume") == 204
            await until_recording(env, "on")
            assert await post(env, "/v1/calls/nobody/recording/pause") == 404
            await phone.hang_up()
    # Whatever the process had not kept when it was stopped, the next one does.
    async with sipagent(env, "run", "--standin", *options):
        await ready(env)

        async def is_kept() -> bool:
            return bool((await get(env, "/v1/recordings"))[1].get("recordings"))

        await until(is_kept, "the recording to be kept")
    async with sipagent(env, "recordings", "list", "--json", *options) as process:
        out, _ = await process.communicate()
        [kept] = json.loads(out)
    assert [pause["by"] for pause in kept["pauses"]] == ["operator"]
    file = tmp_path / "call.wav"
    async with sipagent(env, "recordings", "export", kept["recording_id"], str(file), *options) as process:
        out, _ = await process.communicate()
        assert process.returncode == 0, out
    assert file.stat().st_size == kept["audio_bytes"]
    left, right = channels(file.read_bytes())
    assert len(left) == len(right) == round(kept["seconds"] * SECOND) * 2
    env["SIPAGENT_RECORDING__KEY"] = "11" * 32
    async with sipagent(env, "recordings", "export", kept["recording_id"], str(file), *options) as process:
        out, _ = await process.communicate()
        assert process.returncode == 1
        assert b"another key" in out
        assert b"Traceback" not in out
    assert channels(file.read_bytes()) == (left, right)
