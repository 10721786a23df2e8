"""A desk phone of the PBX: SIPp as the called side. It answers (and echoes), is busy, or hangs up by itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sipagent.phone.sipp import free_udp_port
from tests.waiting import until

TRIES = 5

_OK = """<send retrans="500"><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]desk[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:desk@[local_ip]:[local_port]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=desk 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000

]]></send><recv request="ACK"/>"""
_STATUS = """<send{retrans}><![CDATA[

SIP/2.0 {status}
[last_Via:]
[last_From:]
[last_To:];tag=[pid]desk[call_number]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>"""
_BYE = """<send retrans="500"><![CDATA[

BYE [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: [$me];tag=[pid]desk[call_number]
To: [$them]
Call-ID: [call_id]
CSeq: 1 BYE
Max-Forwards: 70
Content-Length: 0

]]></send><recv response="200"/>"""
_INVITE = """<recv request="INVITE" crlf="true" rrs="true"><action>
<ereg regexp=".*" search_in="hdr" header="To:" assign_to="me"/>
<ereg regexp=".*" search_in="hdr" header="From:" assign_to="them"/></action></recv>"""
_HUNG_UP = '<recv request="BYE"/>' + _STATUS.format(retrans="", status="200 OK")

ANSWERS = _INVITE + _STATUS.format(retrans="", status="180 Ringing") + _OK + _HUNG_UP
BUSY = _INVITE + _STATUS.format(retrans=' retrans="500"', status="486 Busy Here") + '<recv request="ACK"/>'
DECLINES = BUSY.replace("486 Busy Here", "603 Decline")
LEAVES = _INVITE + _OK + '<pause milliseconds="700"/>' + _BYE
RINGS = _INVITE + _STATUS.format(retrans="", status="180 Ringing") + (
    '<recv request="CANCEL"/>' + _STATUS.format(retrans="", status="200 OK") + '<pause milliseconds="100"/>'
)  # fmt: skip


def says(file: Path) -> str:
    """Answers and plays G.711 (µ-law) over and over, until the other side hangs up."""
    play = f'<nop><action><exec rtp_stream="{file},-1,0"/></action></nop>'
    return _INVITE + _OK.replace("[media_port]", "[rtpstream_audio_port]") + play + _HUNG_UP


@contextlib.asynccontextmanager
async def desk(
    sipp: Sequence[str], scenario: str, folder: Path, variable: str = "", log: Path | None = None
) -> AsyncIterator[int]:
    """Somebody at 127.0.0.1 who behaves like this to each call; gives the port. `log`: what the scenario logs."""
    for _ in range(TRIES):
        port, media = free_udp_port("127.0.0.1"), free_udp_port("127.0.0.1")
        file = folder / f"desk-{port}.xml"
        references = f'<Reference variables="{",".join(filter(None, ("me", "them", variable)))}"/>'
        logged = ["-trace_logs", "-log_file", str(log)] if log else []
        file.write_text(f'<?xml version="1.0"?>\n<scenario name="desk">{scenario}{references}</scenario>\n')
        process = await asyncio.create_subprocess_exec(
            *sipp, "-sf", str(file), "-i", "127.0.0.1", "-p", str(port), "-mp", str(media), "-rtp_echo", "-aa",
            "-nostdin", "-default_behaviors", "all,-abortunexp", *logged,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
        )  # fmt: skip
        try:
            if await _sits_there(process, port):
                yield port
                return
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    pytest.fail(f"SIPp found no port in {TRIES} tries")


async def _sits_there(process: asyncio.subprocess.Process, port: int) -> bool:
    """It listens. SIPp ends at once when somebody was quicker at its port, or at one beside that of its media."""

    def bound_or_gone() -> bool:
        if process.returncode is not None:
            return True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return True
        return False

    await until(bound_or_gone, "SIPp to listen")
    return process.returncode is None
