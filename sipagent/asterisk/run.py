"""Runs Asterisk in the foreground as a child: start, wait until it answers, command line, stop.

`Asterisk` owns one process and its log. It looks for taken ports before the start, because Asterisk itself
merely logs that SIP does not listen and runs on deaf. It knows nothing of calls: that is ARI's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sipagent.asterisk.conf import AsteriskConfig, remove_socket_dir, render
from sipagent.asterisk.root import Root
from sipagent.errors import ToolError

START_TIMEOUT_S = 20.0  # 0.7 s measured; a busy machine of two cores has taken 5
STOP_TIMEOUT_S = 1.8  # `core stop now` takes 0.9 s on a quiet machine
KILL_TIMEOUT_S = 0.6  # for TERM and for KILL each: all of it within 3 s
CLI_TIMEOUT_S = 10.0  # a command line of an Asterisk that is alive answers in 50 ms
HTTP_TIMEOUT_S = 3.0
_POLL_S = 0.05
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class AsteriskInfo:
    """What a started Asterisk says of itself."""

    version: str
    entity_id: str


class Asterisk:
    """One Asterisk of ours, from spawn to stop. Used once; `stop` may be called twice."""

    def __init__(self, config: AsteriskConfig, root: Root) -> None:
        self.config, self.root = config, root
        self.info: AsteriskInfo | None = None
        """Set by `start`."""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process, None before the start and after the stop."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> AsteriskInfo:
        """Render the run folder, spawn Asterisk, wait until it is booted and ARI answers.

        Raises:
            ConfigError: a setting or a file of the configuration folder cannot be used.
            ToolError: a port is taken, Asterisk died or did not get ready; with its last log lines.
        """
        if other := running_pid(self.config):
            raise ToolError(
                f"an Asterisk (pid {other}) already runs from {self.config.run_dir}: "
                "stop it with `sipagent asterisk down`, or set another asterisk.run_dir"
            )
        check_ports(self.config)
        asterisk_conf = render(self.config, self.root)
        self.config.log_file.unlink(missing_ok=True)
        with self.config.console_file.open("wb") as console:
            self._process = await asyncio.create_subprocess_exec(
                *self.root.command("asterisk"), "-f", "-C", str(asterisk_conf),
                stdin=asyncio.subprocess.DEVNULL, stdout=console, stderr=console,
                start_new_session=True,  # Ctrl-C at the terminal is for us; we then stop it in order
                cwd=self.config.run_dir,
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.info = await self._ready()
        except TimeoutError as error:
            await self.stop()
            raise ToolError(self._failure(f"was not ready after {START_TIMEOUT_S:.0f} s")) from error
        except BaseException:  # Ctrl-C and cancellation too: an Asterisk that nobody owns must not stay
            await self.stop()
            raise
        return self.info

    async def stop(self) -> None:
        """Stop: `core stop now`, then TERM, then KILL; calls that are up end. At most 3 s."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            asked = asyncio.create_task(command(self.config, self.root, "core stop now"))
            try:
                await _ended(process, STOP_TIMEOUT_S)
            finally:
                asked.cancel()
                with contextlib.suppress(ToolError, asyncio.CancelledError):
                    await asked
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, number)
                    await _ended(process, KILL_TIMEOUT_S)
        remove_socket_dir(self.config)

    async def wait(self) -> int:
        """Wait until Asterisk ends by itself; its exit status. For a supervisor."""
        if self._process is None:
            raise ToolError("Asterisk was not started")
        return await self._process.wait()

    async def cli(self, line: str) -> str:
        """What Asterisk's command line prints for `line`.

        Raises:
            ToolError: Asterisk is not running or did not answer in time.
        """
        return await command(self.config, self.root, line)

    def last_log_lines(self, count: int = _LOG_LINES) -> list[str]:
        """The end of the log, and of what was printed before there was one."""
        lines: list[str] = []
        for file in (self.config.console_file, self.config.log_file):
            with contextlib.suppress(OSError):
                lines += file.read_text(errors="replace").splitlines()
        return lines[-count:]

    async def _ready(self) -> AsteriskInfo:
        control = self.config.socket_dir / "asterisk.ctl"
        while not control.exists():
            self._check_alive()
            await asyncio.sleep(_POLL_S)
        booted = ""
        while "fully booted" not in booted:
            self._check_alive()
            with contextlib.suppress(ToolError):  # the socket is there a moment before it listens
                booted = await command(self.config, self.root, "core waitfullybooted")
        while True:
            self._check_alive()
            try:
                return await ari_info(self.config)
            except ToolError:
                await asyncio.sleep(_POLL_S)

    def _check_alive(self) -> None:
        if self._process is None or self._process.returncode is not None:
            status = "" if self._process is None else f" with status {self._process.returncode}"
            raise ToolError(self._failure(f"ended at its start{status}"))

    def _failure(self, what: str) -> str:
        lines = "\n  ".join(self.last_log_lines()) or "(it wrote nothing)"
        return f"Asterisk {what}; the last lines of {self.config.log_file.parent}:\n  {lines}"


