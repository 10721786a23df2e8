"""A caller whose phone does more than talk: it is asked to call somebody else (SIP REFER), asks us to, or holds us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from sipagent.asterisk.conf import AsteriskConfig
from sipagent.phone.sipp import free_udp_port

_SDP = """v=0
o=caller 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=ptime:20"""
_INVITE = """<send retrans="500"><![CDATA[

INVITE sip:100@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
{login}From: <sip:{user}@[remote_ip]>;tag=[pid]referred[call_number]
To: <sip:100@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: {cseq} INVITE
Contact: <sip:{user}@[local_ip]:[local_port]>
Max-Forwards: 70
Allow: INVITE, ACK, CANCEL, BYE, REFER, NOTIFY
Content-Type: application/sdp
Content-Length: [len]

{sdp}

]]></send>"""
_ACK = """<send><![CDATA[

ACK {uri} SIP/2.0
{via}
From: <sip:{user}@[remote_ip]>;tag=[pid]referred[call_number]
To: <sip:100@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: {cseq} ACK
Max-Forwards: 70
Content-Length: 0

]]></send>"""
_RESPONSE = """<send><![CDATA[

SIP/2.0 {status}
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:{user}@[local_ip]:[local_port]>
Content-Length: 0

]]></send>"""
_NOTIFY = """<send retrans="500"><![CDATA[

NOTIFY [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:{user}@[remote_ip]>;tag=[pid]referred[call_number]
To: <sip:100@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 10 NOTIFY
Contact: <sip:{user}@[local_ip]:[local_port]>
Event: refer
Subscription-State: terminated;reason=noresource
Max-Forwards: 70
Content-Type: message/sipfrag;version=2.0
Content-Length: [len]

SIP/2.0 200 OK

]]></send><recv response="200"/>"""
_REFER = """<recv request="REFER"><action>
<ereg regexp="Refer-To: .*" search_in="msg" assign_to="to"/><log message="[$to]"/></action></recv>"""
_VIA = "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]"


_REINVITE = """<send retrans="500"><![CDATA[

INVITE [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:{user}@[remote_ip]>;tag=[pid]referred[call_number]
To: <sip:100@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: {cseq} INVITE
Contact: <sip:{user}@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

{sdp}
a={way}

]]></send><recv response="100" optional="true"/><recv response="200" rrs="true"/>"""
_ASK = """<send retrans="500"><![CDATA[

REFER [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:{user}@[remote_ip]>;tag=[pid]referred[call_number]
To: <sip:100@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 5 REFER
Contact: <sip:{user}@[local_ip]:[local_port]>
Refer-To: <sip:{to}@[remote_ip]:[remote_port]>
Referred-By: <sip:{user}@[remote_ip]>
Max-Forwards: 70
Content-Length: 0

]]></send><recv response="202"/>"""
_TOLD = """<recv request="NOTIFY"><action>
<ereg regexp="SIP/2.0 [0-9]+" search_in="body" assign_to="to"/><log message="[$to]"/></action></recv>"""


def holds(user: str) -> str:
    """Holds for two seconds, comes back, and stays."""
    parts = ['<pause milliseconds="1500"/>']
    for cseq, way, wait_ms in ((3, "sendonly", 2000), (4, "sendrecv", 0)):
        parts.append(_REINVITE.format(user=user, cseq=cseq, sdp=_SDP, way=way))
        parts.append(_ACK.format(uri="[next_url]", via=_VIA, user=user, cseq=cseq))
        parts.append(f'<pause milliseconds="{wait_ms}"/>')
    return "".join(parts)


def refers(user: str, to: str) -> str:
    """Asks us to go on with somebody else, and hears how it goes: Trying, then the end of it."""
    ok = _RESPONSE.format(status="200 OK", user=user)
    return '<pause milliseconds="1500"/>' + _ASK.format(user=user, to=to) + 2 * (_TOLD + ok)


def _scenario(user: str, password: str, words: Path | None, then: str) -> str:
    login = f"[authentication username={user} password={password}]\n"
    early = '<recv response="100" optional="true"/><recv response="180" optional="true"/>'
    parts = [
        _INVITE.format(user=user, cseq=1, login="", sdp=_SDP),
        '<recv response="401" auth="true"/>',
        _ACK.format(uri="sip:100@[remote_ip]:[remote_port]", via="[last_Via:]", user=user, cseq=1),
        _INVITE.format(user=user, cseq=2, login=login, sdp=_SDP),
        early,
        '<recv response="200" rrs="true"/>',
        _ACK.format(uri="[next_url]", via=_VIA, user=user, cseq=2),
        f'<nop><action><exec rtp_stream="{words},-1,0"/></action></nop>' if words else "",
        then,
        '<recv request="BYE"/>',
        _RESPONSE.format(status="200 OK", user=user),
    ]
    return f'<?xml version="1.0"?>\n<scenario name="referred">{"".join(parts)}</scenario>\n'


def obeys(user: str, answer: str) -> str:
    """Answers a REFER so."""
    told = _NOTIFY.format(user=user) if answer.startswith("202") else ""
    return _REFER + _RESPONSE.format(status=answer, user=user) + told


@contextlib.asynccontextmanager
async def caller(
    sipp: Sequence[str], config: AsteriskConfig, words: Path | None, then: str, folder: Path
) -> AsyncIterator[Path]:
    """Somebody who calls 100, says the words over and over (None: sends no sound at all), and does this.

    Gives the log of what they were told.
    """
    file, log = folder / "referred.xml", folder / "referred.log"
    file.write_text(_scenario(config.phone_user, config.phone_password, words, then))
    process = await asyncio.create_subprocess_exec(
        *sipp, f"127.0.0.1:{config.sip_port}", "-sf", str(file), "-i", "127.0.0.1", "-m", "1", "-nostdin",
        "-p", str(free_udp_port("127.0.0.1")), "-trace_logs", "-log_file", str(log), "-aa",
        "-default_behaviors", "all,-abortunexp",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )  # fmt: skip
    try:
        yield log
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
