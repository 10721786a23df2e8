"""Trunks for real, between Asterisks: a PBX over TLS and SRTP, a carrier with digest and registration, a phone."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import socket
import ssl

import aiohttp
import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import reload
from sipagent.audio import Law
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.phone.sipp import SipEvent
from tests.e2e.town import (
    DESK_PASSWORD,
    DID,
    SECOND_DID,
    US,
    Town,
    call_out,
    hears_itself,
    our_trunks,
    switches,
    tidy,
    town,
)
from tests.waiting import PATIENCE_S, until

__all__ = ["switches", "tidy", "town"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


class TestAPbxOverTlsAndSrtp:
    async def test_its_extension_reaches_an_agent_and_both_hear_each_other(self, town: Town) -> None:
        async with town.phone(town.pbx) as phone:
            await phone.dial("401")
            assert await phone.wait_answered()
            await hears_itself(phone)
            start = await town.agents.next_start()
            *args, call_id, first_dialled, _ = start["args"]
            assert args == ["in", "401", "office", "ulaw"]
            assert call_id
            assert first_dialled == ""
            assert start["secure"] == "1"
            assert start["caller"] == "subscriber"  # P-Asserted-Identity, which this trunk may say
            channels = await town.pbx.cli("pjsip show channelstats")
            assert "agents" in channels
            assert "TLS" in await town.switch.cli("pjsip show contacts") or "tls" in await town.switch.cli(
                "pjsip show contacts"
            )
        await town.quiet()

    async def test_what_was_dialled_first_comes_along(self, town: Town) -> None:
        for number, first in (("301", "301"), ("303", "304")):  # one hop; two hops, of which the last line is the first
            async with town.phone(town.pbx) as phone:
                await phone.dial(number)
                assert await phone.wait_answered()
                assert (await town.agents.next_start())["args"][5] == first
        await town.quiet()

    async def test_an_extension_that_is_not_ours_is_404(self, town: Town) -> None:
        async with town.phone(town.pbx) as phone:
            await phone.dial("501")
            assert not await phone.wait_answered()
            assert phone.end is not None
            assert (phone.end.event, phone.end.status) == (SipEvent.REFUSED, 404)
        assert town.agents.starts == []

    async def test_media_in_clear_is_refused(self, town: Town) -> None:
        async with town.phone(town.pbx) as phone:
            await phone.dial("302")
            assert not await phone.wait_answered()
        assert town.agents.starts == []

    async def test_keys_in_clear_are_refused(self, town: Town) -> None:
        async with town.phone(town.pbx) as phone:
            await phone.dial("305")
            assert not await phone.wait_answered()
            assert phone.end is not None
            assert (phone.end.event, phone.end.status) == (SipEvent.REFUSED, 488)
        assert town.agents.starts == []
        log = (town.switch.config.run_dir / "log/messages.log").read_text(errors="replace")
        assert "trunk office is to come by TLS and came by UDP" in log

    async def test_a_call_goes_out_to_an_extension(self, town: Town) -> None:
        await call_out(town, "201", "office")
        await town.quiet()

    async def test_a_certificate_that_nobody_vouches_for_gets_no_word_from_us(self, town: Town) -> None:
        await until(lambda: town.impostor.visitors > 0, "the handshake to be broken off")
        assert town.impostor.heard == b""

        async def unavailable() -> bool:
            return re.search(r"impostor\S+ +\S+ +Unavail", await town.switch.cli("pjsip show contacts")) is not None

        await until(unavailable, "it to count as away")


class TestACarrierWithDigestAndRegistration:
    @staticmethod
    async def registered(town: Town, trunk: str = "carrier", state: str = "Registered") -> None:
        async def is_so() -> bool:
            shown = await town.switch.cli("pjsip show registrations")
            return re.search(rf"{trunk}\.registration/\S+ +\S+ +{state}", shown) is not None

        await until(is_so, f"the registration of {trunk} to be {state}")

    async def test_we_register_and_a_wrong_password_does_not(self, town: Town) -> None:
        await self.registered(town)
        await self.registered(town, "wrong", "Rejected")
        # Who dials the registered contact dials a number of ours.
        assert f"acme/sip:442079460123@{US}" in await town.carrier.cli("pjsip show contacts")

    @pytest.mark.parametrize("dialled", ["442079460123", DID])
    async def test_a_call_to_our_number_reaches_an_agent(self, town: Town, dialled: str) -> None:
        await self.registered(town)
        async with town.phone(town.carrier, Law.ALAW) as phone:
            await phone.dial(dialled)
            assert await phone.wait_answered()
            await hears_itself(phone)
            assert (await town.agents.next_start())["args"][:4] == ["in", dialled, "carrier", "alaw"]
        await town.quiet()

    async def test_somebody_elses_number_is_404(self, town: Town) -> None:
        await self.registered(town)
        async with town.phone(town.carrier, Law.ALAW) as phone:
            await phone.dial("442079460999")
            assert not await phone.wait_answered()
            assert phone.end is not None
            assert (phone.end.event, phone.end.status) == (SipEvent.REFUSED, 404)
        assert town.agents.starts == []

    async def test_a_full_trunk_is_503_whichever_way_the_calls_go(self, town: Town) -> None:
        await self.registered(town)
        out = await call_out(town, our_trunks()["carrier"].out("+442079460777"), "carrier")
        async with town.phone(town.carrier, Law.ALAW) as second, town.phone(town.carrier, Law.ALAW) as third:
            await second.dial(DID)
            assert await second.wait_answered()
            await third.dial(SECOND_DID)
            assert not await third.wait_answered()
            assert third.end is not None
            assert (third.end.event, third.end.status) == (SipEvent.REFUSED, 503)
            await hears_itself(second)  # undisturbed
            assert len(town.agents.starts) == 1
            await town.agents.request("DELETE", f"channels/{out}")
        await town.quiet()
        async with town.phone(town.carrier, Law.ALAW) as again:
            await again.dial(DID)
            assert await again.wait_answered()
        await town.quiet()

    async def test_a_reload_leaves_the_calls(self, town: Town, root: Root) -> None:
        await self.registered(town)
        async with town.phone(town.carrier, Law.ALAW) as phone:
            await phone.dial(DID)
            assert await phone.wait_answered()
            await reload(town.switch.config, root)
            await hears_itself(phone)
        await self.registered(town)
        await town.quiet()


class TestADeskPhone:
    async def test_it_gets_in_with_its_password_only(self, town: Town) -> None:
        config = town.switch.config
        for password, answered in ((DESK_PASSWORD, True), ("not-the-password", False)):
            login = PhoneConfig(f"{US}:{config.sip_port}", "desk", password)
            async with Phone(login, town.sipp) as phone:
                await phone.dial("401")
                assert await phone.wait_answered() is answered
                if not answered:
                    assert phone.end is not None
                    assert phone.end.status in {401, 403}
        await town.quiet()
        assert 'SecurityEvent="ChallengeResponseFailed"' in town.security_log

    async def test_its_password_is_worth_nothing_from_another_network(self, town: Town) -> None:
        login = PhoneConfig(f"{US}:{town.switch.config.sip_port}", "fenced", DESK_PASSWORD)
        async with Phone(login, town.sipp) as phone:
            await phone.dial("401")
            assert not await phone.wait_answered()
            assert phone.end is not None
            assert phone.end.status in {401, 403}
        assert 'SecurityEvent="FailedACL"' in town.security_log


class TestAPhoneThatIsToComeByTls:
    """By hand: what it is sent is what counts."""

    async def test_it_is_called_by_tls(self, town: Town) -> None:
        context = ssl.create_default_context(cafile=town.tls.tls_ca)
        reader, writer = await asyncio.open_connection(US, town.tls.tls_port, ssl=context)
        port = writer.get_extra_info("sockname")[1]
        try:
            challenge = ""
            for status in ("401", "200"):
                writer.write(self.register("sealed", "TLS", port, challenge).encode())
                challenge = (await reader.readuntil(b"\r\n\r\n")).decode()
                assert challenge.startswith(f"SIP/2.0 {status} ")
            await self.ring(town, "sealed")
            async with asyncio.timeout(PATIENCE_S):
                invite = (await reader.readuntil(b"a=crypto:")).decode()
            assert invite.startswith("INVITE sip:sealed@")
        finally:
            writer.close()
        await town.quiet()

    async def test_who_came_by_udp_is_not_called(self, town: Town) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as phone:
            phone.setblocking(False)
            phone.bind(("127.0.0.1", 0))
            phone.connect((US, town.switch.config.sip_port))
            challenge = ""
            for status in ("401", "200"):
                phone.send(self.register("unsealed", "UDP", phone.getsockname()[1], challenge).encode())
                challenge = (await loop.sock_recv(phone, 65536)).decode()
                assert challenge.startswith(f"SIP/2.0 {status} ")
            await self.ring(town, "unsealed")
            await town.quiet()  # it could not be called
            with pytest.raises(BlockingIOError):
                phone.recv(65536)

    @staticmethod
    async def ring(town: Town, user: str) -> None:
        app = town.switch.config.app
        await town.agents.request("POST", f"channels?endpoint=PJSIP/{user}&app={app}-1&appArgs=ring&timeout=2")

    @staticmethod
    def register(user: str, transport: str, port: int, challenge: str) -> str:
        way = f"127.0.0.1:{port}"
        lines = ["REGISTER sip:x SIP/2.0", f"Via: SIP/2.0/{transport} {way};branch=z9hG4bK{secrets.token_hex(8)}",
                 f"From: <sip:{user}@{US}>;tag=1", f"To: <sip:{user}@{US}>", f"Call-ID: {transport}",
                 f"CSeq: {2 if challenge else 1} REGISTER",
                 f"Contact: <sip:{user}@{way};transport={transport.lower()}>;expires=60", "Max-Forwards: 70",
                 *([digest(user, "sip:x", challenge, DESK_PASSWORD)] if challenge else []),
                 "Content-Length: 0", "", ""]  # fmt: skip
        return "\r\n".join(lines)


class TestABrowser:
    """SIP over a WebSocket (RFC 7118), as the proxy in front passes it on: by hand, since browsers are heavy."""

    async def test_it_registers_with_its_password(self, town: Town) -> None:
        config = town.switch.config
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{config.http_port}/ws"
            async with session.ws_connect(url, protocols=["sip"]) as socket:
                for password, status in ((None, 401), ("not-the-password", 401), (DESK_PASSWORD, 200)):
                    challenge = "" if password is None else await self.register(socket, "")
                    login = digest("tab", "sip:tab.invalid", challenge, password) if password else ""
                    answer = await self.register(socket, login)
                    assert answer.startswith(f"SIP/2.0 {status} "), answer
                contacts = await town.switch.cli("pjsip show contacts")
                assert re.search(r"tab/sip:tab@127\.0\.0\.1:\d+", contacts), contacts

    cseq = 0

    async def register(self, socket: aiohttp.ClientWebSocketResponse, login: str) -> str:
        TestABrowser.cseq += 1
        lines = ["REGISTER sip:tab.invalid SIP/2.0", f"Via: SIP/2.0/WSS x.invalid;branch=z9hG4bKws{self.cseq}",
                 f"From: <sip:tab@{US}>;tag=1", f"To: <sip:tab@{US}>", "Call-ID: browser",
                 f"CSeq: {self.cseq} REGISTER",
                 "Contact: <sip:tab@x.invalid;transport=ws>;expires=60", "Max-Forwards: 70", login,
                 "Content-Length: 0", "", ""]  # fmt: skip
        await socket.send_str("\r\n".join(line for n, line in enumerate(lines) if line or n > len(lines) - 3))
        return str((await socket.receive(PATIENCE_S)).data)


def digest(user: str, uri: str, challenge: str, password: str) -> str:
    """RFC 2617 with qop, as Asterisk asks for it of a REGISTER."""
    header = challenge.partition("WWW-Authenticate: Digest ")[2].split("\r")[0]
    asked = dict(re.findall(r'(\w+)="?([^",\r]+)"?', header))

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode(), usedforsecurity=False).hexdigest()

    mine = md5(user, asked["realm"], password)
    response = md5(mine, asked["nonce"], "00000001", "abc", "auth", md5("REGISTER", uri))
    return (
        f'Authorization: Digest username="{user}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}", '
        f'response="{response}", qop=auth, nc=00000001, cnonce="abc", algorithm=MD5'
        + (f', opaque="{asked["opaque"]}"' if "opaque" in asked else "")
    )
