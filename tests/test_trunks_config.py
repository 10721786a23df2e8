"""[trunks.NAME]: the preset's values under the operator's, and every mistake with file, line, key and mend."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import textwrap
import tomllib
from pathlib import Path

import pytest

from sipagent.config import Settings, Trunk, load
from sipagent.config.presets import presets
from sipagent.config.trunks import is_number, neighbours
from sipagent.errors import ConfigError

BASE = """

[agents.reception]
instructions = "Be kind."

[[routes]]
go = "agent:reception"
"""
IP = 'preset = "generic-ip"\nhosts = ["192.0.2.1"]\nnetworks = ["192.0.2.1"]\nnumbers = ["+442079460123"]\n'
LOGIN = 'auth = { user = "acme", password = "hunter2" }\n'


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("SIPAGENT_", "XAI_", "CREDENTIALS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).touch()


def settings(text: str) -> Settings:
    Path("sipagent.toml").write_text(BASE + text)
    return load(Path("sipagent.toml"))


def trunk(text: str) -> Trunk:
    return settings("[trunks.carrier]\n" + text).trunks["carrier"]


class TestPresets:
    def test_the_operators_values_lie_over_the_presets(self) -> None:
        tls = '[asterisk]\ntls_port = 5061\ntls_certificate = "c.pem"\ntls_key = "k.pem"\ntls_ca = "c.pem"\n'
        text = tls + '[trunks.v]\npreset = "vonage"\n'
        made = settings(
            text + LOGIN + 'hosts = ["a.sip-eu.vonage.com"]\nnumbers = ["+442079460123"]\ncps = 10\n'
        ).trunks["v"]
        assert made.networks == ("216.147.0.0/18", "168.100.64.0/18")
        assert (made.auth.kind, made.auth.user, made.srtp, made.cps) == ("digest", "acme", "optional", 10)
        own = trunk('preset = "telnyx"\nnetworks = ["203.0.113.0/24"]\nnumbers = ["+12125550123"]\n' + LOGIN)
        assert own.networks == ("203.0.113.0/24",)

    def test_every_preset_is_dated_with_its_source(self) -> None:
        for name, preset in presets().items():
            assert dt.date(2026, 1, 1) < preset.date, name
            assert all(preset.sources), name
            assert preset.trunk.keys() <= Trunk.model_fields.keys(), name

    def test_out_and_in(self) -> None:
        made = trunk('preset = "telnyx"\nregion = "US"\ndial_prefix = "1234"\nnumbers = ["+12125550123"]\n' + LOGIN)
        assert made.out("+442079460123") == "1234+442079460123"
        assert made.e164("2125550123").text == "+12125550123"


class TestSecrets:
    TEXT = '[trunks.carrier]\npreset = "telnyx"\nnumbers = ["+12125550123"]\nauth = { user = "acme" }\n'

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SIPAGENT_TRUNKS__CARRIER__AUTH__PASSWORD", "1234567")
        assert settings(self.TEXT).trunks["carrier"].auth.password.get_secret_value() == "1234567"

    def test_from_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "trunks__carrier__auth__password").write_text("from-a-file\n")
        monkeypatch.setenv("SIPAGENT_SECRETS_DIR", str(tmp_path / "secrets"))
        assert settings(self.TEXT).trunks["carrier"].auth.password.get_secret_value() == "from-a-file"

    def test_never_shown(self) -> None:
        made = settings(self.TEXT.replace("}", ', password = "hunter2" }'))
        assert "hunter2" not in made.model_dump_json() + repr(made) + str(made)
        assert json.loads(made.model_dump_json())["trunks"]["carrier"]["auth"]["password"] == "**********"

    @pytest.mark.parametrize(
        "auth", ['"hunter2"', '{ user = "x", password = ["hunter2"] }', '{ user = "x", pasword = "hunter2" }',
                 '{ user = "x", password = "hunter2\\n" , kind = "hunter"}', '{ user = "x", password = "hünter2" }']
    )  # fmt: skip
    def test_nor_repeated_in_an_error(self, auth: str) -> None:
        with pytest.raises(ConfigError) as error:
            trunk(f'preset = "telnyx"\nnumbers = ["+12125550123"]\nauth = {auth}\n')
        assert not re.search("h[uü]nter2", str(error.value))
        assert "sipagent.toml:11" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (IP.replace("generic-ip", "vonagee"), [":9", "trunks.carrier.preset", "did you mean 'vonage'"]),
        ('hosts = ["192.0.2.1"]\n', ["trunks.carrier.preset", "is needed"]),
        (IP + 'netwroks = []\n', [":13", "trunks.carrier.netwroks", "did you mean 'networks'"]),
        (IP.replace('["192.0.2.1"]\nnum', '["192.0.2.1/24"]\nnum'), [":11", "networks", "192.0.2.0/24"]),
        (IP.replace('["192.0.2.1"]\nnum', '["10.0.0.300"]\nnum'), [":11", "networks", "no network"]),
        (IP.replace('["192.0.2.1"]\nnum', '["sip.example.com"]\nnum'), [":11", "networks", "only once", "addresses"]),
        (IP.replace('["192.0.2.1"]\nnum', '["168.0.0.0/7"]\nnum'), [":11", "networks", "/7", "slip"]),
        (IP.replace('["192.0.2.1"]\nnum', '["2000::/15"]\nnum'), [":11", "networks", "/15", "slip"]),
        (IP.replace('networks = ["192.0.2.1"]\n', ""), [":8", "trunks.carrier.networks", "known by their address"]),
        (IP.replace('hosts = ["192.0.2.1"]', 'hosts = ["sip:x;transport=tls"]'), [":10", "hosts.0", "no host"]),
        (IP.replace('hosts = ["192.0.2.1"]', 'hosts = ["a.example\\n[x]"]'), [":10", "hosts.0", "no host"]),
        (IP + 'srtp = "required"\n', [":13", "trunks.carrier.srtp", "in clear", 'transport = "tls"']),
        (IP + 'transport = "tls"\n', [":13", "trunks.carrier.transport", "tls_port"]),
        (IP + 'codecs = ["alaw", "speex"]\n', [":13", "codecs.1", "speex", "'ulaw'"]),
        (IP + "codecs = []\n", [":13", "codecs"]),
        (IP + "channels = 0\n", [":13", "channels"]),
        (IP + 'region = "UK"\n', [":13", "region", "GB"]),
        (IP + 'number_format = "national"\n', [":8", "region", "which country"]),
        (IP + 'dial_prefix = "9,"\n', [":13", "dial_prefix"]),
        (IP + 'caller_id = { default = "+44", allow = ["+442079460123"] }\n', [":13", "caller_id.default", "number"]),
        (IP + 'caller_id = { default = "401", allow = ["402"] }\n', [":13", "caller_id.default", "not among"]),
        (IP.replace("+442079460123", "+44"), [":12", "numbers", "no number", "E.164"]),
        (IP.replace("+442079460123", "449-400"), [":12", "numbers", "a range goes upwards"]),
        (IP.replace("+442079460123", "_4Q"), [":12", "numbers", "_4Q"]),
        (IP.replace("+442079460123", "s"), [":12", "numbers", "single letters"]),
        (IP.replace("+442079460123", "1\\nexten => evil"), [":12", "numbers"]),
        ('preset = "generic-ip"\n', [":8", "trunks.carrier.numbers", "no call can use it"]),
        ('preset = "telnyx"\nnumbers = ["+12125550123"]\n', [":8", "trunks.carrier.auth.user", "logs in"]),
        ('preset = "plivo"\nauth = { user = "x", password = "y" }\n', [":8", "trunks.carrier.hosts"]),
        ('preset = "phone"\n', ["auth.password", "SIPAGENT_TRUNKS__NAME__AUTH__PASSWORD"]),
        ('preset = "phone"\nauth = { password = "short" }\n', [":10", "auth.password", "12 characters"]),
        ('preset = "phone"\nauth = { user = "x", password = "a-long-secret" }\n', [":10", "auth.user", "'carrier'"]),
        ('preset = "phone"\nhosts = ["a.b"]\nauth = { password = "a-long-secret" }\n', [":10", "hosts", "registers"]),
        ('preset = "webrtc"\nsrtp = "off"\nauth = { password = "a-long-secret" }\n', [":10", "srtp", "together"]),
        ('preset = "phone"\ncaller_id = { trust = true }\nauth = { password = "a-long-secret" }\n',
         [":10", "caller_id.trust", "known by address"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        trunk(text)
    for part in told:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Carrier", "lower-case"), ("general", "section of that name"), ("transport-tls", "section of that name"),
        ("trunk-endpoint", "section of that name"), ("phone", "asterisk.phone_user"), ('"a.b"', "lower-case"),
        ('"x]["', "lower-case"), ("a__b", "lower-case"), ("a" * 60, "lower-case"),
    ],
)  # fmt: skip
def test_names(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings(f"[trunks.{name}]\n{IP}")


class TestSideBySide:
    def test_accounts_of_one_carrier(self) -> None:
        made = settings(
            f"[trunks.a]\n{IP}[trunks.b]\n{IP.replace('0123', '0124')}[trunks.c]\n{IP.replace('2.1', '2.9')}"
        )
        assert neighbours("a", made.trunks) == ("b",)
        assert neighbours("c", made.trunks) == ()

    def test_the_same_number_of_the_same_networks(self) -> None:
        with pytest.raises(ConfigError, match=r"sipagent\.toml:17: trunks\.b\.numbers: .*442079460123 is trunk 'a'"):
            settings(f"[trunks.a]\n{IP}[trunks.b]\n{IP}")

    def test_networks_that_overlap(self) -> None:
        wide = IP.replace('["192.0.2.1"]\nnum', '["192.0.2.0/24"]\nnum')
        with pytest.raises(
            ConfigError, match=r"trunks\.b\.networks: 192\.0\.2\.0/24 overlaps 192\.0\.2\.1/32 of trunk 'a'"
        ):
            settings(f"[trunks.a]\n{IP}[trunks.b]\n{wide}")

    def test_phones_on_one_network(self) -> None:
        phone = 'preset = "phone"\nnetworks = ["10.0.0.0/8"]\nauth = { password = "a-long-secret" }\n'
        made = settings(f"[trunks.a]\n{phone}[trunks.b]\n{phone}")
        assert neighbours("a", made.trunks) == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tls_port = 5061\n", ["asterisk.tls_port", "tls_certificate"]),
        ('tls_port = 5060\ntls_certificate = "a"\ntls_key = "b"\n', [":9", "asterisk.tls_port", "sip_port"]),
        ('tls_ca = "a\\nb"\n', [":9", "asterisk.tls_ca", "control characters"]),
        ('local_networks = ["10.0.0.1/8"]\n', [":9", "asterisk.local_networks", "10.0.0.0/8"]),
        ('external_address = "a b"\n', [":9", "asterisk.external_address"]),
    ],
)
def test_the_switchs_own_mistakes(text: str, told: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        settings("[asterisk]\n" + text)
    for part in told:
        assert part in str(error.value)


def test_one_number_or_several() -> None:
    assert [is_number(text) for text in ("100", "*98", "+442079460123", "sales")] == [True] * 4
    assert [is_number(text) for text in ("_4XX", "+44*", "400-449", "*")] == [False] * 4


def test_a_certificate_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"asterisk\.tls_key: there is no file gone\.pem"):
        settings('[asterisk]\ntls_port = 5061\ntls_certificate = "c.pem"\ntls_key = "gone.pem"\ntls_ca = "c.pem"\n')


@pytest.mark.parametrize("document", ["docs/trunks.md", "README.md"])
def test_the_recipes_of_the_documents_are_well_formed(document: str) -> None:
    text = (Path(__file__).parents[1] / document).read_text()
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE) + re.findall(
        r"```toml\n(.*?)```", text, re.DOTALL
    )
    tables = [tomllib.loads(textwrap.dedent(block)) for block in blocks if "[trunks." in block]
    assert tables
    for table in tables:
        for trunk in table["trunks"].values():
            auth = trunk.setdefault("auth", {})
            if presets()[trunk["preset"]].trunk["auth"]["kind"] != "none":
                auth["password"] = "from the environment"
            Trunk(**trunk)
