"""Trunks as Asterisk's sections: golden files of every preset, all of them loaded by a real Asterisk."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
import pytest_asyncio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from sipagent.asterisk import trunks
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk, reload
from sipagent.config import AsteriskSettings, Trunk
from sipagent.config.trunks import TrunkAuth, dialled
from sipagent.errors import ConfigError
from tests.asterisk import golden
from tests.asterisk.fixtures import free_port
from tests.asterisk.fixtures import test_config as make_config


def plain(value: str) -> str:
    """A value as we write it and as Asterisk shows it, in one form."""
    words = {"yes": "true", "no": "false"}
    value = value.strip("()").replace("|", ",").lower()
    return words.get(value, re.sub(r"\.0+$", "", value))


@pytest.mark.parametrize("name", sorted(golden.samples()))
def test_golden(name: str) -> None:
    trunk = golden.samples()[name]
    kept = golden.FOLDER / f"{trunk.preset}.conf"
    assert kept.read_text() == golden.rendering(name, trunk), "python -m tests.asterisk.golden, then look at the diff"


def test_no_golden_file_without_its_preset() -> None:
    assert {file.stem for file in golden.FOLDER.glob("*.conf")} == {t.preset for t in golden.samples().values()}


def parsed(text: str) -> list[tuple[str, dict[str, str]]]:
    """Sections and their options, as far as these files go."""
    out: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        if header := re.match(r"\[(.+?)\]", line):
            out.append((header[1], {}))
        elif " = " in line:
            key, _, value = line.partition(" = ")
            out[-1][1][key] = value.replace("\\;", ";")
    return out


class TestNothingIsInjected:
    @given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
    def test_a_password_stays_one_value(self, password: str) -> None:
        login = {"user": password, "password": password}
        trunk = Trunk(preset="generic-registration", hosts=["192.0.2.1"], auth=login)  # type: ignore[arg-type]
        text = trunks.pjsip("carrier", trunk)
        assert [name for name, _ in parsed(text)] == ["carrier", "carrier.1", "carrier.auth", "carrier.registration"]
        assert f"\npassword = {password.replace(';', chr(92) + ';')}\n" in text
        assert not re.search(r"(?<!\\);", "\n".join(line for line in text.splitlines() if not line.startswith(";")))

    @pytest.mark.parametrize("value", ["a\nb", "a\r[x]", "a\x00b"])
    def test_what_would_be_a_line_is_refused(self, value: str) -> None:
        trunk = golden.samples()["generic-registration-1"].model_copy(
            update={"auth": TrunkAuth.model_construct(kind="register", user=value, password=golden_secret())}
        )
        with pytest.raises(ConfigError, match="control character"):
            trunks.pjsip("carrier", trunk)


def golden_secret() -> object:
    return golden.samples()["generic-registration-1"].auth.password


class TestNumbers:
    @pytest.mark.parametrize(
        ("pattern", "extensions"),
        [
            ("100", ["100"]),
            ("*98", ["*98"]),
            ("sales", ["sales"]),
            ("_4XX", ["_4XX"]),
            ("+4420*", ["_+4420!"]),
            ("next*", ["_[n]e[x]t!"]),
            ("400-449", ["_40X", "_4[1-3]X", "_44X"]),
            ("1000-1999", ["_1XXX"]),
            ("*", ["_[0-9*#+]!", "_[a-zA-Z]."]),
        ],
    )
    def test_patterns_become_extensions(self, pattern: str, extensions: list[str]) -> None:
        assert trunks.extensions(pattern) == extensions

    def test_a_public_number_may_come_in_every_spelling(self) -> None:
        trunk = Trunk(preset="vonage", hosts=["x.example"], auth={"user": "u", "password": "p"}, region="GB",
                      numbers=["+442079460123", "+44207946*", "_4XX"])  # type: ignore[arg-type]  # fmt: skip
        assert dialled(trunk) == (
            "+442079460123", "442079460123", "00442079460123", "02079460123", "2079460123",
            "+44207946*", "44207946*", "0044207946*", "_4XX",
        )  # fmt: skip

    def test_accounts_of_one_carrier_reach_each_others_numbers_and_no_other_trunk(self) -> None:
        assert "include => numbers.second" in trunks.dialplan("first", golden.samples()["vonage-1"], ["second"])
        for name, trunk in golden.samples().items():
            assert f"include => numbers.{name}" in trunks.dialplan(name, trunk)
            assert trunks.dialplan(name, trunk).count("include => numbers.") == 1


class TestKeysOfSrtp:
    LOGIN = MappingProxyType({"password": "a-long-secret-of-a-phone"})

    def trunk(self, srtp: str) -> Trunk:
        return Trunk(preset="phone", transport="tls", srtp=srtp, auth=dict(self.LOGIN), numbers=["100"])  # type: ignore[arg-type]

    def test_they_travel_by_tls_both_ways_and_to_the_echo_too(self) -> None:
        assert "\ntransport = transport-tls\n" in trunks.pjsip("anna", self.trunk("required"))
        text = trunks.dialplan("anna", self.trunk("required"))
        assert "exten => 100,1,Gosub(trunk,s,1(anna,4,${EXTEN},tls))" in text
        assert "exten => 600,1,Gosub(by-tls,s,1(anna))\n same => n,Goto(echo,s,1)\n" in text
        assert "echo-test" not in text

    def test_where_speech_may_cross_in_clear_no_call_is_refused_for_its_keys(self) -> None:
        """Else a carrier that sends calls in by UDP would send none any more."""
        assert "\ntransport = transport-tls\n" in trunks.pjsip("anna", self.trunk("optional"))
        text = trunks.dialplan("anna", self.trunk("optional"))
        assert "exten => 100,1,Gosub(trunk,s,1(anna,4,${EXTEN}))" in text
        assert "include => echo-test" in text


class TestTransports:
    def test_nothing_is_rendered_unless_it_is_set(self) -> None:
        assert "type =" not in trunks.transports(AsteriskSettings(), {})

    def test_behind_nat(self) -> None:
        asterisk = AsteriskSettings(external_address="203.0.113.5", local_networks=("10.0.0.0/8", "192.168.0.0/16"))
        text = trunks.transports(asterisk, {})
        for name in ("transport-udp", "transport-tcp"):
            assert f"[{name}](+)\nexternal_signaling_address = 203.0.113.5\n" in text
        assert text.count("local_net = 10.0.0.0/8\nlocal_net = 192.168.0.0/16\n") == 2

    def test_browsers_stay_on_loopback(self) -> None:
        text = trunks.transports(AsteriskSettings(sip_address="0.0.0.0"), {"tab": golden.samples()["webrtc-1"]})
        assert "protocol = ws\nbind = 127.0.0.1\n" in text


@pytest.fixture(scope="module")
def silent_carrier() -> Iterator[str]:
    """A host that takes every request and answers none: nothing of a test leaves this machine."""
    with socket.socket(type=socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sink.getsockname()[1]}"


@pytest.fixture(scope="module")
def loaded(silent_carrier: str) -> dict[str, Trunk]:
    """All samples, with the one host that is safe to send to."""
    return {
        name: trunk.model_copy(update={"hosts": (silent_carrier,) * len(trunk.hosts), "qualify": 0})
        for name, trunk in golden.samples().items()
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def switch(
    root: Root, tmp_path_factory: pytest.TempPathFactory, loaded: dict[str, Trunk]
) -> AsyncIterator[Asterisk]:
    folder = tmp_path_factory.mktemp("all-presets")
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "node.pem")
    tls = AsteriskSettings(tls_port=free_port(), tls_certificate=str(folder / "node.pem"),
                           tls_key=str(folder / "node.pem"), tls_ca=str(folder / "node.pem"),
                           external_address="203.0.113.5", local_networks=("127.0.0.0/8",))  # fmt: skip
    config = make_config(folder / "run", files=trunks.files(tls, loaded), tls_port=tls.tls_port, ice=True)
    async with Asterisk(config, root) as server:
        yield server


def complaints(switch: Asterisk) -> list[str]:
    log = switch.config.log_file.read_text()
    return [line for line in log.splitlines() if "WARNING[" in line or "ERROR[" in line]


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="module")
class TestARealAsterisk:
    async def test_takes_every_preset_without_a_word(self, switch: Asterisk) -> None:
        assert complaints(switch) == []

    @pytest.mark.parametrize("name", sorted(golden.samples()))
    async def test_has_the_values(self, switch: Asterisk, loaded: dict[str, Trunk], name: str) -> None:
        sections = parsed(trunks.pjsip(name, loaded[name]))
        commands = {"aor": "aor", "auth": "auth", "registration": "registration"}
        for section, options in sections:
            kind = commands.get(options.pop("type", "endpoint"), "endpoint")
            shown = dict(re.findall(r"(?m)^ (\S+) +: (.*?) *$", await switch.cli(f"pjsip show {kind} {section}")))
            if options.get("match"):
                continue  # identify: seen by the calls of tests/e2e/test_trunks.py
            if "set_var" in options:
                variable, _, text = options.pop("set_var").partition("=")
                options[variable] = text
            for key, value in options.items():
                if key not in {"disallow", "password"}:
                    assert plain(shown.get(key, "(not shown)")) == plain(value), (section, key)

    async def test_has_the_transports(self, switch: Asterisk) -> None:
        shown = await switch.cli("pjsip show transport transport-tls")
        assert re.search(r"method +: sslv23", shown)
        assert re.search(r"verify_server +: Yes", shown)
        assert re.search(r"external_media_address +: 203\.0\.113\.5", shown)
        assert "ws" in await switch.cli("pjsip show transport transport-ws")

    async def test_has_the_numbers(self, switch: Asterisk) -> None:
        there = await switch.cli("dialplan show 02079460123@trunk.vonage-1")
        assert "Gosub(trunk,s,1(vonage-1,30,${EXTEN}))" in there
        assert "existence" in await switch.cli("dialplan show 100@trunk.vonage-1")

    async def test_reload_brings_and_takes_trunks(self, switch: Asterisk, root: Root) -> None:
        every = dict(switch.config.files)
        fewer = {name: text for name, text in every.items() if "plivo" not in name}
        await reload(dataclasses.replace(switch.config, files=fewer), root)
        assert "Unable to find" in await switch.cli("pjsip show endpoint plivo-1")
        assert not Path(switch.config.etc / "trunks.d/plivo-1.conf").exists()
        await reload(switch.config, root)
        assert "Unable to find" not in await switch.cli("pjsip show endpoint plivo-1")
        assert complaints(switch) == []
