"""The public edge under attack: strangers get 401 or nothing, are told to fail2ban, and disturb no call.

Strangers send from 127.0.0.1, which is no trunk's address; what they send is made here byte by byte, since a SIP
client that means well cannot. One test speaks as the carrier itself: its address is trusted, its headers are not.
"""

from __future__ import annotations

import asyncio
import configparser
import re
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from sipagent.asterisk.conf import default_conf_dir
from sipagent.phone.sipp import free_udp_port
from sipagent.standin.pattern import pattern
from tests.e2e.town import CARRIER, US, Town, switches, tidy, town
from tests.waiting import PATIENCE_S, until

__all__ = ["switches", "tidy", "town"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

STRANGER, VICTIM = "127.0.0.1", "9.9.9.9"
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n"
ANYBODY = "<sip:1000@127.0.0.1>"
FLOOD_A_SECOND, FLOOD_CALLS, CALLS = 50, 200, 10
FLOOD = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="unauthenticated">
<send><![CDATA[

INVITE sip:00972[call_number]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=[branch]
From: <sip:10[call_number]@[remote_ip]>;tag=[pid]x[call_number]
To: <sip:00972[call_number]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:1@[local_ip]:[local_port]>
Max-Forwards: 70
User-Agent: friendly-scanner
Content-Length: 0

]]></send>
<recv response="401"/>
<send><![CDATA[

ACK sip:00972[call_number]@[remote_ip]:[remote_port] SIP/2.0
[last_Via:]
[last_From:]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
</scenario>
"""


class Sender(asyncio.DatagramProtocol):
    """A UDP socket that speaks to our switch: whole datagrams out, status codes in."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, int]] = []
        """Call-ID and status of every response."""
        self.calls = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if found := re.match(r"SIP/2\.0 (\d+)(?s:.*?)^Call-ID: (\S+)", data.decode(errors="replace"), re.MULTILINE):
            self.answers.append((found[2], int(found[1])))

    def error_received(self, exc: OSError) -> None:
        pass

    def invite(self, to: str = "401", caller: str = ANYBODY, *headers: str, method: str = "INVITE") -> str:
        """A whole request; `headers` are further lines."""
        self.calls += 1
        host, port = self.transport.get_extra_info("sockname")
        unique = f"{port}{self.calls}"
        lines = [f"{method} sip:{to}@{US} SIP/2.0", f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{unique}",
                 f"From: {caller};tag=t{unique}", f"To: <sip:{to}@{US}>", f"Call-ID: {unique}@{host}",
                 f"CSeq: 1 {method}",
                 f"Contact: <sip:x@{host}:{port}>", "Max-Forwards: 70", *headers]  # fmt: skip
        body = SDP if method == "INVITE" else ""
        kind = ["Content-Type: application/sdp"] if body else []
        return "\r\n".join([*lines, *kind, f"Content-Length: {len(body)}", "", body])

    def send(self, text: str | bytes) -> None:
        self.transport.sendto(text.encode() if isinstance(text, str) else text)

    async def answer(self, text: str) -> int:
        """Send and wait for the final response to it."""
        call_id = re.findall(r"^Call-ID: (\S+)", text, re.MULTILINE)[0]

        def final() -> list[int]:
            return [status for answered, status in self.answers if answered == call_id and status >= 200]

        self.send(text)
        await until(lambda: bool(final()), "an answer")
        return final()[0]


async def sender(address: str, switch_port: int) -> Sender:
    _, made = await asyncio.get_running_loop().create_datagram_endpoint(
        Sender, local_addr=(address, 0), remote_addr=(US, switch_port)
    )
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(town: Town) -> AsyncIterator[Sender]:
    made = await sender(STRANGER, town.switch.config.sip_port)
    yield made
    made.transport.close()


def bans(log: str) -> list[str]:
    """Addresses that fail2ban would count, by the filter we ship: it takes the date off each line, then matches."""
    shipped = configparser.ConfigParser(interpolation=configparser.BasicInterpolation())
    shipped.read(default_conf_dir() / "fail2ban/filter.d/sipagent.conf")
    failregex = shipped["Definition"].get("failregex").replace("<HOST>", r"(?P<host>[0-9a-fA-F.:]+)")
    hits = (re.match(failregex, re.sub(r"^\[[0-9-]+ [0-9:.]+\]", "", line)) for line in log.splitlines())
    return [hit["host"] for hit in hits if hit]


def jailed(town: Town) -> list[str]:
    return bans(town.security_log)


@pytest.mark.parametrize("agent", ["friendly-scanner", "sipvicious", "sipcli/v1.8", "PolycomVVX-VVX_400-UA/5.9.0", ""])
async def test_a_scanner_is_challenged_and_told_to_fail2ban(town: Town, stranger: Sender, agent: str) -> None:
    before = len(jailed(town))
    for method in ("INVITE", "OPTIONS", "REGISTER"):
        assert (
            await stranger.answer(stranger.invite("100", "<sip:100@1.1.1.1>", f"User-Agent: {agent}", method=method))
            == 401
        )
    await until(lambda: len(jailed(town)) >= before + 3, "three lines for fail2ban")
    assert set(jailed(town)) == {STRANGER}
    assert town.agents.starts == []


@pytest.mark.parametrize("name", ["carrier", "office", "wrong", "sipagent", "anonymous", "carrier.identify"])
async def test_a_from_header_claims_no_trunk(town: Town, stranger: Sender, name: str) -> None:
    before = len(jailed(town))
    assert await stranger.answer(stranger.invite("442079460123", f"<sip:{name}@{US}>")) == 401
    await until(lambda: len(jailed(town)) > before, "a line for fail2ban")
    assert town.agents.starts == []


async def test_the_answer_does_not_tell_which_names_there_are(town: Town, stranger: Sender) -> None:
    for name in ("desk", "nobody"):
        assert await stranger.answer(stranger.invite("401", f"<sip:{name}@{US}>")) == 401


FORGED = f'RemoteAddress="IPV4/UDP/{VICTIM}/5060"'


@pytest.mark.parametrize(
    "caller",
    [
        f'<sip:x",{FORGED}@127.0.0.1>',
        f"<sip:x%22,{FORGED.replace(chr(34), '%22')}@127.0.0.1>",
        f'"x\\",{FORGED}" <sip:1@127.0.0.1>',
        f"<sip:x@127.0.0.1;x=%22,{FORGED.replace(chr(34), '%22')}>",
    ],
)
async def test_nobody_gets_somebody_else_banned(town: Town, stranger: Sender, caller: str) -> None:
    stranger.send(stranger.invite("401", caller))
    assert await stranger.answer(stranger.invite("401", "<sip:probe@127.0.0.1>")) == 401
    assert VICTIM not in jailed(town)


async def test_the_filter_reads_each_kind_of_event_and_no_forged_one() -> None:
    head = (
        '[2026-11-24 15:02:27.024] SECURITY[9721] res_security_log.c: SecurityEvent="{}",'
        'EventTV="2026-11-24T15:02:27.024+0000",Severity="Error",Service="PJSIP",EventVersion="1",'
    )
    tail = 'AccountID="{}",SessionID="x",LocalAddress="IPV4/TLS/192.0.2.1/5061"'
    where = ',RemoteAddress="{}/5060"'

    def line(event: str, account: str = "x", address: str = "IPV4/UDP/198.51.100.7", more: str = "") -> str:
        return head.format(event) + tail.format(account) + where.format(address) + more

    for event in ("InvalidAccountID", "FailedACL", "ChallengeResponseFailed", "InvalidPassword"):
        assert bans(line(event)) == ["198.51.100.7"]
    assert bans(line("InvalidPassword", address="IPV6/TLS/2001:db8::7", more=',Challenge="",ReceivedHash="x"')) == [
        "2001:db8::7"
    ]
    for event in ("ChallengeSent", "SuccessfulAuth"):
        assert bans(line(event)) == []
    assert bans(line("InvalidAccountID", account=f'x",{FORGED},A="')) == []
    assert bans(line("ChallengeResponseFailed", more=f',Response="x",{FORGED}')) == []


def broken(stranger: Sender) -> list[str | bytes]:
    """Requests as no client would send them."""
    good = stranger.invite()
    lines = good.split("\r\n")

    def without(name: str) -> str:
        return "\r\n".join(line for line in lines if not line.startswith(name))

    return [
        b"", b"\x00" * 512, b"\xff" * 1200, "GET / HTTP/1.1\r\n\r\n", "INVITE", "INVITE sip: SIP/2.0\r\n\r\n",
        *(without(name) for name in ("Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:", "Max-Forwards:")),
        good.replace("CSeq: 1 INVITE", "CSeq: 99999999999999999999 INVITE"),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        good.replace("Content-Length: ", "Content-Length: -"),
        good.replace("Content-Length: ", "Content-Length: 99999"),
        good.replace("SIP/2.0\r\n", "SIP/7.0\r\n", 1),
        good.replace("Max-Forwards: 70", "Max-Forwards: 0"),
        good.replace("m=audio 9 RTP/AVP 8", "m=audio 99999999 RTP/AVP -1"),
        good.replace("v=0", "v=" + "A" * 2000),
        good.replace("From: <sip:1000@127.0.0.1>", 'From: "' + "\\" * 50 + " <sip:;@@>>>"),
        good.replace("From: <sip:1000@127.0.0.1>", "From: <sip:%00%0d%0aX@127.0.0.1>"),
        good.encode().replace(b"User", b"\xc3\x28").replace(b"1000", b"\xf0\x9f\x98\x80"),
        stranger.invite("401", ANYBODY, "X-Huge: " + "A" * 8000),
        stranger.invite("401", ANYBODY, "X-Huge: " + "A" * 60000),
        stranger.invite("401", ANYBODY, *(f"X-{n}: {'b' * 20}" for n in range(800))),
        stranger.invite("401", ANYBODY, *(f"Record-Route: <sip:{n}.example;lr>" for n in range(300))),
        stranger.invite("401", ANYBODY, *("Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx" for _ in range(300))),
        stranger.invite("4" * 4000), stranger.invite("401", f"<sip:{'x' * 4000}@127.0.0.1>"),
    ]  # fmt: skip


async def test_malformed_requests_are_dropped_or_refused_and_the_switch_goes_on(town: Town, stranger: Sender) -> None:
    pid = town.switch.pid
    for datagram in broken(stranger):
        stranger.send(datagram)
        assert await stranger.answer(stranger.invite("100", "<sip:probe@127.0.0.1>", method="OPTIONS")) in {
            400,
            401,
            483,
        }
    assert town.switch.pid == pid
    assert town.agents.starts == []
    assert not [status for _, status in stranger.answers if 100 < status < 300]
    assert "0 active channels" in await town.switch.cli("core show channels")


async def test_a_trusted_address_is_trusted_with_its_address_only(town: Town) -> None:
    """The carrier's headers end up in the dialplan: none of them may become an application, a file or an argument."""
    carrier = await sender(CARRIER, town.switch.config.sip_port)
    evil = ")},System(touch /tmp/x)&${SHELL(id)},evil"
    try:
        for to in ("442079460123,evil,1", "s", "h", "trunk", "1" * 3000):
            assert await carrier.answer(carrier.invite(to)) == 404, to
        for to in ("442079460123&PJSIP@x", "${EXTEN}", "a b"):  # PJSIP cannot read these: no answer
            carrier.send(carrier.invite(to))
        diversion = f'Diversion: "{evil}" <sip:301@x>;reason="{evil}"'
        carrier.send(carrier.invite("442079460123", f'"{evil}" <sip:1@x>', f"Diversion: <sip:{evil}@x>", diversion))
        args = (await town.agents.next_start())["args"]
        assert args[:4] == ["in", "442079460123", "carrier", "alaw"]
        assert args[5:] == ["301", "0"]
        carrier.send(carrier.invite("442079460124", "<sip:1@x>", f"Diversion: <sip:{evil}@x>;reason=x"))
        args = (await town.agents.next_start())["args"]
        assert args[1:3] == ["442079460124", "carrier"]
        assert len(args) == 7
        assert re.fullmatch(r"[0-9a-zA-Z+*#._-]*", args[5])
    finally:
        carrier.transport.close()
        await town.switch.cli("channel request hangup all")
        await town.quiet()


async def test_a_flood_disturbs_no_call(town: Town, tmp_path: Path) -> None:
    """50 unauthenticated INVITEs a second for 4 s beside ten calls: all refused, all logged, not one packet lost."""
    scenario = tmp_path / "flood.xml"
    scenario.write_text(FLOOD)
    before = len(jailed(town))
    async with AsyncExitStack() as stack:
        phones = [await stack.enter_async_context(town.phone(town.pbx)) for _ in range(CALLS)]
        for number, phone in enumerate(phones):
            await phone.dial(str(401 + number))
        for phone in phones:
            assert await phone.wait_answered()
        await until(lambda: len(town.agents.starts) == CALLS, "the calls to be echoed")
        flood = asyncio.create_task(sip_flood(town.sipp, scenario, town.switch.config.sip_port))
        said = pattern(phones[0].config.law, 7, 0, 8 * 1000 * FLOOD_CALLS // FLOOD_A_SECOND)
        await asyncio.gather(*(phone.say(said) for phone in phones))
        assert await flood == 0
        for phone in phones:
            await until(
                lambda phone=phone: said[800:-800] in phone.media.received_payload(), "the whole of it, unbroken"
            )
            assert phone.summary().packets_lost == 0
            assert not phone.ended
        assert len(town.agents.starts) == CALLS
    await until(lambda: len(jailed(town)) >= before + FLOOD_CALLS, "a line for each")
    assert set(jailed(town)) == {STRANGER}
    await town.quiet()


async def sip_flood(sipp: Sequence[str], scenario: Path, port: int) -> int:
    """SIPp's exit status: 0 when each INVITE got its 401."""
    process = await asyncio.create_subprocess_exec(
        *sipp, f"{US}:{port}", "-sf", str(scenario), "-m", str(FLOOD_CALLS), "-r", str(FLOOD_A_SECOND),
        "-i", STRANGER, "-p", str(free_udp_port(STRANGER)), "-nostdin",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        cwd=scenario.parent, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(FLOOD_CALLS / FLOOD_A_SECOND + 2 * PATIENCE_S):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("version", "let_in"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
async def test_tls_of_1_2_at_least(town: Town, version: ssl.TLSVersion, let_in: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        _, writer = await asyncio.open_connection(US, town.switch.config.tls_port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        assert not let_in
    else:
        assert let_in
        writer.close()


async def test_slow_tls_and_garbage_on_the_tls_port_stop_nobody(town: Town, stranger: Sender) -> None:
    """Clear SIP, garbage and a silent connection on the TLS port; then a proper call over TLS."""
    port = town.switch.config.tls_port
    held: list[socket.socket] = []
    try:
        for data in (stranger.invite().encode(), b"\x16\x03\x01\x02\x00\x01" + b"\xff" * 600, b""):
            made = socket.create_connection((US, port), timeout=PATIENCE_S)
            made.sendall(data)
            held.append(made)
        async with town.phone(town.pbx) as phone:
            await phone.dial("401")
            assert await phone.wait_answered()
    finally:
        for made in held:
            made.close()
    await town.quiet()