async def _ended(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await process.wait()


async def command(config: AsteriskConfig, root: Root, line: str, *, timeout_s: float = CLI_TIMEOUT_S) -> str:
    """One command line of the Asterisk that runs from this run folder, whoever started it.

    Raises:
        ToolError: it is not running or did not answer in time.
    """
    process = await asyncio.create_subprocess_exec(
        *root.command("asterisk"), "-C", str(config.etc / "asterisk.conf"), "-rx", line,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise ToolError(f"Asterisk did not answer `{line}` within {timeout_s:.1f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace").rstrip("\n")
    if process.returncode:
        raise ToolError(f"no Asterisk answers at {config.socket_dir}: {text or 'is it running?'}")
    return text


RELOAD = (
    "module reload acl",
    "dialplan reload",
    "module reload res_pjsip.so",
    "module reload res_pjsip_endpoint_identifier_ip.so",
    "module reload res_pjsip_outbound_registration.so",
    "module reload app_queue.so",
    "module reload app_voicemail.so",
    "module reload res_ari.so",
)
"""In this order: an endpoint names its address list and its context. None of them touches a call that is up."""


async def reload(config: AsteriskConfig, root: Root) -> None:
    """Render anew and let the running Asterisk read it; calls go on as they are.

    Transports stay as they were started: a new port, certificate file or outside address needs a restart.

    Raises:
        ConfigError: as `render`; nothing has been changed then.
        ToolError: no Asterisk runs from this folder, or it did not take the configuration.
    """
    if not answers(config):
        raise ToolError(f"no Asterisk runs from {config.run_dir}; `sipagent asterisk up` starts one")
    await asyncio.to_thread(render, config, root)  # the control process' loop hears its workers meanwhile
    for line in RELOAD:
        answer = await command(config, root, line)
        if "reloaded" not in answer:
            raise ToolError(f"Asterisk answered `{line}` with: {answer}; see {config.log_file}")


async def ari_info(config: AsteriskConfig) -> AsteriskInfo:
    """`GET /ari/asterisk/info`: proves HTTP, ARI and its password.

    Raises:
        ToolError: nobody answers, or not with 200.
    """
    status, body = await _get(config, "/ari/asterisk/info?only=system")
    if status != 200:
        raise ToolError(f"ARI at {config.ari_url} answered {status}: {body[:200].decode(errors='replace')}")
    try:
        system: dict[str, Any] = json.loads(body)["system"]
    except (ValueError, KeyError) as error:
        raise ToolError(f"{config.ari_url} is no Asterisk: {body[:200]!r}") from error
    return AsteriskInfo(str(system.get("version", "")), str(system.get("entity_id", "")))


async def _get(config: AsteriskConfig, target: str) -> tuple[int, bytes]:
    login = base64.b64encode(f"{config.ari_user}:{config.ari_password}".encode()).decode()
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(HTTP_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", config.http_port)
            try:
                writer.write(request.encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        raise ToolError(f"nobody answers at {config.ari_url}: {error}") from error
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


def answers(config: AsteriskConfig) -> bool:
    """An Asterisk hears commands in this run folder. It may be another container's: no process that we could see."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        # EAGAIN: others wait for it already. It is there, whether it answers in time is for `command` to say.
        return probe.connect_ex(str(config.socket_dir / "asterisk.ctl")) in {0, errno.EAGAIN}


def running_pid(config: AsteriskConfig) -> int | None:
    """The Asterisk that runs from this run folder, by its pid file; None when there is none that we can signal."""
    try:
        pid = int((config.socket_dir / "asterisk.pid").read_text())
        # A pid is used again after a crash: only a process that names our folder is ours.
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(config.etc / "asterisk.conf") in arguments.split(b"\0") else None


def check_ports(config: AsteriskConfig) -> None:
    """ToolError for the first port that another program holds, with the setting to change."""
    wanted: Sequence[tuple[socket.SocketKind, str, int, str]] = (
        *([(socket.SOCK_STREAM, config.sip_host, config.tls_port, "asterisk.tls_port")] if config.tls_port else ()),
        (socket.SOCK_DGRAM, config.sip_host, config.sip_port, "asterisk.sip_port"),
        (socket.SOCK_STREAM, config.sip_host, config.sip_port, "asterisk.sip_port"),
        (socket.SOCK_STREAM, "127.0.0.1", config.http_port, "asterisk.http_port"),
    )
    for kind, host, port, setting in wanted:
        protocol = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:
                # As Asterisk does: a connection in TIME_WAIT owns nothing.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    text = f"{protocol} port {port} of {host} is taken by another program: end it or set {setting}"
                elif error.errno == errno.EACCES:
                    text = f"{protocol} port {port} needs more rights than this user has: set {setting} above 1023"
                else:
                    text = f"{protocol} port {port} of {host}: {error.strerror}; set asterisk.sip_address"
                raise ToolError(text) from error
