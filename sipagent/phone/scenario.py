"""The call as SIPp's XML: INVITE, digest when challenged, ringing, answer, BYE or CANCEL on command.

Pure text. SIPp and we talk over its 3PCC socket: `<sendCmd>` tells us each step as it happens (with SIPp's
own clock), `<recvCmd>` lets us hang up at any moment, ringing or answered. The password stands in the
scenario, a file of mode 0600, and not in the process list. Labels: 1 first INVITE, 2 the one with digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sipagent.audio import Law

TELEPHONE_EVENT_PT = 101
"""RFC 4733 digits; dynamic, and the number nearly everybody uses."""

_CODEC = {Law.ULAW: "PCMU", Law.ALAW: "PCMA"}
# SIPp knows no pattern for responses, so each final status one may meet is named. 401 and 407 are apart.
_FINAL = (
    *(300, 301, 302, 305, 380, 400, 402, 403, 404, 405, 406, 408, 410, 412, 413, 414, 415, 416, 420, 421, 422),
    *(423, 428, 429, 433, 436, 437, 438, 480, 481, 482, 483, 484, 485, 486, 487, 488, 489, 491, 493, 494),
    *(500, 501, 502, 503, 504, 505, 513, 580, 600, 603, 604, 606, 607, 608),
)
_CHALLENGE = (401, 407)
_ROUTES = "[routes]\n"


@dataclass(frozen=True, slots=True)
class Caller:
    """What one call needs to be placed: whom, by whom, with which media."""

    target: str
    """The request URI without brackets: `sip:600@192.0.2.1:5060`."""
    user: str
    password: str = field(repr=False)
    law: Law
    media_host: str
    media_port: int


def scenario(caller: Caller) -> str:
    """The whole scenario."""
    invite, digest = _invite(caller, digest=False), _invite(caller, digest=True)
    parts = (
        _tell("dialling"),
        invite,
        _early(1, challenged=False),
        '<label id="3"/>',
        f"<send>{_same_transaction('ACK', '[last_To:]', caller)}</send>",
        digest,
        _early(2, challenged=True),
        _answered(caller),
        _refused(caller),
        _cancelled(caller),
        '<label id="99"/>\n<nop hide="true"/>\n<Reference variables="whole"/>',
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="sipagent phone">\n'
    return head + "\n".join(parts) + "\n</scenario>\n"


def _message(text: str) -> str:
    """SIPp wants an empty line first and takes the indentation off; CDATA cannot hold its own end."""
    return "<![CDATA[\n\n" + text.strip().replace("]]>", "]] >") + "\n\n]]>"


def _tell(event: str, *lines: str) -> str:
    """A message to us. [timestamp] ends in seconds of the wall clock with microseconds."""
    body = "\n".join(("Call-ID: [call_id]", f"Event: {event}", "Time: [timestamp]", *lines))
    return f"<sendCmd><![CDATA[\n{body}\n]]></sendCmd>"


def _sdp(caller: Caller) -> str:
    pt, family = caller.law.payload_type, "IP6" if ":" in caller.media_host else "IP4"
    return f"""\
v=0
o=sipagent 1 1 IN {family} {caller.media_host}
s=-
c=IN {family} {caller.media_host}
t=0 0
m=audio {caller.media_port} RTP/AVP {pt} {TELEPHONE_EVENT_PT}
a=rtpmap:{pt} {_CODEC[caller.law]}/8000
a=rtpmap:{TELEPHONE_EVENT_PT} telephone-event/8000
a=fmtp:{TELEPHONE_EVENT_PT} 0-16
a=ptime:20
a=sendrecv"""


def _request(method: str, uri: str, caller: Caller, *, headers: str = "", body: str = "") -> str:
    """A request that opens a transaction; inside a dialog [peer_tag_param] is the far end's tag."""
    content = f"Content-Type: application/sdp\nContent-Length: [len]\n\n{body}" if body else "Content-Length: 0"
    tag = "" if method == "INVITE" else "[peer_tag_param]"
    return _message(f"""
{method} {uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]
{headers}From: <sip:{caller.user}@[remote_ip]:[remote_port]>;tag=[pid]sipagent[call_number]
To: <{caller.target}>{tag}
Call-ID: [call_id]
CSeq: [cseq] {method}
Contact: <sip:{caller.user}@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
User-Agent: sipagent-phone
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS
{content}""")


def _same_transaction(method: str, to: str, caller: Caller) -> str:
    """ACK of a failure and CANCEL: the INVITE's own branch (RFC 3261, 17.1.1.3 and 9.1)."""
    return _message(f"""
{method} {caller.target} SIP/2.0
[last_Via:]
[last_From:]
{to}
Call-ID: [call_id]
CSeq: [cseq] {method}
Max-Forwards: 70
Content-Length: 0""")


def _response(body: str = "") -> str:
    """200 to a request of the far end."""
    content = f"Content-Type: application/sdp\nContent-Length: [len]\n\n{body}" if body else "Content-Length: 0"
    return _message(f"""
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
{content}""")


