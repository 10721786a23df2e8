"""A real Asterisk from our configuration: clean start, command line, stop, and what stands in its way."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from pathlib import Path

import pytest

from sipagent.asterisk.conf import AsteriskConfig
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk, ari_info, check_ports, command, running_pid
from sipagent.errors import ConfigError, ToolError
from tests.asterisk.fixtures import test_config as make_config
from tests.waiting import until


@pytest.fixture
def config(tmp_path: Path) -> AsteriskConfig:
    return make_config(tmp_path / "run")


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="module")
class TestRunning:
    async def test_the_log_holds_no_warning_and_no_error(self, asterisk: Asterisk) -> None:
        # Its logger is a thread of its own, and may be behind what the command line says of the boot.
        await until(lambda: "Asterisk Ready" in asterisk.config.log_file.read_text(), "the log of the boot")
        log = asterisk.config.log_file.read_text()
        bad = [line for line in log.splitlines() if "WARNING[" in line or "ERROR[" in line]
        assert bad == []

    async def test_it_tells_its_version(self, asterisk: Asterisk) -> None:
        assert asterisk.info is not None
        assert asterisk.info.version.startswith("22.")

    @pytest.mark.parametrize(
        "module",
        ["chan_rtp", "chan_pjsip", "chan_websocket", "res_ari_channels", "res_ari_events", "res_srtp", "codec_alaw",
         "codec_ulaw", "res_prometheus", "app_queue", "app_voicemail", "app_transfer", "app_amd", "bridge_softmix"],
    )  # fmt: skip
    async def test_what_we_need_is_loaded(self, asterisk: Asterisk, module: str) -> None:
        assert "1 modules loaded" in await asterisk.cli(f"module show like {module}.so")

    async def test_no_module_failed(self, asterisk: Asterisk) -> None:
        for line in (await asterisk.cli("module show")).splitlines()[1:-1]:
            assert "Not Running" not in line or "deprecated" in line, line

    async def test_the_command_line_answers(self, asterisk: Asterisk) -> None:
        assert "0 active channels" in await asterisk.cli("core show channels")
        assert "No such command" in await asterisk.cli("no such thing")

    async def test_ari_wants_its_password(self, asterisk: Asterisk) -> None:
        wrong = dataclasses.replace(asterisk.config, ari_password="wrong")
        with pytest.raises(ToolError, match="answered 401"):
            await ari_info(wrong)

    async def test_ari_and_metrics_are_on_loopback_only(self, asterisk: Asterisk) -> None:
        ours = f":{asterisk.config.http_port:04X}"
        table = await asyncio.to_thread(Path("/proc/net/tcp").read_text)
        tcp = [line.split() for line in table.splitlines()[1:]]
        listening = [fields[1] for fields in tcp if fields[3] == "0A" and fields[1].endswith(ours)]
        assert listening == ["0100007F" + ours]

    async def test_the_sounds_are_there(self, asterisk: Asterisk) -> None:
        sounds = asterisk.root.asterisk_data / "sounds" / "en"
        for name in ("im-sorry", "all-circuits-busy-now", "please-try-call-later", "silence/10"):
            assert list(sounds.glob(f"{name}.*")), name

    async def test_a_second_start_from_the_same_folder_is_refused(self, asterisk: Asterisk) -> None:
        with pytest.raises(ToolError, match=rf"pid {asterisk.pid}\) already runs"):
            await Asterisk(asterisk.config, asterisk.root).start()

    @pytest.mark.parametrize(("port", "setting"), [("http_port", "http_port"), ("sip_port", "sip_port")])
    async def test_a_taken_port_is_named(self, asterisk: Asterisk, tmp_path: Path, port: str, setting: str) -> None:
        taken = getattr(asterisk.config, port)
        config = dataclasses.replace(make_config(tmp_path / "run"), **{port: taken})
        with pytest.raises(ToolError, match=rf"port {taken} of 127\.0\.0\.1 is taken.*asterisk\.{setting}"):
            await Asterisk(config, asterisk.root).start()
        assert not config.run_dir.exists()

    async def test_two_side_by_side_in_a_folder_with_a_long_name(self, asterisk: Asterisk, tmp_path: Path) -> None:
        config = make_config(tmp_path / ("long" * 20) / "run")
        async with Asterisk(config, asterisk.root) as second:
            assert second.pid != asterisk.pid
            assert "0 active channels" in await second.cli("core show channels")
        assert not config.socket_dir.exists()
        assert "0 active channels" in await asterisk.cli("core show channels")


@pytest.mark.e2e
async def test_start_stop_stop(config: AsteriskConfig, root: Root) -> None:
    server = Asterisk(config, root)
    await server.start()
    pid = server.pid
    assert pid is not None
    assert running_pid(config) == pid
    async with asyncio.timeout(3):
        await server.stop()
    await server.stop()
    assert server.pid is None
    assert not alive(pid)
    assert running_pid(config) is None
    check_ports(config)  # free again
    with pytest.raises(ToolError):
        await server.cli("core show channels")


@pytest.mark.e2e
async def test_a_stopped_one_may_be_started_again_in_its_folder(config: AsteriskConfig, root: Root) -> None:
    for _ in range(2):
        async with Asterisk(config, root):
            pass


@pytest.mark.e2e
async def test_another_process_can_use_its_command_line(config: AsteriskConfig, root: Root) -> None:
    async with Asterisk(config, root):
        assert "up" in (await command(config, root, "core show uptime")).lower()
    with pytest.raises(ToolError, match="no Asterisk answers"):
        await command(config, root, "core show uptime")


@pytest.mark.e2e
async def test_a_hung_asterisk_is_killed(config: AsteriskConfig, root: Root) -> None:
    server = Asterisk(config, root)
    await server.start()
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, 19)  # SIGSTOP: it answers neither the command line nor TERM
    async with asyncio.timeout(4):
        await server.stop()
    assert not alive(pid)


@pytest.mark.e2e
async def test_a_dead_start_shows_the_last_words(config: AsteriskConfig, root: Root, tmp_path: Path) -> None:
    broken = tmp_path / "conf"
    broken.mkdir()
    (broken / "asterisk.conf").write_text(
        "[directories]\nastetcdir => @RUN_DIR@/etc\nastrundir => @SOCKET_DIR@\nastlogdir => @RUN_DIR@/log\n"
        "astmoddir => @RUN_DIR@/none\nastdbdir => @RUN_DIR@/lib\nastdatadir => @DATA_DIR@\n"
    )
    (broken / "modules.conf").write_text("[modules]\nautoload = no\nrequire = chan_pjsip.so\n")
    with pytest.raises(ToolError, match=r"ended at its start(?s:.*)chan_pjsip"):
        await Asterisk(dataclasses.replace(config, conf_dir=broken), root).start()
    assert running_pid(config) is None


async def test_a_wrong_configuration_folder_is_named(config: AsteriskConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asterisk\.conf is missing"):
        await Asterisk(dataclasses.replace(config, conf_dir=tmp_path), Root(None)).start()


async def test_nobody_at_the_ari_port(config: AsteriskConfig) -> None:
    with pytest.raises(ToolError, match="nobody answers"):
        await ari_info(config)


def test_a_udp_port_of_another_program_is_named(config: AsteriskConfig) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", config.sip_port))
        with pytest.raises(ToolError, match=rf"UDP port {config.sip_port} .*asterisk\.sip_port"):
            check_ports(config)


def test_an_address_that_is_not_ours_is_named(config: AsteriskConfig) -> None:
    with pytest.raises(ToolError, match=r"of 192\.0\.2\.1.*asterisk\.sip_address"):
        check_ports(dataclasses.replace(config, sip_host="192.0.2.1"))


def test_a_stale_pid_file_is_not_believed(config: AsteriskConfig) -> None:
    config.run_dir.mkdir()
    (config.run_dir / "asterisk.pid").write_text(str(os.getpid()))
    assert running_pid(config) is None
