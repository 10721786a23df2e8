"""A node that is open to others: TLS, tokens, the command line of its machine, and what stands in no log."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import stat
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from sipagent.asterisk.run import Asterisk
from tests.e2e.test_processes import CONFIG, environment, on, output_of, sipagent
from tests.service.test_compose import COMPOSE
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


class Api:
    """The API of a node with TLS, as another machine asks it."""

    def __init__(self, env: dict[str, str], authority: trustme.CA) -> None:
        self.url = f"https://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}"
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)

    async def ask(self, method: str, path: str, token: str = "", **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with (
                aiohttp.ClientSession(self.url, headers=headers) as http,
                http.request(method, path, ssl=self.trust, **more) as response,
            ):
                text = await response.text()
                return response.status, json.loads(text) if "json" in response.content_type else text
        except aiohttp.ClientConnectionError:
            return 0, {}

    async def ready(self) -> None:
        async def is_ready() -> bool:
            return (await self.ask("GET", "/readyz"))[0] == 200

        await until(is_ready, "the node to be ready")


def certificate(authority: trustme.CA, folder: Path, name: str = "api") -> dict[str, object]:
    """Files of a certificate for 127.0.0.1, as settings."""
    made = authority.issue_cert("127.0.0.1")
    (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    (folder / f"{name}.key").write_bytes(made.private_key_pem.bytes())
    return {"CONTROL__CERTIFICATE": folder / f"{name}.pem", "CONTROL__PRIVATE_KEY": folder / f"{name}.key"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "sipagent.toml"
    made.write_text(CONFIG)
    return made


async def test_a_node_open_to_the_network_asks_who_comes(asterisk: Asterisk, tmp_path: Path, file: Path) -> None:
    authority = trustme.CA()
    env = on(asterisk, tmp_path / "run", CONTROL__HOST="0.0.0.0", CONTROL__LOGIN="tokens",
             **certificate(authority, tmp_path))  # fmt: skip
    api, config = Api(env, authority), ("--config", str(file))

    async def create(name: str, scope: str) -> str:
        code, told = await output_of(env, "token", "create", name, "--scope", scope, *config)
        assert code == 0, told
        return told.strip()

    viewer = await create("wallboard", "viewer")
    async with sipagent(env, "run", "--standin", *config):
        await api.ready()
        assert await api.ask("GET", "/readyz") == (200, {"ready": True, "reasons": [], "troubles": [], "workers": []})
        assert (await api.ask("GET", "/v1/calls/live"))[0] == 401
        assert await api.ask("GET", "/v1/calls/live", viewer) == (200, {"calls": []})
        status, told = await api.ask("GET", "/metrics", viewer)
        assert status == 200
        assert "sipagent_node_ready" in told
        assert (await api.ask("POST", "/v1/reload", viewer, headers={"X-Forwarded-For": "192.0.2.9"}))[0] == 403

        # Made and revoked while it runs.
        admin = await create("deploy", "admin")
        assert (await api.ask("POST", "/v1/drain", admin, json={"on": False}))[0] == 202
        assert (await output_of(env, "token", "revoke", "deploy", *config))[0] == 0
        assert (await api.ask("POST", "/v1/drain", admin, json={"on": True}))[0] == 401

        # So does the health check of the containers.
        check = COMPOSE["services"]["sipagent"]["healthcheck"]["test"][-1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", check.replace("/var/lib/sipagent", env["SIPAGENT_RUN_DIR"])
        )
        assert await process.wait() == 0

        # The command line comes by the Unix socket, whose mode is its login.
        mode = (tmp_path / "run/api.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert mode & 0o777 == 0o600
        code, told = await output_of(env, "reload", *config)
        assert (code, told) == (0, "reloaded; new calls follow the new configuration\n")
        assert (await output_of(env, "drain", "--resume", *config))[0] == 0

        deeds = [
            json.loads(line) for log in (tmp_path / "run/audit").iterdir() for line in log.read_text().splitlines()
        ]
        assert {deed["address"] for deed in deeds if deed["who"] == "wallboard"} == {
            "192.0.2.9"
        }  # a proxy of this machine says so
        assert [(deed["who"], deed["path"], deed["status"]) for deed in deeds if deed["method"] == "POST"] == [
            ("wallboard", "/v1/reload", 403), ("deploy", "/v1/drain", 202), ("", "/v1/drain", 401),
            ("unix socket", "/v1/reload", 200), ("unix socket", "/v1/drain", 202),
        ]  # fmt: skip
    assert not (tmp_path / "run/api.sock").exists()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_tls_is_refused_and_a_reload_brings_a_new_certificate(
    asterisk: Asterisk, tmp_path: Path, file: Path
) -> None:
    authority = trustme.CA()
    env = on(asterisk, tmp_path / "run", CONTROL__LOGIN="tokens", **certificate(authority, tmp_path))
    api, port = Api(env, authority), int(env["SIPAGENT_CONTROL__PORT"])

    def shown(most: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> bytes | None:
        """Its certificate, to whoever speaks no later TLS."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else ours would not even ask for TLS 1.1
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, most
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True)

    async with sipagent(env, "run", "--standin", "--config", str(file)):
        await api.ready()
        before = await asyncio.to_thread(shown)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(shown, ssl.TLSVersion.TLSv1_1)
        assert await asyncio.to_thread(shown, ssl.TLSVersion.TLSv1_2) == before

        certificate(authority, tmp_path)
        assert await asyncio.to_thread(shown) == before
        assert (await output_of(env, "reload", "--config", str(file)))[0] == 0
        renewed = await asyncio.to_thread(shown)
        assert renewed != before
        assert (await api.ask("GET", "/healthz"))[0] == 200

        # One that does not fit its key changes nothing.
        (tmp_path / "api.key").write_bytes(trustme.CA().issue_cert("127.0.0.1").private_key_pem.bytes())
        code, told = await output_of(env, "reload", "--config", str(file))
        assert code == 1
        assert "control.certificate" in told
        assert await asyncio.to_thread(shown) == renewed


