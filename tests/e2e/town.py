"""Three Asterisks: ours with its trunks, one that plays an enterprise PBX, one that plays a carrier.

All three run from `asterisk-conf/`; the two others' side of the trunk is written here by hand, as their admins would.
Each has a loopback address of its own, since it is by their address that trunks are known: 127.0.0.2 the PBX,
127.0.0.3 the carrier, 127.0.0.4 is us, and 127.0.0.1 every phone and every stranger.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import trustme

from sipagent.asterisk import trunks
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import Law
from sipagent.config import AsteriskSettings, Trunk
from sipagent.phone.phone import Phone, PhoneConfig
from sipagent.standin.pattern import pattern
from tests.asterisk.fixtures import free_port
from tests.asterisk.fixtures import test_config as make_config
from tests.waiting import until

PBX, CARRIER, US = "127.0.0.2", "127.0.0.3", "127.0.0.4"
DID, SECOND_DID = "+442079460123", "+442079460124"
PASSWORD = 'p;w\\;x[y]=>#"z'
"""What a configuration file might trip over; both sides must read the same."""
DESK_PASSWORD = "a-long-desk-secret"

SUBSCRIBER = """
[subscriber]
type = endpoint
context = from-phones
disallow = all
allow = ulaw,alaw
auth = subscriber-auth
direct_media = no
media_address = {address}
bind_rtp_to_media_address = yes

[subscriber-auth]
type = auth
auth_type = digest
username = subscriber
password = subscriber
"""
"""A phone of theirs; media from the address it is told of, as it hears nobody else."""

PBX_SIP = """
[agents]
type = endpoint
transport = transport-tls
context = from-agents
disallow = all
allow = ulaw
aors = agents
direct_media = no
media_encryption = sdes
media_address = 127.0.0.2
bind_rtp_to_media_address = yes
send_pai = yes

[agents]
type = aor
contact = sip:127.0.0.4:{tls_port}\\;transport=tls

[agents-by-address]
type = identify
endpoint = agents
match = 127.0.0.4

[bare]
type = endpoint
transport = transport-udp
context = from-agents
disallow = all
allow = ulaw
aors = bare
media_encryption = sdes

[bare]
type = aor
contact = sip:127.0.0.4:{sip_port}

[clear]
type = endpoint
transport = transport-tls
context = from-agents
disallow = all
allow = ulaw
aors = agents
"""
PBX_DIALPLAN = """
[from-phones](+)
exten => _[45]XX,1,Dial(PJSIP/${EXTEN}@agents,20)
 same => n,Hangup(${HANGUPCAUSE})
exten => 301,1,Set(REDIRECTING(from-num,i)=301)
 same => n,Set(REDIRECTING(count,i)=1)
 same => n,Set(REDIRECTING(reason,i)=unconditional)
 same => n,Dial(PJSIP/401@agents,20)
exten => 302,1,Dial(PJSIP/402@clear,20)
exten => 305,1,Dial(PJSIP/405@bare,20)
 same => n,Hangup(${HANGUPCAUSE})
exten => 303,1,Dial(PJSIP/403@agents,20,b(two-hops^s^1))
exten => 304,1,Dial(PJSIP/401@agents,20,b(traced^s^1))

[traced]
exten => s,1,Set(PJSIP_HEADER(add,X-Traceparent)=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01)
 same => n,Return()

[two-hops]
exten => s,1,Set(PJSIP_HEADER(add,Diversion)="B, Bob: x" <sip:305@127.0.0.2>\\;reason=no-answer)
 same => n,Set(PJSIP_HEADER(add,Diversion)=<sip:304@127.0.0.2\\;user=phone>\\;reason=unconditional)
 same => n,Return()

[from-agents]
; An admin's slip: what we send there comes back to us.
exten => 404,1,Dial(PJSIP/404@agents,20)
exten => _2XX,1,Answer()
 same => n,Echo()
"""
CARRIER_SIP = """
[acme]
type = endpoint
transport = transport-udp
context = from-acme
disallow = all
allow = alaw
aors = acme
auth = acme-auth
identify_by = auth_username,username
direct_media = no
rtp_symmetric = yes

[acme]
type = aor
max_contacts = 1
remove_existing = yes

[acme-auth]
type = auth
auth_type = digest
username = acme
password = {password}
"""
CARRIER_DIALPLAN = """
[from-phones](+)
exten => _44X.,1,Goto(to-acme,${EXTEN},1)
exten => _+44X.,1,Goto(to-acme,${EXTEN},1)

