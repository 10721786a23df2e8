"""One SIP call by SIPp, under our hand: each step reported as it happens, hung up when we say so.

SIPp's 3PCC mode ("third party call control") connects to a TCP port of ours and exchanges small messages,
each closed by ESC. Tried against it and left: the control socket and signals end SIPp without a BYE, log
files are late and say nothing back. If this process dies, SIPp sees the socket close and ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sipagent.errors import ToolError
from sipagent.phone.scenario import Caller, scenario

UNHEARD_TIMEOUT_S = 1.0  # for the first response: without one there is nothing to cancel (RFC 3261, 9.1)
HANG_UP_TIMEOUT_S = 3.0  # BYE or CANCEL and its answer: milliseconds on a LAN, two retransmissions otherwise
CONNECT_TIMEOUT_S = 10.0  # SIPp starts in 50 ms; twenty at once on two busy cores have taken 2 s
_SETTLE_S = 0.02  # from a report to a command: SIPp rejects one that meets it between two steps
_EXIT_TIMEOUT_S = 1.5
_ESC = b"\x1b"


class SipEvent(StrEnum):
    """The steps of a call, as the scenario reports them."""

    DIALLING = "dialling"
    TRYING = "trying"
    RINGING = "ringing"
    PROGRESS = "progress"
    """183 with media before the answer."""
    ANSWERED = "answered"
    REFUSED = "refused"
    """A final status of 300 or more; `status` says which."""
    CANCELLED = "cancelled"
    HUNG_UP = "hung up"
    """By us: BYE sent and answered."""
    BYE = "bye"
    """By the far end; `cause` is its Q.850 cause where it gave one."""
    LOST = "lost"
    """SIPp ended without telling how the call did."""


_EVENTS = frozenset(event.value for event in SipEvent)
FINAL = frozenset({SipEvent.REFUSED, SipEvent.CANCELLED, SipEvent.HUNG_UP, SipEvent.BYE, SipEvent.LOST})


@dataclass(frozen=True, slots=True)
class SipReport:
    """One step with its time (monotonic seconds) and what belongs to it."""

    event: SipEvent
    at: float
    media: tuple[str, int] | None = None
    """Where the far end wants its RTP."""
    status: int = 0
    cause: int = 0
    detail: str = ""


class SippCall:
    """One SIPp process, one call. `reports` yields each step; the last one is one of FINAL."""

    def __init__(self, command: Sequence[str], caller: Caller, server: tuple[str, int], local_host: str) -> None:
        self._command, self._caller, self._server, self._local_host = list(command), caller, server, local_host
        self._reports: asyncio.Queue[SipReport] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()
        self._wants_end = self._commanded = self._heard_of = False
        self._reported_at = 0.0
        self._call_id = ""
        self._folder: Path | None = None

    async def start(self) -> None:
        """Spawn SIPp; it dials at once.

        Raises:
            ToolError: SIPp does not run or does not reach us.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="sipagent-phone-"))  # 0700: the scenario holds the password
        (self._folder / "call.xml").write_text(scenario(self._caller))
        self._listener = await asyncio.start_server(self._on_connect, "127.0.0.1", 0)
        twin_port = self._listener.sockets[0].getsockname()[1]
        host, port = self._server
        with (self._folder / "screen.log").open("wb") as screen:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                "-sf", "call.xml", "-m", "1", "-r", "100", "-nostdin", "-aa",
                # What comes between two steps is passed over: aborting would leave the far end with the call.
                "-default_behaviors", "all,-abortunexp",
                "-i", self._local_host, "-p", str(free_udp_port(self._local_host)), "-ci", "127.0.0.1",
                "-3pcc", f"127.0.0.1:{twin_port}", "-trace_err", "-error_file", "errors.log",
                stdin=asyncio.subprocess.DEVNULL, stdout=screen, stderr=screen,
                cwd=self._folder, start_new_session=True,  # Ctrl-C is ours: we hang up first
            )  # fmt: skip
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                ended = asyncio.create_task(self._process.wait())
                connected = asyncio.create_task(self._connected.wait())
                try:
                    await asyncio.wait((ended, connected), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ended.cancel()
                    connected.cancel()
        except TimeoutError as error:
            await self.close()
            raise ToolError(f"SIPp did not start within {CONNECT_TIMEOUT_S:.0f} s") from error
        if not self._connected.is_set():
            words = self._last_words()
            await self.close()
            raise ToolError(f"SIPp ended at its start: {words}")

    async def next_report(self) -> SipReport:
        """The next step of the call. The caller sets the time-out: ringing may take a minute."""
        return await self._reports.get()

    async def hang_up(self) -> None:
        """BYE (answered) or CANCEL (before); the end comes as a report, if the far end answers in time."""
        if not self._wants_end:
            self._wants_end = True
            self._command_end()
        await self._ended_within(UNHEARD_TIMEOUT_S)
        if self._heard_of:
            await self._ended_within(HANG_UP_TIMEOUT_S)
        if not self._ended.is_set():
            self._report(SipReport(SipEvent.LOST, time.monotonic(), detail="no answer to our BYE or CANCEL"))

    async def _ended_within(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()

    async def close(self) -> None:
        """End SIPp, whatever the call does; may be called twice."""
        if self._listener is not None:
            self._listener.close()
        if self._process is not None and self._process.returncode is None:
            for end in (None, self._process.terminate, self._process.kill):
                if end is not None:
                    with contextlib.suppress(ProcessLookupError):
                        end()
                # Without a reported end SIPp would wait on: no reason to give it time.
                elif not self._ended.is_set():
                    continue
                try:
                    async with asyncio.timeout(_EXIT_TIMEOUT_S):
                        await self._process.wait()
                    break
                except TimeoutError:
                    continue
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._connected.set()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                report = self._parse(await reader.readuntil(_ESC))
                if report is None:
                    continue
                self._report(report)
                # A command that met the INVITE's list just before the answer is lost with that list.
                if report.event is SipEvent.ANSWERED:
                    self._commanded = False
                if self._wants_end:
                    self._command_end()
        if not self._ended.is_set():
            self._report(SipReport(SipEvent.LOST, time.monotonic(), detail=self._last_words()))

    def _command_end(self) -> None:
        """Tell SIPp to hang up, once it listens: from the far end's first response to the call's end."""
        if self._writer is None or not self._heard_of or self._ended.is_set() or self._commanded:
            return
        settled_in_s = self._reported_at + _SETTLE_S - time.monotonic()
        if settled_in_s > 0:
            asyncio.get_running_loop().call_later(settled_in_s, self._command_end)
        else:
            self._commanded = True
            self._writer.write(f"Call-ID: {self._call_id}\r\nEvent: hang up\r\n\r\n".encode() + _ESC)

    def _report(self, report: SipReport) -> None:
        if report.event in FINAL:
            if self._ended.is_set():
                return
            self._ended.set()
        self._reported_at = time.monotonic()
        self._heard_of = self._heard_of or report.event is not SipEvent.DIALLING
        self._reports.put_nowait(report)

    def _parse(self, message: bytes) -> SipReport | None:
        """A message of the scenario (None for SIPp's own); SIPp's wall clock becomes our monotonic one."""
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*?)\r?$", message.decode(errors="replace"), re.MULTILINE))
        if fields.get("Event") not in _EVENTS or "Time" not in fields:
            return None
        self._call_id = fields.get("Call-ID", "")
        now, wall = time.monotonic(), time.time()
        with contextlib.suppress(ValueError, IndexError):
            age = wall - float(fields["Time"].split("\t")[-1])
            if 0 <= age < 1:  # a clock that was set in between says nothing
                now -= age
        media = re.fullmatch(r"(\S+) (\d+)", fields.get("Media", "").strip())
        return SipReport(
            SipEvent(fields["Event"]),
            now,
            media=(media[1], int(media[2])) if media else None,
            status=_number(fields.get("Status")),
            cause=_number(fields.get("Cause")),
        )

    def _last_words(self) -> str:
        lines: list[str] = []
        if self._folder is not None:
            for name in ("errors.log", "screen.log"):
                with contextlib.suppress(OSError):
                    lines += (self._folder / name).read_text(errors="replace").strip().splitlines()[:6]
        return " | ".join(line.strip() for line in lines[:6]) or "it said nothing"


def _number(text: str | None) -> int:
    return int(text) if text and text.strip().isdigit() else 0


def free_udp_port(host: str) -> int:
    """A UDP port that is free now; the kernel does not hand the same one out again soon."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
