"""A telephone that measures: dials, talks, listens, hangs up, and knows what the caller's ear got.

`Phone` joins SIPp's signalling (`sipp`) to our own RTP (`media`) and holds the caller's side of a
conversation; the figures come from `analysis`. It is a test caller: one call, no transfer, no hold. Many of
them may run side by side in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from sipagent.audio import SAMPLE_RATE_HZ, Law, decode, encode, resample
from sipagent.errors import ConfigError, ToolError
from sipagent.phone.analysis import Said, Turn, onset_after, reception, timeline, turns
from sipagent.phone.media import PhoneMedia
from sipagent.phone.scenario import Caller
from sipagent.phone.sipp import FINAL, SipEvent, SippCall, SipReport
from sipagent.phone.wav import stereo

ANSWER_TIMEOUT_S = 30.0  # what a patient caller waits
AGENT_TIMEOUT_S = 15.0  # a voice model that says nothing for so long has failed
_SIP_URI = re.compile(r"(?:sip:)?(?:([^@\s]+)@)?(\[[0-9a-fA-F:]+\]|[^:;@\s]+)(?::(\d+))?(?:;\S*)?")
_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/#%-]+")
_LOGIN = re.compile(r"[!-Z\\^-~]+")  # printable, no blanks, no brackets: those are SIPp's keywords


@dataclass(frozen=True, slots=True)
class PhoneConfig:
    """Whose phone this is and where it is registered."""

    server: str
    """Host or host:port of the switch; numbers are dialled there."""
    user: str = "sipagent-phone"
    password: str = field(default="", repr=False)
    law: Law = Law.ULAW


@dataclass(frozen=True, slots=True)
class CallSummary:
    """One call as the caller met it. Times in milliseconds, None where there was nothing to measure."""

    number: str
    outcome: str
    """answered, refused, cancelled, unanswered or lost."""
    status: int
    """The final SIP status; 200 for an answered call, 0 where there was none."""
    ended_by: str
    """caller, far end, or nobody."""
    cause: int
    """Q.850, as the far end's BYE gave it; 0 where it did not."""
    law: str
    duration_s: float
    setup_ms: float | None
    """INVITE to 200."""
    ringing_ms: float | None
    """INVITE to 180."""
    first_agent_ms: float | None
    """INVITE to the first voiced frame of the agent."""
    turns: tuple[Turn, ...]
    packets_sent: int
    packets_received: int
    packets_lost: int
    lost_percent: float
    reordered: int
    jitter_ms: float
    longest_gap_ms: float
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Phone:
    """One telephone, one call, as an async context manager: leaving it hangs up and frees everything."""

    def __init__(self, config: PhoneConfig, sipp: Sequence[str]) -> None:
        self.config = config
        self.number = ""
        self.end: SipReport | None = None
        """How the call ended, once it has."""
        self._sipp = sipp
        self._call: SippCall | None = None
        self._media: PhoneMedia | None = None
        self._watch: asyncio.Task[None] | None = None
        self._steps: dict[SipEvent, float] = {}
        self._answered = asyncio.Event()
        self._ended = asyncio.Event()
        self._hung_up_by_us = False
        self._mark = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def media(self) -> PhoneMedia:
        """The frames of the call, for tests that look at each of them."""
        if self._media is None:
            raise ToolError("the phone has not dialled yet")
        return self._media

    @property
    def answered(self) -> bool:
        """Whether the call was ever answered."""
        return self._answered.is_set()

    @property
    def ended(self) -> bool:
        """Whether the call is over."""
        return self._ended.is_set()

    async def dial(self, number: str) -> None:
        """Place the call: a number at the configured server, or any `sip:user@host:port`.

        Raises:
            ConfigError: that is no number and no SIP address, or the login holds signs that SIPp cannot take.
            ToolError: SIPp does not run, or the phone has already been used.
        """
        if self._call is not None:
            raise ToolError("a phone makes one call; take another for the next")
        user, host, port = parse_target(number, self.config.server)
        for name, value in (("user", self.config.user), ("password", self.config.password or "-")):
            if not _LOGIN.fullmatch(value):
                raise ConfigError(f"the phone's {name} must be printable ASCII without blanks and square brackets")
        self.number = user
        address, local = await _addresses(host, port)
        self._media = PhoneMedia(local, self.config.law)
        self._media.start()
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        caller = Caller(
            target=f"sip:{user}@{where}", user=self.config.user, password=self.config.password or "-",
            law=self.config.law, media_host=local, media_port=self._media.port,
        )  # fmt: skip
        self._call = SippCall(self._sipp, caller, (address, port), local)
        self._mark = time.monotonic()
        try:
            await self._call.start()
        except ToolError as error:
            self._finish(SipReport(SipEvent.LOST, time.monotonic(), detail=str(error)))
            raise
        self._watch = asyncio.create_task(self._follow(self._call), name=f"phone {self.number}")

    async def wait_answered(self, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
        """Whether the call was answered; False when it ended before (see `end`).

        Raises:
            ToolError: it still rings when the time is up.
        """
        await self._either(self._answered, timeout_s, f"{self.number} was not answered")
        return self._answered.is_set()

    async def wait_ended(self, timeout_s: float) -> SipReport:
        """How the call ended; ToolError when it has not within the time."""
        await self._either(self._ended, timeout_s, f"the call to {self.number} did not end")
        assert self.end is not None  # noqa: S101  (set before the event)
        return self.end

    async def say(self, g711: bytes) -> Said | None:
        """Say G.711 of the call's law; returns when the last frame has left. None when nothing was voiced."""
        said = await self.media.say(g711)
        if said:
            self._mark = said.last
        return said

    async def say_pcm(self, pcm: bytes, rate_hz: int = SAMPLE_RATE_HZ) -> Said | None:
        """Say 16-bit mono PCM of any rate."""
        return await self.say(encode(resample(pcm, rate_hz, SAMPLE_RATE_HZ), self.config.law))

    async def press(self, digits: str) -> None:
        """Press keys (RFC 4733), 100 ms each."""
        await self.media.press(digits)

    async def hear_agent_start(self, timeout_s: float = AGENT_TIMEOUT_S) -> float:
        """Wait until the agent speaks after our last utterance; the arrival of its first voiced frame.

        Raises:
            ToolError: the agent says nothing in time, or the call ends first.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (onset := onset_after(self.media.voiced_in, self._mark)) is None:
                    if self.ended:
                        raise ToolError(f"the call to {self.number} ended before the agent spoke")
                    await self._voiced_or_ended()
        except TimeoutError as error:
            raise ToolError(f"the agent said nothing for {timeout_s:.0f} s") from error
        return onset

    async def hear_voice(self) -> None:
        """Wait for the far end's next voiced frame, or the end of the call."""
        if not self.ended:
            await self._voiced_or_ended()

    async def wait_quiet(self, quiet_ms: float, timeout_s: float = 60.0) -> None:
        """Wait until the agent has said nothing for `quiet_ms`.

        Raises:
            ToolError: it still talks when the time is up.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                while not self.ended:
                    voiced = self.media.voiced_in
                    left_s = max(voiced[-1] if voiced else 0.0, begun) + quiet_ms / 1000 - time.monotonic()
                    if left_s <= 0:
                        return
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await self._ended.wait()
        except TimeoutError as error:
            raise ToolError(f"the agent was not quiet for {quiet_ms:.0f} ms within {timeout_s:.0f} s") from error

    async def hang_up(self) -> None:
        """BYE, or CANCEL while it rings; returns when the far end has answered it. Twice is fine."""
        if self._call is None or self.ended:
            return
        self._hung_up_by_us = True
        await self._call.hang_up()
        async with asyncio.timeout(1.0):  # the report is in the queue: one step of the loop
            await self._ended.wait()

    async def close(self) -> None:
        """Hang up if need be, end SIPp and the media; may be called twice."""
        await self.hang_up()
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._call is not None:
            await self._call.close()
        if self._media is not None:
            await self._media.stop()

    def summary(self) -> CallSummary:
        """The figures so far; complete after the end."""
        media = self.media
        got = reception(media.heard)
        dialled, answered_at = self._steps.get(SipEvent.DIALLING), self._steps.get(SipEvent.ANSWERED)
        until = self.end.at if self.end else time.monotonic()
        first = media.voiced_in[0] if media.voiced_in else None
        return CallSummary(
            number=self.number,
            outcome=self._outcome(),
            status=200 if self.answered else self.end.status if self.end else 0,
            ended_by=self._ended_by(),
            cause=self.end.cause if self.end else 0,
            law=media.law.value,
            duration_s=until - answered_at if answered_at else 0.0,
            setup_ms=_between(dialled, answered_at),
            ringing_ms=_between(dialled, self._steps.get(SipEvent.RINGING)),
            first_agent_ms=_between(dialled, first),
            turns=tuple(turns(media.said, media.voiced_in)),
            packets_sent=len(media.sent),
            packets_received=got.packets,
            packets_lost=got.lost,
            lost_percent=got.lost_percent,
            reordered=got.reordered,
            jitter_ms=got.jitter_ms,
            longest_gap_ms=got.longest_gap_ms,
            detail=self.end.detail if self.end else "",
        )

    def save_wav(self, path: Path) -> None:
        """The call as a stereo WAV file: the caller on the left, the agent on the right."""
        media = self.media
        if not media.sent:
            raise ToolError("nothing was said in this call, so there is nothing to save")
        start, silence = media.sent[0][0], media.law.silence
        caller = b"".join(payload for _, payload in media.sent)
        voice = [heard for heard in media.heard if heard.packet.payload_type == media.law.payload_type]
        agent = timeline(voice, start, silence)
        path.write_bytes(stereo(decode(caller, media.law), decode(agent, media.law), SAMPLE_RATE_HZ))

    async def _follow(self, call: SippCall) -> None:
        """Take SIPp's reports until the last one."""
        while not self.ended:
            report = await call.next_report()
            self._steps.setdefault(report.event, report.at)
            if report.media:
                self.media.connect(report.media)
            if report.event is SipEvent.ANSWERED:
                self._answered.set()
            elif report.event in FINAL:
                self._finish(report)

    def _finish(self, report: SipReport) -> None:
        if self.end is None:
            self.end = report
            self._ended.set()

    async def _either(self, event: asyncio.Event, timeout_s: float, what: str) -> None:
        """Wait for an event or the call's end."""
        tasks = [asyncio.create_task(event.wait()), asyncio.create_task(self._ended.wait())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if not done:
            raise ToolError(f"{what} within {timeout_s:.0f} s")

    async def _voiced_or_ended(self) -> None:
        tasks = [asyncio.create_task(self.media.changed()), asyncio.create_task(self._ended.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _outcome(self) -> str:
        if self.answered:
            return "answered"
        if self.end is None:
            return "unanswered"
        match self.end.event:
            case SipEvent.REFUSED:
                return "refused"
            case SipEvent.CANCELLED | SipEvent.HUNG_UP:  # the latter: our CANCEL met their 200
                return "cancelled"
            case _:
                return "lost"

    def _ended_by(self) -> str:
        if self.end is None:
            return "nobody"
        return "caller" if self._hung_up_by_us and self.end.event is not SipEvent.BYE else "far end"


def parse_target(number: str, server: str) -> tuple[str, str, int]:
    """User, host and port of what is dialled: a number at `server`, or a SIP address.

    Raises:
        ConfigError: neither of them.
    """
    text = number.strip()
    if not (text.startswith("sip:") or "@" in text):
        text = f"{text}@{server.removeprefix('sip:')}"
    match = _SIP_URI.fullmatch(text)
    if not match or not match[1] or not _USER.fullmatch(match[1]):
        raise ConfigError(f"{number!r} is no number and no SIP address: dial 600 or sip:600@192.0.2.1:5060")
    return match[1], match[2].strip("[]"), int(match[3] or 5060)


async def _addresses(host: str, port: int) -> tuple[str, str]:
    """The server's IP address, and the local one that packets to it leave from."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConfigError(f"the SIP server {host!r} is not known ({error}): check its name") from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0])  # IPv4 first: carriers' choice
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)  # UDP: nothing is sent, the kernel only picks a route
        except OSError as error:
            raise ToolError(f"there is no way to {host}:{port} ({error})") from error
        return str(address[0]), str(probe.getsockname()[0])


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else (last - first) * 1000