@pytest.mark.parametrize(
    ("control", "why"),
    [
        ('host = "0.0.0.0"', 'control.login: "tokens" is needed'),
        ('host = "192.0.2.1"\nlogin = "tokens"', "control.certificate: TLS is needed"),
        ('host = "0.0.0.0"\nlogin = "tokens"\nnetworks = ["198.51.100.0/24", "8.8.8.0/24"]', "private networks"),
        ('certificate = "/nowhere/api.pem"', "TLS needs certificate and private_key"),
        ('certificate = "/nowhere/api.pem"\nprivate_key = "/nowhere/api.key"', "there is no file /nowhere/api.pem"),
        ('host = "api.example.com"', "control.host"),
        ('[media]\naddress = "0.0.0.0"', "media.address: speech crosses it in clear"),
        ('[media]\naddress = "8.8.8.8"', "media.address: speech crosses it in clear"),
        ('[asterisk]\nhost = "8.8.8.8"', "asterisk.host: ARI and its password"),
    ],
)
async def test_what_would_be_open_to_all_is_refused(tmp_path: Path, file: Path, control: str, why: str) -> None:
    file.write_text(f"{CONFIG}[control]\n{control}\n")
    code, told = await output_of(environment(tmp_path / "run"), "check", str(file))
    assert code == 1
    assert why in told
    assert f"{file}:" in told


async def test_a_private_network_that_is_named_may_come_without_tls(tmp_path: Path, file: Path) -> None:
    file.write_text(f'{CONFIG}[control]\nhost = "0.0.0.0"\nlogin = "tokens"\nnetworks = ["10.1.2.0/24"]\n')
    env = {name: value for name, value in environment(tmp_path / "run").items() if "CONTROL__" not in name}
    assert (await output_of(env, "check", str(file)))[0] == 0


async def test_a_certificate_that_is_none_is_named(asterisk: Asterisk, tmp_path: Path, file: Path) -> None:
    for name in ("api.pem", "api.key"):
        (tmp_path / name).write_text("none")
    env = on(asterisk, tmp_path / "run", CONTROL__CERTIFICATE=tmp_path / "api.pem",
             CONTROL__PRIVATE_KEY=tmp_path / "api.key")  # fmt: skip
    code, told = await output_of(env, "run", "--standin", "--config", str(file))
    assert code == 1
    assert "control.certificate" in told
    assert "Traceback" not in told


PLANTED = {
    "REALTIME__API_KEY": "xai-planted-key-0001",
    "REALTIME__FALLBACKS__SECOND__API_KEY": "xai-planted-key-0002",
    "RECORDS__PASSWORD": "planted-records-0003",
    "RECORDING__KEY": "706c616e7465642d303030342d706c616e7465642d303030342d706c616e7465",
    "WEBHOOKS__CRM__SECRET": "whsec_cGxhbnRlZC0wMDA1LXBsYW50ZWQtMDAwNS0wMDA1",
    "TOOLS__ORDER__SECRET": "planted-tool-0006",
    "TRUNKS__OFFICE__AUTH__PASSWORD": "planted-trunk-0007",
    "MAILBOXES__DESK__PIN": "70000008",
    "TRACING__HEADERS": '{"x-token": "planted-trace-0009"}',
}
SECRETS = [*PLANTED.values(), "planted-trace-0009"]
WITH_SECRETS = f"""{CONFIG}
[realtime.fallbacks.second]
url = "wss://second.example.com/v1/realtime"
[records]
url = "postgresql+psycopg://sipagent@127.0.0.1:1/sipagent"
[webhooks.crm]
url = "http://127.0.0.1:1/hook"
events = ["call.ended"]
[tracing]
endpoint = "http://127.0.0.1:1/v1/traces"
[tools.order]
kind = "http"
description = "An order."
url = "https://127.0.0.1:1/order"
headers = {{ Authorization = "Bearer {{secret}}" }}
[trunks.office]
preset = "phone"
[trunks.office.auth]
[mailboxes.desk]
[[routes]]
to = "200"
go = "voicemail:desk"
"""


