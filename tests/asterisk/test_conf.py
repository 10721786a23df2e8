"""The rendered configuration: variables, modes, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from pathlib import Path

import pytest

from sipagent.asterisk import conf as conf_module
from sipagent.asterisk.conf import (
    SOCKET_PATH_BYTES,
    AsteriskConfig,
    default_conf_dir,
    fill,
    remove_socket_dir,
    render,
)
from sipagent.asterisk.root import Root
from sipagent.errors import ConfigError


@pytest.fixture
def fake_root(tmp_path: Path) -> Root:
    library = tmp_path / "root/usr/lib/tri"
    library.mkdir(parents=True)
    (library / "ld-linux-x.so.2").touch()
    return Root(tmp_path / "root")


@pytest.fixture
def config(tmp_path: Path) -> AsteriskConfig:
    return AsteriskConfig(run_dir=tmp_path / "run", ari_password="ari-pw", phone_password="phone-pw")


def settings(text: str) -> dict[str, str]:
    """`key = value` of a file, comments dropped; the last of equal keys wins."""
    pairs = (line.split(";")[0].partition("=") for line in text.splitlines() if "=" in line.split(";")[0])
    return {key.strip(): value.removeprefix(">").strip() for key, _, value in pairs}


def test_every_variable_is_filled(config: AsteriskConfig, fake_root: Root) -> None:
    path = render(config, fake_root)
    assert path == config.run_dir / "etc/asterisk.conf"
    for file in config.etc.glob("*.conf"):
        assert not re.search(r"@[A-Z_]+@", file.read_text()), file.name
    assert {f.name for f in config.etc.glob("*.conf")} == {f.name for f in default_conf_dir().glob("*.conf")}


def test_the_values_arrive(config: AsteriskConfig, fake_root: Root) -> None:
    config = dataclasses.replace(
        config, http_port=18088, sip_host="192.0.2.1", sip_port=5070, rtp_ports=(20000, 20999), workers=3, app="node7"
    )
    render(config, fake_root)
    http = settings((config.etc / "http.conf").read_text())
    assert (http["bindaddr"], http["bindport"]) == ("127.0.0.1", "18088")
    rtp = settings((config.etc / "rtp.conf").read_text())
    assert (rtp["rtpstart"], rtp["rtpend"], rtp["strictrtp"], rtp["icesupport"]) == ("20000", "20999", "yes", "no")
    dialplan = settings((config.etc / "extensions.conf").read_text())
    assert (dialplan["SIPAGENT_APP"], dialplan["SIPAGENT_WORKERS"]) == ("node7", "3")
    assert settings((config.etc / "pjsip.conf").read_text())["bind"] == "192.0.2.1:5070"
    asterisk = settings((config.etc / "asterisk.conf").read_text())
    assert asterisk["astmoddir"] == str(fake_root.asterisk_modules)
    assert asterisk["astdatadir"] == str(fake_root.asterisk_data)


def test_passwords_are_for_this_user_only(config: AsteriskConfig, fake_root: Root) -> None:
    render(config, fake_root)
    assert stat.S_IMODE(config.run_dir.stat().st_mode) == 0o700
    for file in config.etc.glob("*.conf"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert "ari-pw" not in repr(config)
    assert "phone-pw" not in repr(config)


def test_a_second_rendering_leaves_nothing_of_the_first(config: AsteriskConfig, fake_root: Root) -> None:
    render(config, fake_root)
    (config.etc / "gone.conf").touch()
    (config.etc / "trunks.d/gone.conf").touch()
    render(config, fake_root)
    assert not (config.etc / "gone.conf").exists()
    assert not (config.etc / "trunks.d/gone.conf").exists()


def test_trunks_are_copied(config: AsteriskConfig, fake_root: Root, tmp_path: Path) -> None:
    (tmp_path / "trunks").mkdir()
    (tmp_path / "trunks/carrier.conf").write_text("[carrier](trunk-endpoint)\n")
    render(dataclasses.replace(config, trunks_dir=tmp_path / "trunks"), fake_root)
    assert (config.etc / "trunks.d/carrier.conf").read_text() == "[carrier](trunk-endpoint)\n"


def test_rendered_files_are_private_and_cannot_hide_ours(config: AsteriskConfig, fake_root: Root) -> None:
    config = dataclasses.replace(config, files={"trunks.d/a.conf": "password = x\n", "transports.conf": ""})
    render(config, fake_root)
    assert stat.S_IMODE((config.etc / "trunks.d/a.conf").stat().st_mode) == 0o600
    assert "password = x" not in repr(config)
    with pytest.raises(ConfigError, match=r"pjsip\.conf"):
        render(dataclasses.replace(config, files={"pjsip.conf": ""}), fake_root)
    assert (config.etc / "pjsip.conf").read_text()


def test_an_unknown_variable_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"my\.conf line 2: unknown variable @SIP_PROT@; known: SIP_PORT"):
        fill("a\nb = @SIP_PROT@\n", {"SIP_PORT": "1"}, "my.conf")


def test_at_signs_of_addresses_stay() -> None:
    assert fill("sip:a@b.test, C@d", {}, "x") == "sip:a@b.test, C@d"


def test_a_wrong_folder_is_named(config: AsteriskConfig, fake_root: Root, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asterisk\.conf is missing there"):
        render(dataclasses.replace(config, conf_dir=tmp_path), fake_root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rtp_ports": (20000, 20002)}, "four ports a call"),
        ({"rtp_ports": (20000, 70000)}, "rtp_ports"),
        ({"rtp_ports": (80, 200)}, "1024"),
        ({"http_port": 0}, "http_port"),
        ({"sip_port": 65536}, "sip_port"),
        ({"workers": 0}, "workers"),
        ({"phone_user": "a b"}, "phone_user"),
        ({"phone_user": "general"}, "phone_user"),
        ({"ari_user": "x]\n[y"}, "ari_user"),
        ({"app": "a,b"}, "app"),
        ({"phone_password": "a;b"}, "phone_password"),
        ({"ari_password": "two\nlines"}, "ari_password"),
        ({"ari_password": ""}, "ari_password"),
    ],
)
def test_unusable_settings(tmp_path: Path, change: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"run_dir": tmp_path, "ari_password": "a", "phone_password": "b", **change}
    with pytest.raises(ConfigError, match=says) as caught:
        AsteriskConfig(**values)  # type: ignore[arg-type]
    assert "two" not in str(caught.value)  # a password is never repeated


class TestSocket:
    def test_it_is_in_the_run_folder(self, config: AsteriskConfig) -> None:
        short = dataclasses.replace(config, run_dir=Path("/run/x"))
        assert short.socket_dir == Path("/run/x")

    def test_a_long_path_gets_a_short_folder(self, config: AsteriskConfig, fake_root: Root, tmp_path: Path) -> None:
        long = dataclasses.replace(config, run_dir=tmp_path / ("d" * 60) / ("e" * 60))
        assert len(os.fsencode(long.socket_dir / "asterisk.ctl")) <= SOCKET_PATH_BYTES
        render(long, fake_root)
        assert stat.S_IMODE(long.socket_dir.stat().st_mode) == 0o700
        remove_socket_dir(long)
        assert not long.socket_dir.exists()

    def test_another_users_folder_is_refused(
        self, config: AsteriskConfig, fake_root: Root, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        render(config, fake_root)
        monkeypatch.setattr(conf_module.os, "getuid", lambda: 4711)
        with pytest.raises(ConfigError, match="belongs to another user"):
            render(config, fake_root)


class TestWhatStandsInTheFolder:
    """Rules of the edge that a careless edit would break."""

    def test_nothing_anonymous(self) -> None:
        modules = (default_conf_dir() / "modules.conf").read_text()
        assert settings(modules)["autoload"] == "no"
        assert "load = res_pjsip_endpoint_identifier_anonymous" not in modules
        assert "[anonymous]" not in (default_conf_dir() / "pjsip.conf").read_text()

    def test_inbound_contexts_reach_nothing_that_dials(self) -> None:
        dialplan = (default_conf_dir() / "extensions.conf").read_text()
        step = re.compile(r"^(?:exten|\s*same) => [^;\n]*?,(?:\d+|n)(?:\(\w+\))?,(\w+)\(", re.MULTILINE)
        applications = set(step.findall(dialplan))
        assert applications
        assert not applications & {"Dial", "System", "AGI", "Originate", "TrySystem", "Transfer"}

    def test_every_edge_default(self) -> None:
        pjsip = settings((default_conf_dir() / "pjsip.conf").read_text())
        assert pjsip["unidentified_request_count"] == "1"
        assert pjsip["endpoint_identifier_order"] == "ip,username"
        assert pjsip["direct_media"] == "no"
        assert settings((default_conf_dir() / "ari.conf").read_text())["websocket_write_timeout"] == "5000"
