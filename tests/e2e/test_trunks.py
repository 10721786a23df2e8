"""Trunks for real, between Asterisks: a PBX over TLS and SRTP, a carrier with digest and registration, a phone."""

from __future__ import annotations

import re

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import reload
from sipagent.audio import Law
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.phone.sipp import SipEvent
from tests.e2e.town import DESK_PASSWORD, DID, SECOND_DID, US, Town, call_out, hears_itself, our_trunks, town
from tests.waiting import until

__all__ = ["town"]

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


class TestAPbxOverTlsAndSrtp:
    async def test_its_extension_reaches_an_agent_and_both_hear_each_other(self, town: Town) -> None:
        async with town.phone(town.pbx) as phone:
            await phone.dial("401")
            assert await phone.wait_answered()
            await hears_itself(phone)
            start = await town.agents.next_start()
            *args, call_id, first_dialled = start["args"]
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

    async def test_a_call_goes_out_to_an_extension(self, town: Town) -> None:
        await call_out(town, "201", "office")
        await town.quiet()


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
        out = await call_out(town, our_trunks(1, 1)["carrier"].out("+442079460777"), "carrier")
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
