"""A node under a service manager: real processes, a real notify socket, real signals."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from sipagent.app import STOP_WITHIN_S
from sipagent.asterisk.run import Asterisk
from sipagent.control.upgrade import FAREWELL_S
from tests.asterisk.fixtures import free_port, rtp_ports
from tests.e2e.test_processes import CONFIG, environment, get, on, sipagent
from tests.service.listener import listening
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def test_a_node_tells_how_it_does(asterisk: Asterisk, tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    env = on(asterisk, tmp_path / "run", CONTROL__WORKERS=2, CONTROL__DRAIN_S=30)
    with listening(tmp_path / "notify") as ear:
        env |= {"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "30000000"}
        async with sipagent(env, "run", "--standin", "--config", str(file)) as process:
            await until(lambda: "0 calls; takes calls" in ear.told("STATUS"), "the node to take calls")
            await until(lambda: len(ear.told("WATCHDOG")) > 1, "a watchdog that is fed")
            assert ear.told("READY") == ["1"]
            for worker in (await get(env, "/readyz"))[1]["workers"]:
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{worker['pid']}/environ").read_bytes()

            process.send_signal(signal.SIGHUP)
            await until(lambda: len(ear.told("READY")) == 2, "the reload")
            assert ear.told("RELOADING") == ["1"]

            process.send_signal(signal.SIGTERM)
            await process.communicate()
            assert process.returncode == 0
        drain, end = [message for message in ear.heard() if "STOPPING" in message]
        assert drain["EXTEND_TIMEOUT_USEC"] == str(int((30 + FAREWELL_S + STOP_WITHIN_S) * 1e6))
        assert end["EXTEND_TIMEOUT_USEC"] == str(int(STOP_WITHIN_S * 1e6))


async def test_what_is_away_at_the_start_is_told_and_waited_for(asterisk: Asterisk, tmp_path: Path) -> None:
    """The model, the database and Asterisk; it takes calls as soon as Asterisk is there."""
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    away = {
        "REALTIME__URL": f"ws://127.0.0.1:{free_port()}/v1/realtime",
        "RECORDS__URL": f"postgresql+psycopg://sipagent@127.0.0.1:{free_port()}/sipagent",
    }
    told: dict[str, Any] = {}

    async def says(status: int, *reasons: str) -> bool:
        code, body = await get(env, "/readyz")
        told.update(body)
        return code == status and body["reasons"] == list(reasons) and len(body["troubles"]) == 2

    env = on(asterisk, tmp_path / "run", **away, ASTERISK__HTTP_PORT=free_port())
    no_asterisk = "worker 1 has no Asterisk"
    async with sipagent(env, "run", "--config", str(file)):
        await until(lambda: says(503, no_asterisk), lambda: f"what is away to be told, and not {told}")
        endpoint, database = told["troubles"]
        assert endpoint.startswith("realtime endpoint main: 127.0.0.1:")
        assert database == "the records' database is away: events wait in the spool"

    env = on(asterisk, tmp_path / "run", **away)
    async with sipagent(env, "run", "--config", str(file)):
        await until(lambda: says(200), lambda: f"calls to be taken all the same, and not {told}")


async def test_so_does_its_asterisk(tmp_path: Path) -> None:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    ports = {"HTTP_PORT": free_port(), "SIP_PORT": free_port(), "RTP_PORTS": list(rtp_ports())}
    env = environment(tmp_path / "run", **{f"ASTERISK__{name}": port for name, port in ports.items()})
    with listening(tmp_path / "notify") as ear:
        async with sipagent(env | {"NOTIFY_SOCKET": ear.address}, "asterisk", "up", "--config", str(file)) as process:
            await until(lambda: ear.told("READY") == ["1"], "an Asterisk that answers")
            process.send_signal(signal.SIGTERM)
            await process.communicate()
            assert process.returncode == 0
        assert ear.told("STOPPING") == ["1"]
