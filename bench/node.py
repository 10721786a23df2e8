"""The whole node under calls: real Asterisk, real worker, the stand-in, and real SIP calls measured at the phone.

Every call is a SIPp process for the signalling and a thread of ours for the sound, so a hundred of them are a load
for the machine too: what is measured here is what callers hear, turn by turn; capacity is for `alone` and `crowd`.
Each call is four turns, the last a barge-in; "added" is what remains of a turn when the model's own waits are
taken off (the pause it was told to wait for, and its thinking time).
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Literal

from bench.model import THINK_MS
from bench.processes import cpu_s, descriptors, rss_kb
from bench.results import stamp
from sipagent import node, secretfiles, switch
from sipagent.asterisk.fetch import fetch
from sipagent.asterisk.root import Root
from sipagent.audio import Law, encode
from sipagent.config import Settings, load
from sipagent.errors import SipAgentError, ToolError
from sipagent.phone.phone import CallSummary, Phone, PhoneConfig

SILENCE_MS = 500
"""`silence_duration_ms`, the default: how long the model waits until a caller has finished."""
TURNS = 3
SPEECH_MS = 1000
QUIET_MS = 400.0
SETTLE_S = 3.0
"""After the last call, until Asterisk and the sockets are back to rest."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of what callers met, in ms."""

    count: int
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None of nothing."""
        if not values:
            return None
        cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
        return cls(len(values), round(cuts[49], 1), round(cuts[94], 1), round(max(values), 1))


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    calls: int
    answered: int
    failed: list[str]
    setup_ms: Spread | None
    """INVITE to 200."""
    first_agent_ms: Spread | None
    """INVITE to the first voiced frame of the agent, the stand-in's 150 ms included."""
    turns_answered: int
    added_ms: Spread | None
    barge_in_stop_ms: Spread | None
    """Onset of the caller's speech to the arrival of the agent's last voiced frame, both at the phone. Answers start
    in step with the caller's own frames here (the model counts them), so this is not spread over 20 ms."""
    longest_gap_ms: Spread | None
    packets_lost: int
    packets_received: int
    cpu_percent_a_call: dict[str, float]
    """Of one core, over the whole run, by process."""
    descriptors: tuple[int, int]
    """Of the worker, before and after."""
    rss_kb: tuple[int, int]
    channels_left: str
    started_at: str
    machine: str
    kind: Literal["node"] = "node"


