"""Is everything there? One line per thing that a first call needs, pass or fail, each fail with its mend."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from sipagent import media, tuning
from sipagent.asterisk.root import asterisk_version
from sipagent.audio import Law
from sipagent.config import Settings
from sipagent.errors import RealtimeError, RealtimeRefused
from sipagent.xai import client, session
from sipagent.xai.dialect import DIALECTS, SessionConfig

MINIMUM = (22, 5)
"""REST over the events socket and transfer events need it."""
HTTP_TIMEOUT_S = 5.0
SESSION_TIMEOUT_S = 15.0
MAX_CLOCK_SKEW_S = 5.0
MODULES = (
    "chan_rtp.so", "res_ari.so", "res_ari_channels.so", "res_ari_bridges.so", "res_ari_events.so",
    "res_ari_asterisk.so", "res_stasis.so", "app_stasis.so", "res_pjsip.so", "res_pjsip_session.so",
    "chan_pjsip.so", "res_srtp.so", "res_rtp_asterisk.so", "codec_ulaw.so", "codec_alaw.so", "bridge_simple.so",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    ok: bool
    detail: str
    mend: str = ""


async def examine(settings: Settings) -> AsyncIterator[Check]:
    """Every check in turn; a check that depends on a failed one is left out."""
    timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
    login = aiohttp.encode_basic_auth(settings.asterisk.username, settings.asterisk.password.get_secret_value())
    async with aiohttp.ClientSession(timeout=timeout, headers={"Authorization": login}) as http:
        info, check = await _ari(http, settings)
        yield check
        if info is not None:
            yield _version(str(info.get("system", {}).get("version", "")))
            yield await _modules(http, settings)
    yield _rtp_ports(settings)
    yield _compiled()
    yield _undisturbed(settings)
    async for check in _realtime(settings):
        yield check


async def _ari(http: aiohttp.ClientSession, settings: Settings) -> tuple[dict[str, Any] | None, Check]:
    url, name = settings.asterisk.url, "ARI"
    try:
        async with http.get(f"{url}/ari/asterisk/info") as response:
            if response.status == 200:
                return await response.json(), Check(name, ok=True, detail=f"{url} lets {settings.asterisk.username} in")
            if response.status in {401, 403}:
                mend = "compare [asterisk] username and password with ari.conf"
                detail = f"{url} refused our login (HTTP {response.status})"
                return None, Check(name, ok=False, detail=detail, mend=mend)
            mend = "is this Asterisk's HTTP port, and is res_ari loaded?"
            return None, Check(name, ok=False, detail=f"{url} answered HTTP {response.status}", mend=mend)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        mend = "start it with `sipagent asterisk up`, or correct [asterisk] host and http_port"
        return None, Check(name, ok=False, detail=f"nobody at {url}: {error or type(error).__name__}", mend=mend)


def _version(text: str) -> Check:
    recent = asterisk_version(f"Asterisk {text}") >= MINIMUM
    mend = "" if recent else f"install Asterisk {MINIMUM[0]}.{MINIMUM[1]} or later, or use `sipagent asterisk up`"
    return Check("Asterisk version", ok=recent, detail=text, mend=mend)


async def _modules(http: aiohttp.ClientSession, settings: Settings) -> Check:
    async with http.get(f"{settings.asterisk.url}/ari/asterisk/modules") as response:
        modules = await response.json() if response.status == 200 else []
    running = {module["name"] for module in modules if module.get("status") == "Running"}
    missing = [name for name in MODULES if name not in running]
    if missing:
        mend = "load them in modules.conf (asterisk-conf/ shows a list that works)"
        return Check("modules", ok=False, detail=f"not running: {', '.join(missing)}", mend=mend)
    return Check("modules", ok=True, detail=f"all {len(MODULES)} that we need are running")


def _rtp_ports(settings: Settings) -> Check:
    """Bind the first and the last port and send a packet from one to the other."""
    address, ports = settings.media.address, settings.media.ports
    with contextlib.ExitStack() as stack:
        first, last = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        try:
            first.bind((address, ports[0]))
            last.bind((address, ports[1]))
            last.settimeout(1.0)
            first.sendto(b"sipagent", (address, ports[1]))
            last.recv(16)
        except OSError as error:
            mend = "choose [media] ports that are free (is sipagent running?) and an address of this machine"
            return Check("RTP ports", ok=False, detail=f"{address} {ports[0]}-{ports[1]}: {error}", mend=mend)
    return Check("RTP ports", ok=True, detail=f"{address} {ports[0]}-{ports[1]}: free, and a packet crosses")


def _compiled() -> Check:
    if media.__file__.endswith(".py"):
        mend = "install a C compiler and Python's headers (Debian: gcc, python3-dev), then sipagent again"
        return Check("compiled", ok=True, detail=f"not, so a call costs more of the processor: {mend}")
    return Check("compiled", ok=True, detail="what every packet passes is machine code")


def _undisturbed(settings: Settings) -> Check:
    """What workers of this user may have of `[worker]`, tried in a thread that takes priority and core away with it."""
    name, numbers = "undisturbed", range(1, max(len(settings.worker.cpus), 1) + 1)
    with ThreadPoolExecutor(1) as thread:
        tried = thread.map(lambda number: tuning.settle(settings.worker, number), numbers)
        refusals = dict.fromkeys(refusal for refused in tried for refusal in refused)
    refused = "; ".join(f"{refusal.key}: {refusal.error}" for refusal in refusals)
    mend = "; ".join(dict.fromkeys(refusal.mend for refusal in refusals))
    if any(refusal.asked for refusal in refusals):
        return Check(name, ok=False, detail=refused, mend=mend)
    if refused:
        return Check(name, ok=True, detail=f"as other work of this machine ({refused}): {mend}")
    priority = settings.worker.realtime_priority
    return Check(name, ok=True, detail=f"workers may have priority {priority}" if priority else "as other work")


async def _realtime(settings: Settings) -> AsyncIterator[Check]:
    realtime, name = settings.realtime, "realtime"
    key = realtime.api_key.get_secret_value()
    if not key and not realtime.url:
        mend = "set XAI_API_KEY, or try without one: `sipagent run --standin`"
        yield Check(name, ok=False, detail="no key for xAI", mend=mend)
        return
    dialect = DIALECTS[realtime.dialect]
    core = session.RealtimeSession(
        SessionConfig(Law.ULAW, realtime.model, realtime.voice, "Say nothing.", dialect=dialect)
    )
    ready: asyncio.Future[session.Ready] = asyncio.get_running_loop().create_future()

    def on_event(event: session.SessionEvent) -> None:
        if isinstance(event, session.Ready) and not ready.done():
            ready.set_result(event)
        elif isinstance(event, session.Fatal) and not ready.done():
            ready.set_exception(RealtimeError(str(event)))

    opened = time.monotonic()
    socket_: client.RealtimeClient | None = None
    try:
        async with asyncio.timeout(SESSION_TIMEOUT_S):
            socket_ = await client.connect(
                realtime.endpoint,
                core,
                on_event,
                api_key=key,
                library=realtime.websocket,
                timeout_s=realtime.connect_timeout_s,
            )
            answer = await ready
        took_ms = (time.monotonic() - opened) * 1000
        detail = f"{realtime.endpoint} answers in {took_ms:.0f} ms; the model is {answer.model or 'not named'}"
        yield Check(name, ok=True, detail=detail)
        yield _model_is_asked_for(realtime.model, answer.model)
        yield await _clock(realtime.endpoint)
    except RealtimeRefused as error:
        key_trouble = error.status in {400, 401, 403}
        mend = "check the key and its rights" if key_trouble else "the quota is used up, or xAI is away"
        yield Check(name, ok=False, detail=str(error), mend=mend)
    except (RealtimeError, TimeoutError) as error:
        other = "websockets" if realtime.websocket == "picows" else "picows"
        mend = (
            f'check [realtime] url and the way out of this network (TCP 443), or try [realtime] websocket = "{other}"'
        )
        yield Check(name, ok=False, detail=str(error) or "no session in time", mend=mend)
    finally:
        if socket_ is not None:
            await socket_.aclose()


def _model_is_asked_for(wanted: str, got: str) -> Check:
    honoured = not wanted or wanted.endswith("-latest") or wanted == got
    mend = "" if honoured else "xAI serves another model without a word when it does not know the name"
    return Check("model", ok=honoured, detail=f"asked for {wanted}, {got or 'unnamed'} answers", mend=mend)


async def _clock(endpoint: str) -> Check:
    """Our clock against the Date header of the model's host: logs and records of two clocks do not join."""
    host = urlsplit(endpoint)
    url = f"{'https' if host.scheme == 'wss' else 'http'}://{host.netloc}/"
    timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url, allow_redirects=False) as response:
            skew_s = time.time() - parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
        return Check("clock", ok=False, detail=f"cannot be compared: {error}", mend="check that NTP runs")
    ok = abs(skew_s) <= MAX_CLOCK_SKEW_S
    mend = "" if ok else "let NTP set the clock"
    return Check("clock", ok=ok, detail=f"{skew_s:+.1f} s against {host.netloc}", mend=mend)
