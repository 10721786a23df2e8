"""The callers' signalling: one SIPp process dials all calls, each with the load generator's RTP port in its SDP.

A caller hangs up after its time, or answers the BYE of a far end that hangs up first. What happened to each call
is read from SIPp's trace of short messages, which has the time of every request and response.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sipagent.errors import ToolError

ANSWER_TIMEOUT_MS = 10_000
_TRACE = "messages.log"
_SCREEN = "screen.log"

_SDP = """v=0
o=bench 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio [field0] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=ptime:20"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which calls come when."""

    calls: int
    per_second: float
    hold_s: float
    """From the answer until the caller hangs up."""
    ports: Sequence[int]
    """RTP ports of the callers, taken in turn."""


@dataclass(slots=True)
class Signalling:
    """One call as SIP saw it; Unix times, None where it did not come to that."""

    number: int
    """From 0, in the order of dialling."""
    invited_at: float | None = None
    answered_at: float | None = None
    refused: str = ""
    """The first line of a final response that is neither 200 nor a challenge."""
    bye_by: str = ""
    """`caller` or `far end`."""
    bye_at: float | None = None


@dataclass(slots=True)
class Callers:
    """SIPp, and what it has noted."""

    process: asyncio.subprocess.Process
    folder: Path
    plan: Plan

    async def wait(self, timeout_s: float) -> None:
        """Until every call has ended; ToolError when that takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.process.wait()
        except TimeoutError:
            raise ToolError(f"SIPp has calls left after {timeout_s:.0f} s") from None

    def signalling(self) -> list[Signalling]:
        """Every call that was dialled; complete when SIPp has ended, since it writes late."""
        trace = self.folder / _TRACE
        if not trace.exists():
            words = (self.folder / _SCREEN).read_text(errors="replace").strip().splitlines()[:5]
            raise ToolError(f"SIPp dialled nobody: {' | '.join(words)}")
        return read_trace(trace)


@contextlib.asynccontextmanager
async def callers(
    command: Sequence[str], server: tuple[str, int], login: tuple[str, str], local_port: int, plan: Plan, folder: Path
) -> AsyncIterator[Callers]:
    """SIPp dials 100 at `server`, from now until the plan is done; stopped at the end of the block."""
    (folder / "calls.xml").write_text(scenario(login, f"sip:100@{server[0]}:{server[1]}", plan.hold_s))
    (folder / "ports.csv").write_text("SEQUENTIAL\n" + "".join(f"{port};\n" for port in plan.ports))
    # SIPp takes whole calls a period: 2.5 a second are 25 in 10 s.
    with (folder / _SCREEN).open("wb") as screen:
        process = await asyncio.create_subprocess_exec(
            *command, f"{server[0]}:{server[1]}", "-sf", "calls.xml", "-inf", "ports.csv", "-nostdin",
            "-m", str(plan.calls), "-l", str(len(plan.ports)),
            "-r", str(round(plan.per_second * 10)), "-rp", "10000",
            "-i", server[0], "-p", str(local_port), "-cid_str", "%u-%p",
            "-recv_timeout", str(ANSWER_TIMEOUT_MS), "-buff_size", str(1 << 22),
            "-trace_shortmsg", "-shortmessage_file", _TRACE, "-trace_err", "-error_file", "errors.log",
            stdin=asyncio.subprocess.DEVNULL, stdout=screen, stderr=screen,
            cwd=folder, start_new_session=True,  # Ctrl-C is ours
        )  # fmt: skip
    try:
        yield Callers(process, folder, plan)
    finally:
        if process.returncode is None:
            process.kill()  # Asterisk goes down too: nobody is left to say BYE to
            await process.wait()


def scenario(login: tuple[str, str], target: str, hold_s: float) -> str:
    """INVITE with digest, talk, BYE by whoever is first."""
    user, password = login
    authentication = f"[authentication username={user} password={password}]\n"
    early = "".join(f'<recv response="{code}" optional="true"/>' for code in (100, 180, 183))
    hold_ms = round(hold_s * 1000)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="bench">
{_send("INVITE", target, user, body=_SDP)}
<recv response="100" optional="true"/>
<recv response="401" auth="true"/>
<send><![CDATA[

ACK {target} SIP/2.0
[last_Via:]
[last_From:]
[last_To:]
Call-ID: [call_id]
CSeq: [cseq] ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
{_send("INVITE", target, user, headers=authentication, body=_SDP)}
{early}
<recv response="200" rrs="true"/>
{_send("ACK", "[next_url]", user)}
<recv request="BYE" timeout="{hold_ms}" ontimeout="bye"/>
<send next="end"><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
<label id="bye"/>
{_send("BYE", "[next_url]", user)}
<recv response="200" crlf="true"/>
<label id="end"/>
</scenario>
"""


def _send(method: str, uri: str, user: str, *, headers: str = "", body: str = "") -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    tag = "" if method == "INVITE" else "[peer_tag_param]"
    retransmitted = "" if method == "ACK" else ' retrans="500"'
    return f"""<send{retransmitted}><![CDATA[

{method} {uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]
{headers}From: <sip:{user}@[remote_ip]:[remote_port]>;tag=[pid]bench[call_number]
To: <sip:100@[remote_ip]:[remote_port]>{tag}
Call-ID: [call_id]
CSeq: [cseq] {method}
Contact: <sip:{user}@[local_ip]:[local_port]>
Max-Forwards: 70
{kind}Content-Length: [len]

{body}

]]></send>"""


def read_trace(file: Path) -> list[Signalling]:
    """SIPp's short messages: date, time, Unix time, S or R, Call-ID, CSeq, first line."""
    calls: dict[int, Signalling] = {}
    for line in file.read_text().splitlines():
        _, _, at, way, call_id, c_seq, first = line.split("\t", 6)
        number = int(call_id.partition("-")[0]) - 1
        _take(calls.setdefault(number, Signalling(number)), float(at), f"{way} {c_seq.split()[-1]} {first}")
    return [calls[number] for number in sorted(calls)]


def _take(call: Signalling, at: float, message: str) -> None:
    match message.split()[:4]:
        case ["S", "INVITE", *_]:
            call.invited_at = call.invited_at or at
        case ["R", "INVITE", "SIP/2.0", "200"]:
            call.answered_at = call.answered_at or at
        case ["R", "INVITE", "SIP/2.0", status] if status >= "300" and status != "401":
            call.refused = message.partition("SIP/2.0 ")[2]
        case ["S", "BYE", "BYE", *_]:
            call.bye_by, call.bye_at = call.bye_by or "caller", call.bye_at or at
        case ["R", "BYE", "BYE", *_]:
            call.bye_by, call.bye_at = call.bye_by or "far end", call.bye_at or at