async def test_no_secret_is_in_anything_that_a_node_says(asterisk: Asterisk, tmp_path: Path, file: Path) -> None:
    """Nor in what it writes, except in files that are its user's alone."""
    file.write_text(WITH_SECRETS.replace('instructions = "Be brief."', 'instructions = "Be brief."\ntools = ["order"]'))
    env = on(asterisk, tmp_path / "run", CONTROL__LOGIN="tokens", LOG__LEVEL="debug", **PLANTED)
    config, secrets = ("--config", str(file)), [*SECRETS, env["SIPAGENT_ASTERISK__PASSWORD"]]
    said: list[str] = []

    async def run(*arguments: str) -> int:
        code, told = await output_of(env, *arguments)
        said.append(told)
        return code

    code, secret = await output_of(env, "token", "create", "anna", "--scope", "admin", *config)
    assert code == 0, secret
    secrets.append(secret.strip().removeprefix("sipagent_"))
    async with sipagent(env, "run", "--standin", *config) as process:
        url = f"http://127.0.0.1:{env['SIPAGENT_CONTROL__PORT']}"

        async def ask(method: str, path: str, token: str) -> int:
            try:
                async with (
                    aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as http,
                    http.request(method, path) as response,
                ):
                    said.append(f"{response.headers}{await response.text()}")
                    return response.status
            except aiohttp.ClientConnectionError:
                return 0

        async def is_ready() -> bool:
            return await ask("GET", "/readyz", secret.strip()) == 200

        await until(is_ready, "the node to be ready")
        assert await ask("GET", "/v1/calls", secret.strip()) == 503  # no database: its error holds no password
        assert await ask("POST", "/v1/reload", secret.strip()) == 200
        assert await ask("GET", "/v1/tokens", secret.strip()) == 404
        assert await ask("POST", "/v1/reload", secret.strip()[:-1] + "x") == 401
        assert await run("calls", *config) == 1
        assert await run("doctor", "--json", "--standin", *config) in {0, 1}
        for pid in (process.pid, *await children(process.pid)):
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert [line.split()[4:6] for line in limits.splitlines() if "core file size" in line] == [["0", "0"]]
        process.send_signal(2)
        out, _ = await process.communicate()
        said.append(out.decode())
    assert await run("check", str(file)) == 0
    assert await run("check", "--json", str(file)) == 0
    assert await run("asterisk", "render", *config) == 0
    assert await run("token", "list", "--json", *config) == 0
    assert await run("tool", "--config", str(file)) == 0
    for wrong in (
        {"RECORDING__KEY": "planted-too-short-0010"},
        {"TRUNKS__OFFICE__AUTH__PASSWORD": "short-0011"},
        {"RECORDS__URL": "postgresql+psycopg://sipagent:planted-url-0012@127.0.0.1/x"},
        {"WEBHOOKS__CRM__SECRET": "planted-not-base64-0013"},
        {"MAILBOXES__DESK__PIN": "planted-pin-0014"},
    ):
        (value,) = wrong.values()
        secrets.append("planted-url-0012" if "@" in value else value)
        code, told = await output_of(
            env | {f"SIPAGENT_{name}": value for name, value in wrong.items()}, "check", str(file)
        )
        said.append(told)
        assert code == 1, wrong
    everything = "\n".join(said)
    assert len(everything) > 10_000
    assert [secret for secret in secrets if secret in everything] == []
    assert "api_audit" in everything
    found = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    holding = [path for path in found if any(secret.encode() in path.read_bytes() for secret in secrets)]
    assert [path for path in holding if path.stat().st_mode & 0o077] == []
    assert not [path for path in holding if path.is_relative_to(tmp_path / "run/audit")]


async def children(pid: int) -> list[int]:
    """Of a process of ours: its workers, and their toolboxes."""
    below: list[int] = []
    for one in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        below += [one, *await children(one)]
    return below


async def test_whose_memory_is_not_to_be_read(tmp_path: Path, file: Path) -> None:
    """Even by its own user: a process that may be dumped owns its /proc entries, one that may not does not."""
    program = (
        "import os, pathlib, sys; from sipagent import coredumps; import resource;"
        "coredumps.follow(wanted=sys.argv[1] == 'wanted');"
        "import ctypes; print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    for how, dumpable in (("none", "0 (0, 0)"), ("wanted", "1 ")):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, how, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out.decode().startswith(dumpable)