def _invite(caller: Caller, *, digest: bool) -> str:
    login = f"[authentication username={caller.user} password={caller.password}]\n" if digest else ""
    text = _request("INVITE", caller.target, caller, headers=login, body=_sdp(caller))
    return f'<send retrans="500">{text}</send>'


def _early(number: int, *, challenged: bool) -> str:
    """Everything that may come before the answer, in any order.

    A CANCEL must wait for a first response (RFC 3261, 9.1), so only the second list takes our command;
    SippCall holds one back that is given earlier.
    """
    first, wait, trying, ringing, progress = (number * 10 + step for step in range(5))
    media = (
        '<action><ereg regexp="c=IN IP[46] ([^[:space:]]+)" search_in="msg" assign_to="whole,host"/>'
        '<ereg regexp="m=audio ([0-9]+)" search_in="msg" assign_to="whole,port"/></action>'
    )
    status = '<action><ereg regexp="SIP/2.0 ([0-9]+)" search_in="msg" assign_to="whole,status"/></action>'
    responses = [
        *(f'<recv response="{code}" optional="true" next="{wait}"/>' for code in (181, 182, 199)),
        f'<recv response="180" optional="true" next="{ringing}"/>',
        f'<recv response="183" optional="true" next="{progress}">{media}</recv>',
        f'<recv response="200" optional="true" rrs="true" next="40">{media}</recv>',
        *(f'<recv response="{code}" optional="true" next="60">{status}</recv>' for code in _FINAL),
    ]
    for code in _CHALLENGE:
        # Challenged twice: the password is wrong.
        then = f'next="60">{status}</recv>' if challenged else 'auth="true" next="3"/>'
        responses.append(f'<recv response="{code}" optional="true" {then}')
    steps = (
        (trying, "trying", ()),
        (ringing, "ringing", ()),
        (progress, "progress", ("Media: [$host] [$port]",)),
    )
    return "\n".join((
        f'<label id="{first}"/>', *responses, f'<recv response="100" next="{trying}"/>',
        f'<label id="{wait}"/>', f'<recv response="100" optional="true" next="{wait}"/>', *responses,
        '<recvCmd next="70"/>',
        # A command is looked for from SIPp's present place on, so each of the ways back has its own ear.
        *(f'<label id="{label}"/>{_tell(event, *more)}<nop hide="true" next="{wait}"/><recvCmd next="70"/>'
          for label, event, more in steps),
    ))  # fmt: skip


def _answered(caller: Caller) -> str:
    """The dialog: ACK, then whoever hangs up first; a re-INVITE gets the same media again."""
    cause = '<action><ereg regexp="cause=([0-9]+)" search_in="msg" assign_to="whole,cause"/></action>'
    return f"""
<label id="40"/>
<send>{_request("ACK", "[next_url]", caller, headers=_ROUTES)}</send>
{_tell("answered", "Media: [$host] [$port]")}
<label id="41"/>
<recv request="BYE" optional="true" next="50">{cause}</recv>
<recv request="INVITE" optional="true" next="45"/>
<recv request="ACK" optional="true" next="41"/>
<recvCmd/>
<label id="42"/>
<send retrans="500">{_request("BYE", "[next_url]", caller, headers=_ROUTES)}</send>
<recv response="481" optional="true" next="43"/>
<recv response="200"/>
<label id="43"/>
{_tell("hung up")}
<nop hide="true" next="99"/>

<label id="45"/>
<send>{_response(_sdp(caller))}</send>
<nop hide="true" next="41"/>
<recvCmd next="42"/>

<label id="50"/>
<send>{_response()}</send>
{_tell("bye", "Cause: [$cause]")}
<nop hide="true" next="99"/>"""


def _refused(caller: Caller) -> str:
    return f"""
<label id="60"/>
<send>{_same_transaction("ACK", "[last_To:]", caller)}</send>
{_tell("refused", "Status: [$status]")}
<nop hide="true" next="99"/>"""


def _cancelled(caller: Caller) -> str:
    """CANCEL and the 487 that follows; a 200 that crossed it on the wire is acknowledged and hung up."""
    ignored = "\n".join(f'<recv response="{code}" optional="true" next="71"/>' for code in (100, 180, 181, 182, 183))
    failed = "\n".join(f'<recv response="{code}" optional="true" next="72"/>' for code in (*_FINAL, *_CHALLENGE))
    # Both 200s bear the INVITE's branch; only CSeq tells them apart.
    whose = '<action><ereg regexp="INVITE" search_in="hdr" header="CSeq:" assign_to="crossed"/></action>'
    return f"""
<label id="70"/>
<send retrans="500">{_same_transaction("CANCEL", f"To: <{caller.target}>", caller)}</send>
<label id="71"/>
{ignored}
{failed}
<recv response="200" rrs="true" next="75" test="crossed">{whose}</recv>
<nop hide="true" next="71"/>
<label id="72"/>
<send>{_same_transaction("ACK", "[last_To:]", caller)}</send>
{_tell("cancelled")}
<nop hide="true" next="99"/>
<label id="75"/>
<send>{_request("ACK", "[next_url]", caller, headers=_ROUTES)}</send>
<nop hide="true" next="42"/>"""