[to-acme]
exten => _[+0-9].,1,Dial(PJSIP/${EXTEN}@acme,20)
 same => n,Hangup(${HANGUPCAUSE})

[from-acme]
exten => _X.,1,Answer()
 same => n,Echo()
"""


@dataclass
class Agents:
    """A worker's place at our switch: takes each call, answers it, and gives the caller back to itself (echo)."""

    switch: Asterisk
    session: aiohttp.ClientSession
    starts: list[dict[str, Any]] = field(default_factory=list)

    async def serve(self, events: aiohttp.ClientWebSocketResponse) -> None:
        async for message in events:
            event = json.loads(message.data)
            if event["type"] == "StasisStart" and event["args"][:1] == ["in"]:
                event["caller"] = event["channel"]["caller"]["number"]
                channel = f"channels/{event['channel']['id']}"
                with contextlib.suppress(aiohttp.ClientResponseError):  # the caller has gone meanwhile
                    await self.request("POST", f"{channel}/answer")
                    secure = await self.request("GET", f"{channel}/variable?variable=CHANNEL(rtp,secure)")
                    event["secure"] = secure["value"]
                    await self.request("POST", f"{channel}/continue?context=echo&extension=s&priority=1")
                self.starts.append(event)

    async def request(self, method: str, path: str) -> Any:
        async with self.session.request(method, f"{self.switch.config.ari_url}/{path}") as answer:
            answer.raise_for_status()
            return await answer.json() if answer.status == 200 else None

    async def next_start(self) -> dict[str, Any]:
        await until(lambda: bool(self.starts), "the call to reach a worker")
        return self.starts.pop(0)


class Impostor:
    """A TLS server whose certificate nobody vouches for, where a PBX should be."""

    def __init__(self, ca: trustme.CA) -> None:
        self.heard = b""
        self.visitors = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(self._context)

    async def start(self) -> int:
        """The port it listens on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(self._context)
            self.heard += await reader.read(4096)
        except OSError:
            pass  # broken off within the handshake; TLS 1.2 tells it only afterwards
        finally:
            self.visitors += 1
            writer.close()

    def close(self) -> None:
        self._server.close()


@dataclass
class Town:
    """Our switch with its trunks, the PBX and the carrier on their side of them."""

    switch: Asterisk
    pbx: Asterisk
    carrier: Asterisk
    sipp: Sequence[str]
    tls: AsteriskSettings
    """Our own switch's TLS."""
    trunks: dict[str, Trunk]
    impostor: Impostor
    agents: Agents = field(init=False)
    """Set by the fixture `town`; with `switches` alone, workers may come."""

    def phone(self, at: Asterisk, law: Law = Law.ULAW) -> Phone:
        """A telephone of the PBX, or a subscriber of the carrier."""
        login = PhoneConfig(f"{at.config.sip_host}:{at.config.sip_port}", "subscriber", "subscriber", law)
        return Phone(login, self.sipp)

    @property
    def security_log(self) -> str:
        return (self.switch.config.run_dir / "log/security.log").read_text(errors="replace")

    async def quiet(self) -> None:
        """No call is left anywhere."""
        for server in (self.switch, self.pbx, self.carrier):

            async def no_channels(server: Asterisk = server) -> bool:
                return "0 active channels" in await server.cli("core show channels")

            await until(no_channels, f"channels of {server.config.sip_host} gone")
        self.agents.starts.clear()