def speech() -> bytes:
    """A second of a voice, as G.711: pulses at 125 Hz."""
    one = b"".join(round(9000 * 0.9**n * (-1) ** n).to_bytes(2, "little", signed=True) for n in range(64))
    return encode(one * (SPEECH_MS * 8 // 64), Law.ULAW)


async def run(calls: int, per_second: float, say: Callable[[str], None]) -> Result:
    """Bring the node up, place the calls at an even rate, take everything down again."""
    root = await asyncio.to_thread(fetch, ("asterisk", "sipp", "flite"))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sipagent-bench-")))
        model = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.model", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        stack.push_async_callback(_stop, model)
        config = folder / "sipagent.toml"
        config.write_text(_configuration(folder, await _address(model)))
        secretfiles.ensure(folder)
        settings = load(config)
        server = await stack.enter_async_context(switch.asterisk(settings, root, say))
        control = await stack.enter_async_context(
            node.control_process(settings, ["--config", str(config)], root, say, folder / "worker.log")
        )
        pids = {"asterisk": server.pid or 0, "worker": control.live.workers[1].pid, "stand-in": model.pid}
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        fds, rss = descriptors(pids["worker"]), rss_kb(pids["worker"])
        summaries, failed = await _place(settings, root, calls, per_second)
        talked_s = sum(summary.duration_s for summary in summaries) or 1.0
        used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
        await asyncio.sleep(SETTLE_S)
        return _result(
            calls,
            summaries,
            failed,
            {name: round(100 * seconds / talked_s, 3) for name, seconds in used.items()},
            (fds, descriptors(pids["worker"])),
            (rss, rss_kb(pids["worker"])),
            (await server.cli("core show channels count")).splitlines()[0],
        )


async def _place(settings: Settings, root: Root, calls: int, per_second: float) -> tuple[list[CallSummary], list[str]]:
    failed: list[str] = []

    async def one(number: int) -> CallSummary | None:
        await asyncio.sleep(number / per_second)
        try:
            return await _call(settings, root)
        except (SipAgentError, TimeoutError) as error:
            failed.append(str(error) or type(error).__name__)
            return None

    ended = await asyncio.gather(*(one(number) for number in range(calls)))
    return [summary for summary in ended if summary], failed


async def _call(settings: Settings, root: Root) -> CallSummary:
    asterisk = settings.asterisk
    password = asterisk.phone_password.get_secret_value()
    login = PhoneConfig(f"127.0.0.1:{asterisk.sip_port}", asterisk.phone_user, password, Law.ULAW)
    words = speech()
    async with Phone(login, root.command("sipp")) as phone:
        await phone.dial("100")
        if await phone.wait_answered():
            await phone.hear_agent_start()
            await phone.wait_quiet(QUIET_MS)
            for turn in range(TURNS):
                await phone.say(words)
                await phone.hear_agent_start()
                if turn < TURNS - 1:
                    await phone.wait_quiet(QUIET_MS)
            await asyncio.sleep(1.0)  # into the last answer
            await phone.say(words)
            await phone.hear_agent_start()
            await phone.hang_up()
        return phone.summary()


def _result(
    calls: int,
    summaries: list[CallSummary],
    failed: list[str],
    cpu: dict[str, float],
    fds: tuple[int, int],
    rss: tuple[int, int],
    channels: str,
) -> Result:
    started_at, machine = stamp()
    turns = [turn for summary in summaries for turn in summary.turns]
    waits_ms = SILENCE_MS + THINK_MS
    return Result(
        calls=calls,
        answered=sum(summary.status == 200 for summary in summaries),
        failed=failed,
        setup_ms=Spread.of([s.setup_ms for s in summaries if s.setup_ms is not None]),
        first_agent_ms=Spread.of([s.first_agent_ms for s in summaries if s.first_agent_ms is not None]),
        turns_answered=sum(turn.response_ms is not None for turn in turns),
        added_ms=Spread.of([turn.response_ms - waits_ms for turn in turns if turn.response_ms is not None]),
        barge_in_stop_ms=Spread.of([turn.barge_in_ms for turn in turns if turn.barge_in_ms is not None]),
        longest_gap_ms=Spread.of([summary.longest_gap_ms for summary in summaries]),
        packets_lost=sum(summary.packets_lost for summary in summaries),
        packets_received=sum(summary.packets_received for summary in summaries),
        cpu_percent_a_call=cpu,
        descriptors=fds,
        rss_kb=rss,
        channels_left=channels,
        started_at=started_at,
        machine=machine,
    )


def _configuration(folder: Path, url: str) -> str:
    """A sipagent.toml with ports of its own."""
    base = secrets.choice(range(30000, 42000, 1000))
    return f"""
run_dir = "{folder}"
[asterisk]
http_port = {base}
sip_port = {base + 1}
rtp_ports = [{base + 4000}, {base + 7999}]
[realtime]
url = "{url}"
api_key = "bench"
[media]
ports = [{base + 2000}, {base + 3999}]
[control]
port = {base + 2}
[agents.bench]
instructions = "Answer."
[numbers]
100 = "bench"
"""


async def _address(model: asyncio.subprocess.Process) -> str:
    """The stand-in's, among what it logs."""
    if model.stdout is not None:
        async for line in model.stdout:
            if line.startswith(b"ws"):
                return line.decode().strip()
    raise ToolError("the stand-in did not start")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()
