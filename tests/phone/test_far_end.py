"""The phone against a far end of our own making: the crossings and requests that Asterisk will not do on order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.phone.sipp import SipEvent

pytestmark = pytest.mark.e2e

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
TIMEOUT_S = 5


class FarEnd(asyncio.DatagramProtocol):
    """A SIP server of one call: `script` answers each request by its method, and may send its own."""

    def __init__(self, script: Callable[[FarEnd, str], None]) -> None:
        self.script, self.requests, self.responses = script, [], []
        self.invite = ""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peer, self.last = addr, data.decode()
        method = self.last.split(" ", 1)[0]
        if method == "SIP/2.0":
            self.responses.append(self.last.split(" ")[1])
            return
        self.requests.append(method)
        if method == "INVITE":
            self.invite = self.last
        self.script(self, method)

    def answer(self, status: str, request: str = "", body: str = "") -> None:
        request = request or self.last
        kept = [line for line in request.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq):", line)]
        to = re.search(r"^To: ([^;\r]*)", request, re.MULTILINE)
        assert to
        host, port = self.transport.get_extra_info("sockname")
        kept += [f"To: {to[1]};tag=far", f"Contact: <sip:far@{host}:{port}>", f"Content-Length: {len(body)}"]
        if body:
            kept.append("Content-Type: application/sdp")
        self.send("\r\n".join([f"SIP/2.0 {status}", *kept, "", body]))

    def request(self, method: str, *more: str, body: str = "") -> None:
        """A request inside the dialog: From and To change places."""
        line = dict(re.findall(r"^(From|To|Call-ID|Contact): (.*?)\r$", self.invite, re.MULTILINE))
        host, port = self.transport.get_extra_info("sockname")
        text = [f"{method} {line['Contact'].strip('<>')} SIP/2.0",
                f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{method}", f"From: {line['To']};tag=far",
                f"To: {line['From']}", f"Call-ID: {line['Call-ID']}", f"CSeq: 7 {method}",
                f"Contact: <sip:far@{host}:{port}>", *more, f"Content-Length: {len(body)}"]  # fmt: skip
        if body:
            text.append("Content-Type: application/sdp")
        self.send("\r\n".join([*text, "", body]))

    def send(self, text: str) -> None:
        self.transport.sendto(text.encode(), self.peer)


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Callable[[Callable[[FarEnd, str], None]], object]]:
    ends: list[FarEnd] = []

    async def start(script: Callable[[FarEnd, str], None]) -> tuple[FarEnd, PhoneConfig]:
        _, end = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: FarEnd(script), local_addr=("127.0.0.1", 0)
        )
        ends.append(end)
        return end, PhoneConfig(f"127.0.0.1:{end.transport.get_extra_info('sockname')[1]}")

    yield start
    for end in ends:
        end.transport.close()


async def test_our_cancel_crosses_their_answer(serve, sipp: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    """They answer while our CANCEL is under way: such a call must be acknowledged and hung up."""

    def script(end: FarEnd, method: str) -> None:
        if method == "INVITE":
            end.answer("100 Trying")
            end.answer("180 Ringing")
        elif method == "CANCEL":
            end.answer("200 OK", end.invite, SDP)
            end.answer("200 OK")
        elif method == "BYE":
            end.answer("200 OK")

    end, config = await serve(script)
    async with Phone(config, sipp) as phone:
        await phone.dial("1")
        await phone.hang_up()
        assert phone.end is not None
        assert phone.end.event is SipEvent.HUNG_UP
    assert end.requests == ["INVITE", "CANCEL", "ACK", "BYE"]
    assert phone.summary().outcome == "cancelled"


async def test_ringing_without_trying(serve, sipp: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    def script(end: FarEnd, method: str) -> None:
        if method == "INVITE":
            end.answer("180 Ringing")
            end.answer("200 OK", body=SDP)
        elif method == "BYE":
            end.answer("200 OK")

    end, config = await serve(script)
    async with Phone(config, sipp) as phone:
        await phone.dial("1")
        assert await phone.wait_answered(TIMEOUT_S)
    assert end.requests == ["INVITE", "ACK", "BYE"]
    summary = phone.summary()
    assert summary.ringing_ms is not None
    assert summary.setup_ms is not None
    assert summary.ringing_ms <= summary.setup_ms


async def test_their_bye_with_its_cause(serve, sipp: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    def script(end: FarEnd, method: str) -> None:
        if method == "INVITE":
            end.answer("200 OK", body=SDP)
        elif method == "ACK":
            end.request("BYE", "Reason: Q.850;cause=31")

    end, config = await serve(script)
    async with Phone(config, sipp) as phone:
        await phone.dial("1")
        report = await phone.wait_ended(TIMEOUT_S)
    assert (report.event, report.cause) == (SipEvent.BYE, 31)
    assert phone.summary().ended_by == "far end"
    assert end.responses == ["200"]


async def test_a_re_invite_is_answered_and_the_call_goes_on(serve, sipp: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    asked = False

    def script(end: FarEnd, method: str) -> None:
        nonlocal asked
        if method == "INVITE":
            end.answer("200 OK", body=SDP)
        elif method == "ACK" and not asked:
            asked = True
            end.request("INVITE", body=SDP)
        elif method == "BYE":
            end.answer("200 OK")

    end, config = await serve(script)
    async with Phone(config, sipp) as phone:
        await phone.dial("1")
        assert await phone.wait_answered(TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            while not end.responses:  # noqa: ASYNC110  (a datagram of another process)
                await asyncio.sleep(0.01)
        end.request("ACK")
        await phone.hang_up()
    assert end.responses[0] == "200"
    assert end.requests[-1] == "BYE"
    assert phone.summary().outcome == "answered"


@pytest.mark.parametrize(
    ("status", "code"), [("486 Busy Here", 486), ("603 Decline", 603), ("302 Moved", 302), ("480 Gone", 480)]
)
async def test_a_refusal_is_acknowledged_and_told(serve, sipp: Sequence[str], status: str, code: int) -> None:  # type: ignore[no-untyped-def]
    def script(end: FarEnd, method: str) -> None:
        if method == "INVITE":
            end.answer("100 Trying")
            end.answer(status)

    end, config = await serve(script)
    async with Phone(config, sipp) as phone:
        await phone.dial("1")
        assert not await phone.wait_answered(TIMEOUT_S)
    assert phone.summary().status == code
    assert end.requests == ["INVITE", "ACK"]