def our_trunks(pbx_tls_port: int = 1, carrier_port: int = 1, impostor_port: int = 1) -> dict[str, Trunk]:
    login = {"user": "acme", "password": PASSWORD}
    tables: dict[str, dict[str, Any]] = {
        "office": {"preset": "pbx", "hosts": [f"{PBX}:{pbx_tls_port}"], "networks": [PBX], "numbers": ["_4XX"],
                   "transport": "tls", "srtp": "required", "codecs": ["ulaw"], "qualify": 1},
        "carrier": {"preset": "generic-registration", "hosts": [f"{CARRIER}:{carrier_port}"], "networks": [CARRIER],
                    "auth": login, "numbers": [DID, SECOND_DID], "region": "GB", "codecs": ["alaw"], "channels": 2},
        "wrong": {"preset": "generic-registration", "hosts": [f"{CARRIER}:{carrier_port}"],
                  "auth": {"user": "acme", "password": "not-the-password"}, "qualify": 0},
        "fenced": {"preset": "phone", "auth": {"password": DESK_PASSWORD}, "networks": ["127.0.0.9"]},
        "impostor": {"preset": "pbx", "hosts": [f"127.0.0.1:{impostor_port}"], "transport": "tls", "qualify": 1,
                     "networks": ["127.0.0.7"]},
        "sealed": {"preset": "phone", "transport": "tls", "srtp": "required", "auth": {"password": DESK_PASSWORD}},
        "unsealed": {"preset": "phone", "transport": "tls", "srtp": "required", "auth": {"password": DESK_PASSWORD}},
        "tab": {"preset": "webrtc", "auth": {"password": DESK_PASSWORD}, "numbers": ["_4XX"]},
        "desk": {"preset": "phone", "auth": {"password": DESK_PASSWORD}, "numbers": ["_4XX"]},
    }  # fmt: skip
    return {name: Trunk(**table) for name, table in tables.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def switches(root: Root, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name in (US, PBX):
        ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")

    def tls(address: str) -> AsteriskSettings:
        own = str(folder / f"{address}.pem")
        return AsteriskSettings(sip_address=address, tls_port=free_port(), tls_certificate=own, tls_key=own,
                                tls_ca=str(folder / "ca.pem"))  # fmt: skip

    ours, theirs = tls(US), tls(PBX)
    carrier_port, our_port = free_port(), free_port()
    pbx_files = {"transports.conf": trunks.transports(theirs, {}), "dialplan.d/pbx.conf": PBX_DIALPLAN,
                 "trunks.d/subscriber.conf": SUBSCRIBER.format(address=PBX),
                 "trunks.d/pbx.conf": PBX_SIP.format(tls_port=ours.tls_port, sip_port=our_port)}  # fmt: skip
    carrier_files = {"trunks.d/subscriber.conf": SUBSCRIBER.format(address=CARRIER),
                     "dialplan.d/carrier.conf": CARRIER_DIALPLAN,
                     "trunks.d/carrier.conf": CARRIER_SIP.format(password=PASSWORD.replace(";", "\\;"))}  # fmt: skip
    impostor = Impostor(trustme.CA())
    our = our_trunks(theirs.tls_port, carrier_port, await impostor.start())
    our_files = trunks.files(ours, our)
    async with AsyncExitStack() as stack:
        stack.callback(impostor.close)
        start = stack.enter_async_context
        pbx = await start(
            Asterisk(make_config(folder / "pbx", sip_host=PBX, files=pbx_files, tls_port=theirs.tls_port), root)
        )
        carrier = await start(Asterisk(make_config(folder / "carrier", sip_host=CARRIER, sip_port=carrier_port,
                                                   files=carrier_files), root))  # fmt: skip
        switch = await start(
            Asterisk(
                make_config(
                    folder / "switch", sip_host=US, sip_port=our_port, files=our_files, tls_port=ours.tls_port, ice=True
                ),
                root,
            )
        )
        yield Town(switch, pbx, carrier, root.command("sipp"), ours, our, impostor)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(switches: Town) -> AsyncIterator[Town]:
    config = switches.switch.config
    login = {"Authorization": aiohttp.encode_basic_auth(config.ari_user, config.ari_password)}
    url = f"{config.ari_url}/events?app={config.app}-1"
    async with aiohttp.ClientSession(headers=login) as session, session.ws_connect(url) as events:
        switches.agents = Agents(switches.switch, session)
        serving = asyncio.create_task(switches.agents.serve(events))
        yield switches
        serving.cancel()


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def tidy(town: Town) -> AsyncIterator[None]:
    """A test that failed leaves nothing behind that would fail the next one."""
    yield
    await town.switch.cli("channel request hangup all")
    town.agents.starts.clear()


async def hears_itself(phone: Phone) -> None:
    """Audio both ways, bit by bit: what the phone says comes back, but for what was said before the echo was there."""
    said = pattern(phone.config.law, 7, 0, 16000)
    await phone.say(said)
    await until(lambda: said[8000:15200] in phone.media.received_payload(), "the echo")


async def call_out(town: Town, number: str, trunk: str) -> str:
    """Originate as a worker does; the channel's id once the far end has answered."""
    target = f"PJSIP/{number.replace('+', '%2B')}@{trunk}&callerId=442079460123"
    channel = await town.agents.request("POST", f"channels?endpoint={target}&context=echo&extension=s&priority=1")
    path = f"channels/{channel['id']}"

    async def up() -> bool:
        return bool((await town.agents.request("GET", path))["state"] == "Up")

    await until(up, "the far end to answer")
    if trunk == "office":
        secure = await town.agents.request("GET", f"{path}/variable?variable=CHANNEL(rtp,secure)")
        assert secure["value"] == "1"
        await town.agents.request("DELETE", path)
    return str(channel["id"])
