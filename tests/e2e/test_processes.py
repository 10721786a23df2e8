"""The programs as an operator runs them: their own processes, their own ports, real signals."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from bench.ports import free_block
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.flow.prompts import FliteVoice, prompt_folder
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.speech import Flite
from sipagent.tuning import Cores
from tests.asterisk.fixtures import free_port, rtp_ports
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
[agents.reception]
instructions = "Be brief."
greeting = "Hello, this is the reception."
[numbers]
"100" = "reception"
"""


def environment(run_dir: Path, **settings: object) -> dict[str, str]:
    """Ports of its own for one node."""
    media = free_block(200)
    values = {
        "RUN_DIR": run_dir,
        "CONTROL__PORT": free_port(),
        "STANDIN__PORT": free_port(),
        "MEDIA__PORTS": [media, media + 199],
        "LIMITS__CORE_PERCENT": 0,  # how busy this machine is says nothing about us
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIPAGENT_", "XAI_"))}
    if cache := os.environ.get("SIPAGENT_CACHE"):
        inherited["SIPAGENT_CACHE"] = cache
    return inherited | {
        f"SIPAGENT_{name}": json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


@functools.cache
def spoken_prompts() -> Path:
    """Prompts by content, for all nodes of this process: each would wait a second for the same words to be spoken."""
    folder = tempfile.TemporaryDirectory(prefix="sipagent-prompts-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def with_prompts(run_dir: Path) -> Path:
    """A run folder in which what another node has had spoken need not be spoken again."""
    voice = prompt_folder(run_dir / "prompts", FliteVoice(Flite(())).name)
    if not voice.exists():
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        voice.parent.mkdir(exist_ok=True)
        voice.symlink_to(spoken_prompts())
    return run_dir


def on(asterisk: Asterisk, run_dir: Path, **settings: object) -> dict[str, str]:
    """The environment of a node that uses the module's Asterisk."""
    config = asterisk.config
    values: dict[str, object] = {
        "ASTERISK__HTTP_PORT": config.http_port,
        "ASTERISK__SIP_PORT": config.sip_port,
        "ASTERISK__RTP_PORTS": list(config.rtp_ports),
        "ASTERISK__PASSWORD": config.ari_password,
        "ASTERISK__PHONE_PASSWORD": config.phone_password,
    }
    return environment(with_prompts(run_dir), **(values | settings))


@asynccontextmanager
async def sipagent(env: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """One of our commands; it must be gone after the block, by SIGINT if need be."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sipagent",
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(10):
                    told, _ = await process.communicate()
                    sys.stdout.write(told.decode(errors="replace"))  # for whoever reads a failed test
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()
                pytest.fail(f"sipagent {arguments[0]} did not stop in 10 s")


async def output_of(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    async with sipagent(env, *arguments) as process:
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "sipagent.toml"
    file.write_text(CONFIG)
    return file


def phone_on(asterisk: Asterisk, root: Root) -> Phone:
    config = asterisk.config
    login = PhoneConfig(f"127.0.0.1:{config.sip_port}", config.phone_user, config.phone_password, Law.ULAW)
    return Phone(login, root.command("sipp"))


async def get(env: dict[str, str], path: str) -> tuple[int, dict]:  # type: ignore[type-arg]
    url = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}{path}"
    try:
        async with aiohttp.ClientSession() as http:
            while True:
                async with http.get(url) as response:
                    if response.status != 429:
                        return response.status, await response.json()
                    # Several tests' eyes on one node are more than [control] requests_per_s.
                    wait_s = float(response.headers["Retry-After"])
                await asyncio.sleep(wait_s)
    except aiohttp.ClientError:
        return 0, {}


async def metrics(env: dict[str, str]) -> str:
    """What Prometheus would read."""
    url = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.text()


async def ready(env: dict[str, str]) -> None:
    async def is_ready() -> bool:
        return (await get(env, "/readyz"))[0] == 200

    await until(is_ready, "the node to be ready")


async def test_run_serves_its_api_and_survives_the_death_of_a_worker(
    asterisk: Asterisk, root: Root, tmp_path: Path, config_file: Path
) -> None:
    env = on(asterisk, tmp_path / "run")
    async with sipagent(env, "run", "--standin", "--config", str(config_file)):
        await ready(env)
        assert (await get(env, "/healthz"))[1]["status"] == "ok"
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()
            _, body = await get(env, "/v1/calls/live")
            [call] = body["calls"]
            assert (call["called"], call["agent"], call["state"]) == ("100", "reception", "answered")
            assert call["model"] == "sipagent-standin-1"
            await phone.wait_quiet(400)
            before = len(phone.media.voiced_in)

            _, body = await get(env, "/readyz")
            os.kill(body["workers"][0]["pid"], signal.SIGKILL)
            # Music, then the restarted worker takes the call over.
            await until(lambda: len(phone.media.voiced_in) - before > 50, "a voice again")
            await ready(env)
            assert not phone.ended
            await phone.hang_up()
        await until(partial(nobody_is_listed, env), "the call to be over")
        told = await metrics(env)
        assert 'sipagent_worker_restarts_total{worker="1"} 1.0' in told
        assert re.search(r'sipagent_calls_ended_total\{.*reason="caller_hangup",.*\} 1\.0', told)
        assert 'reason="worker_lost"' not in told
        assert "0 active channels" in await asterisk.cli("core show channels count")
        assert "-bridge-" not in await asterisk.cli("bridge show all")
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()


@pytest.mark.skipif(not os.access(Cores.DEVICE, os.W_OK), reason="no right to /dev/cpu_dma_latency: not tried")
async def test_cores_stay_awake_for_a_call_and_no_longer(
    asterisk: Asterisk, root: Root, tmp_path: Path, config_file: Path
) -> None:
    env = on(asterisk, tmp_path / "run", WORKER__CPU_DMA_LATENCY_US=0)
    async with sipagent(env, "run", "--standin", "--config", str(config_file)):
        await ready(env)
        _, body = await get(env, "/readyz")
        descriptors = Path(f"/proc/{body['workers'][0]['pid']}/fd")

        def asked() -> int:
            found = 0
            for descriptor in descriptors.iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    found += descriptor.readlink() == Cores.DEVICE
            return found

        assert asked() == 0
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            assert asked() == 1
            await phone.hang_up()
        await until(lambda: asked() == 0, "the cores to be let sleep")


async def nobody_is_listed(env: dict[str, str]) -> bool:
    return not (await get(env, "/v1/calls/live"))[1]["calls"]


async def is_listed(env: dict[str, str]) -> bool:
    """A worker tells of its calls a moment later."""
    return bool((await get(env, "/v1/calls/live"))[1]["calls"])


async def test_the_operator_hangs_up_by_api(asterisk: Asterisk, root: Root, tmp_path: Path, config_file: Path) -> None:
    for workers in (0, 2):
        env = on(asterisk, tmp_path / f"run{workers}", CONTROL__WORKERS=workers)
        async with sipagent(env, "run", "--standin", "--config", str(config_file)):
            await ready(env)
            async with phone_on(asterisk, root) as phone:
                await phone.dial("100")
                assert await phone.wait_answered()
                await until(partial(is_listed, env), "the call to be listed")
                [call] = (await get(env, "/v1/calls/live"))[1]["calls"]
                base = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}/v1/calls/"
                async with aiohttp.ClientSession() as http:
                    async with http.delete(base + "nobody") as response:
                        assert response.status == 404
                        assert response.content_type == "application/problem+json"
                    async with http.delete(base + call["call_id"]) as response:
                        assert response.status == 202
                await phone.wait_ended(5)


async def test_ctrl_c_during_a_call_releases_it(
    asterisk: Asterisk, root: Root, tmp_path: Path, config_file: Path
) -> None:
    env = on(asterisk, tmp_path / "run")
    async with sipagent(env, "run", "--standin", "--config", str(config_file)) as process:
        await ready(env)
        async with phone_on(asterisk, root) as phone:
            await phone.dial("100")
            assert await phone.wait_answered()
            await phone.hear_agent_start()
            process.send_signal(signal.SIGINT)
            end = await phone.wait_ended(5)
            assert end.cause == 41
        async with asyncio.timeout(5):
            out, _ = await process.communicate()
    assert b'"reason": "shutdown"' in out
    assert "0 active channels" in await asterisk.cli("core show channels count")


async def test_without_asterisk_it_says_so_and_is_not_ready(tmp_path: Path, config_file: Path) -> None:
    env = environment(tmp_path / "run", ASTERISK__HTTP_PORT=free_port())
    async with sipagent(env, "run", "--standin", "--config", str(config_file)):

        async def unready() -> bool:
            status, body = await get(env, "/readyz")
            return status == 503 and body["reasons"] == ["worker 1 has no Asterisk"]

        await until(unready, "readyz to name Asterisk")


async def test_a_wrong_ari_password_is_named(asterisk: Asterisk, tmp_path: Path, config_file: Path) -> None:
    env = on(asterisk, tmp_path / "run", ASTERISK__PASSWORD="wrong")
    async with sipagent(env, "run", "--standin", "--config", str(config_file)) as process:
        assert process.stdout is not None
        async with asyncio.timeout(15):
            async for line in process.stdout:
                if b"refused our ARI user or password" in line:
                    break
            else:
                pytest.fail("the log does not say it")


async def test_doctor_passes_a_healthy_node_and_names_what_is_wrong(
    asterisk: Asterisk, root: Root, tmp_path: Path, config_file: Path
) -> None:
    env = on(asterisk, tmp_path / "run")
    port = env["SIPAGENT_STANDIN__PORT"]
    async with sipagent(env, "standin", "--port", port, "--mode", "deterministic") as standin:
        assert standin.stdout is not None
        assert b"not Grok" in await standin.stdout.readline() + await standin.stdout.readline()
        code, out = await output_of(env, "doctor", "--standin", "--config", str(config_file))
        assert code == 0, out
        assert {line.split(":")[0] for line in out.splitlines()} >= {
            "pass  ARI",
            "pass  modules",
            "pass  RTP ports",
            "pass  undisturbed",
            "pass  clock",
        }
        assert "the model is sipagent-standin-1" in out
    env = on(asterisk, tmp_path / "run", ASTERISK__PASSWORD="wrong", WORKER__CPUS=[0, 100_000])
    code, out = await output_of(env, "doctor", "--json", "--standin", "--config", str(config_file))
    failed = {check["name"]: check["mend"] for check in json.loads(out) if not check["ok"]}
    assert code == 1
    assert set(failed) == {"ARI", "undisturbed", "realtime"}
    assert all(failed.values())


async def test_a_key_is_needed_or_the_standin_asked_for(tmp_path: Path, config_file: Path) -> None:
    code, out = await output_of(environment(tmp_path / "run"), "run", "--config", str(config_file))
    assert code == 1
    assert "XAI_API_KEY" in out
    assert "Traceback" not in out


async def test_a_taken_api_port_is_named(asterisk: Asterisk, tmp_path: Path, config_file: Path) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    env = on(asterisk, tmp_path / "run", CONTROL__PORT=port)
    code, out = await output_of(env, "run", "--standin", "--config", str(config_file))
    server.close()
    assert code == 1
    assert "control.port" in out
    assert str(port) in out


async def test_the_demo_from_nothing_to_nothing(root: Root, tmp_path: Path) -> None:
    """`make run` with --once: everything up, one call, everything down."""
    env = environment(
        tmp_path / "run",
        ASTERISK__HTTP_PORT=free_port(),
        ASTERISK__SIP_PORT=free_port(),
        ASTERISK__RTP_PORTS=list(rtp_ports()),
    )
    config = tmp_path / "sipagent.toml"
    code, out = await output_of(env, "demo", "--once", "--config", str(config))
    assert code == 0, out
    assert "Monday to Friday" in out
    assert re.search(r"turns answered +3", out)
    assert re.search(r"barge-in: agent silent after +\d+ ms", out)
    assert re.search(r"packets lost +0 of", out)
    assert "nothing is left running" in out
    password = (tmp_path / "run" / "secrets" / "asterisk__password").read_text()
    log = (tmp_path / "run" / "sipagent.log").read_text()
    assert password not in out + log
    assert "opening hours" not in log  # transcripts are hidden unless allowed
    assert config.exists()


async def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing(root: Root, tmp_path: Path) -> None:
    sip_port = free_port()
    env = environment(
        tmp_path / "run",
        ASTERISK__HTTP_PORT=free_port(),
        ASTERISK__SIP_PORT=sip_port,
        ASTERISK__RTP_PORTS=list(rtp_ports()),
    )
    async with sipagent(env, "demo", "--config", str(tmp_path / "sipagent.toml")) as process:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            async for line in process.stdout:
                if b"answered after" in line:
                    break
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            await process.communicate()
    survivors = [
        path.name
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and str(tmp_path).encode() in _cmdline(path)
    ]
    assert survivors == []


def _cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


async def test_asterisk_up_cli_call_and_down(root: Root, tmp_path: Path, config_file: Path) -> None:
    """A private Asterisk by command, a node on it, and the test call of `sipagent call`."""
    env = environment(
        tmp_path / "run",
        ASTERISK__HTTP_PORT=free_port(),
        ASTERISK__SIP_PORT=free_port(),
        ASTERISK__RTP_PORTS=list(rtp_ports()),
    )
    options = ("--config", str(config_file))
    wav = tmp_path / "call.wav"
    async with sipagent(env, "asterisk", "up", *options) as up:
        assert up.stdout is not None
        assert b"is up, SIP on" in await up.stdout.readline()
        code, out = await output_of(env, "asterisk", "cli", *options, "core", "show", "version")
        assert (code, "Asterisk 22." in out) == (0, True)

        # A second one on the same run folder is told apart.
        code, out = await output_of(env, "asterisk", "up", *options)
        assert code == 1
        assert "already runs" in out

        async with sipagent(env, "run", "--standin", *options):
            await ready(env)
            say = ("--say", "What are your opening hours?")
            code, out = await output_of(env, "call", "100", *say, "--json", "--record", str(wav), *options)
            assert code == 0, out
            figures = json.loads(out)
            assert (figures["outcome"], figures["turns"], figures["packets_lost"]) == ("answered", 1, 0)
            assert figures["ear_to_ear_p50_ms"] > 0
            assert wav.stat().st_size > 16000 * 4
            code, out = await output_of(env, "call", "999", *options)
            assert code == 1
            assert "404" in out

        code, out = await output_of(env, "asterisk", "down", *options)
        assert (code, "told Asterisk" in out) == (0, True)
        async with asyncio.timeout(5):
            await up.communicate()
    code, out = await output_of(env, "asterisk", "down", *options)
    assert "no Asterisk of ours is running" in out


async def test_check_says_where_and_how(tmp_path: Path, config_file: Path) -> None:
    env = environment(tmp_path / "run")
    assert await output_of(env, "check", str(config_file)) == (
        0,
        f"{config_file}: well formed; 1 agent(s), 1 route(s)\n",
    )
    config_file.write_text(CONFIG.replace("greeting", "greting"))
    code, out = await output_of(env, "check", str(config_file))
    assert code == 1
    assert out.startswith(f"error: {config_file}:4: agents.reception.greting: unknown key")
    assert "did you mean 'greeting'?" in out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("run",),
        ("worker",),
        ("check",),
        ("doctor",),
        ("call",),
        ("standin",),
        ("demo",),
        ("asterisk",),
        ("recordings",),
    ],
)
async def test_every_command_has_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out = await output_of(environment(tmp_path / "run"), *arguments, "--help")
    assert code == 0
    assert "Usage" in out


@pytest.mark.parametrize("fault", ["nonsense", "drop@soon", "refuse=200"])
async def test_an_unknown_fault_is_named(tmp_path: Path, fault: str) -> None:
    code, out = await output_of(environment(tmp_path / "run"), "standin", "--port", "0", "--fault", fault)
    assert code == 1
    assert fault.split("=", maxsplit=1)[0].split("@", maxsplit=1)[0] in out
    assert "Traceback" not in out
