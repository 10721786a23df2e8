"""The node's own knobs: the switch, the voice model, media, agents, processes. Policy has files of its own."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sipagent.config.base import (
    Port,
    PortRange,
    Section,
    is_loopback,
    is_private,
)
from sipagent.config.destinations import Destination
from sipagent.config.limits import Waiting
from sipagent.config.trunks import Network

DialectName = Literal["xai", "openai"]
WebSocketName = Literal["picows", "websockets"]
MAIN = "main"
"""The name of the endpoint that [realtime] itself describes."""


class VadSettings(Section):
    """The model's voice detector (xAI's `turn_detection`)."""

    threshold: float = Field(0.7, ge=0.1, le=0.9)
    silence_duration_ms: int = Field(500, ge=0, le=10000)
    """How long a caller must pause before the agent answers: lower is quicker and cuts people off."""
    prefix_padding_ms: int = Field(333, ge=0, le=10000)


def _needs_tls(url: str) -> str:
    if url.startswith("ws://") and not re.match(r"ws://(127\.[0-9.]+|localhost|\[::1\])(:\d+)?(/|$)", url):
        raise ValueError("a key must not cross a network in clear: use wss:// (ws:// only on loopback)")
    return url


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to try, and by which name it is known."""

    name: str
    url: str
    api_key: SecretStr
    dialect: DialectName = "xai"
    model: str = ""
    """Empty: the one of [realtime]; so is the voice."""
    voice: str = ""
    transcription: str = ""


class Fallback(Section):
    """[realtime.fallbacks.NAME]: one more server, for when those before it give no session."""

    dialect: DialectName = "xai"
    """xai, or openai: OpenAI's Realtime API, or any server that speaks as it does."""
    url: Annotated[str, Field(pattern=r"^wss?://.+$"), AfterValidator(_needs_tls)]
    api_key: SecretStr = SecretStr("")
    """Better from SIPAGENT_REALTIME__FALLBACKS__NAME__API_KEY or a secrets file."""
    model: str = ""
    """Empty: the one of [realtime]. OpenAI's dialect needs one of its own: "gpt-realtime-2.1"."""
    voice: str = ""
    """Of all agents while they speak from here. Empty: the agent's own; OpenAI, which has others: marin."""
    transcription: str = ""
    """Model that writes down what callers say. Empty: grok-transcribe; in OpenAI's dialect gpt-transcribe."""
    session_quota: int = Field(0, ge=0)
    """As of [realtime]."""

    @model_validator(mode="after")
    def _has_its_own_model(self) -> Fallback:
        if self.dialect == "openai" and not self.model:
            raise ValueError('model: OpenAI does not know xAI\'s models: name one of its own, e.g. "gpt-realtime-2.1"')
        return self


class RealtimeSettings(Section):
    """The voice model."""

    dialect: DialectName = "xai"
    """xai, or openai: OpenAI's Realtime API, or whoever speaks as it does; `model` and `voice` are its own then."""
    url: str = Field("", pattern=r"^(wss?://.+)?$")
    """Empty: xAI itself, or its `region`; or OpenAI itself. Any server of the same wire may stand here."""
    region: str = Field("", pattern=r"^[a-z0-9-]*$")
    """xAI's host of a region, e.g. "us-east-1"; empty for the global one."""
    model: str = "grok-voice-latest"
    api_key: SecretStr = SecretStr("")
    """Better from XAI_API_KEY or a secrets file than from here."""
    voice: str = "eve"
    transcription: str = ""
    """Model that writes down what callers say. Empty: grok-transcribe; in OpenAI's dialect gpt-transcribe."""
    reasoning: Literal["none", "high"] = "none"
    connect_timeout_s: float = Field(10.0, ge=0.5, le=60)
    """TCP, TLS and upgrade; connect to ready usually takes 1.0 to 1.4 s. While another server of `fallbacks` is left to
    ask, it is asked after 3 s at most."""
    price_per_minute: float = Field(0.0, ge=0)
    """Of session time, in any currency: for the cost that is shown, which is an estimate. 0: none is shown."""
    session_quota: int = Field(0, ge=0)
    """Sessions that the provider gives your team at once; callers beyond it wait, or go to the agent's `fallback`.
    0: not known, nobody waits."""
    standby: int = Field(0, ge=0, le=50)
    """Sessions that each worker keeps open at the first endpoint, for its next callers: they hear the agent a TCP, TLS
    and session handshake earlier. In manual mode, which xAI does not bill while nobody talks. They count for
    `session_quota`, and are closed for who would have to wait."""
    websocket: WebSocketName = "picows"
    """The library that speaks WebSocket with every endpoint. "websockets" does the same for some 12 % more CPU a call:
    for when the other has a fault. There is no change from one to the other by itself."""
    waiting: Waiting = Waiting()
    vad: VadSettings = VadSettings()
    fallbacks: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")], Fallback] = {}
    """More servers, tried in this order."""

    @property
    def endpoint(self) -> str:
        """The WebSocket address to dial."""
        if self.url:
            return self.url
        if self.dialect == "openai":
            return "wss://api.openai.com/v1/realtime"
        return f"wss://{self.region + '.' if self.region else ''}api.x.ai/v1/realtime"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """In the order in which they are tried; the first is named `main`."""
        first = Endpoint(MAIN, self.endpoint, self.api_key, self.dialect, transcription=self.transcription)
        more = (
            Endpoint(
                name, one.url, one.api_key, one.dialect, one.model,
                one.voice or ("marin" if one.dialect == "openai" else ""), one.transcription,
            )
            for name, one in self.fallbacks.items()
        )  # fmt: skip
        return (first, *more)

    @property
    def quotas(self) -> dict[str, int]:
        """Sessions at once, by endpoint, in their order; those without a quota are not here."""
        quotas = {MAIN: self.session_quota} | {name: one.session_quota for name, one in self.fallbacks.items()}
        return {name: quota for name, quota in quotas.items() if quota}

    @field_validator("url")
    @classmethod
    def _key_needs_tls(cls, value: str) -> str:
        return _needs_tls(value)

    @model_validator(mode="after")
    def _names_are_the_dialects(self) -> RealtimeSettings:
        if self.dialect == "openai" and not {"model", "voice"} <= self.model_fields_set:
            raise ValueError(
                "dialect: OpenAI does not know xAI's models and voices: name its own beside it, e.g. "
                'model = "gpt-realtime-2.1" and voice = "marin"'
            )
        return self


class MediaSettings(Section):
    """The workers' RTP, towards Asterisk."""

    address: str = "127.0.0.1"
    """Where workers hear Asterisk's ExternalMedia. It has no SRTP: loopback or a private net only."""
    ports: PortRange = (20000, 21999)
    """Even ports, one a call, shared out evenly among the workers."""
    order_buffer_ms: int = Field(40, ge=0, le=200)
    """Longest wait for a frame of the caller that is missing, before it counts as lost. A line that loses
    nothing waits for nothing; 0 never waits, and what comes out of order is dropped."""

    @field_validator("address")
    @classmethod
    def _not_for_all(cls, value: str) -> str:
        if not is_loopback(value) and not is_private(value):
            raise ValueError("speech crosses it in clear: an address of loopback or of a private network is needed")
        return value


class BargeInSettings(Section):
    """When a caller who speaks over the agent is let in (`sipagent/barge_in.py` tells how)."""

    enabled: bool = True
    """False: only the model's own voice detector interrupts, a network round trip later."""
    onset_ms: int = Field(40, ge=10, le=500)
    """Sound of this length pauses the agent."""
    confirm_ms: int = Field(200, ge=0, le=3000)
    """Speech of this length cuts the answer even before the model has noticed; 0: only the model's word cuts."""
    above_noise_db: float = Field(12, ge=3, le=40)
    """How far speech must stand out of the noise of the line: lower it for soft voices, raise it for loud halls."""
    echo_loss_db: float = Field(12, ge=0, le=60)
    """How much weaker the agent's echo comes back at least; a line with a stronger echo is learnt in the call."""


class WorkerSettings(Section):
    """What keeps a worker's 20 ms clock undisturbed (`sipagent/tuning.py`)."""

    nice: int = Field(0, ge=-20, le=19)
    """-10 lets calls go before other work of the machine; below 0 needs CAP_SYS_NICE (systemd: Nice=-10)."""
    realtime_priority: int = Field(10, ge=0, le=90)
    """Workers are scheduled round-robin before everything of normal priority (SCHED_RR), and so should be Asterisk
    ([asterisk] realtime_priority), where that is permitted: RLIMIT_RTPRIO (systemd: LimitRTPRIO=90) or CAP_SYS_NICE.
    0: as other work."""
    cpus: tuple[int, ...] = ()
    """Worker N runs on the Nth of these cores (in turn) and nowhere else; empty: the kernel decides."""
    cpu_dma_latency_us: int | None = Field(None, ge=0, le=10_000)
    """While calls are up, no core of the machine sleeps so deeply that it needs longer to wake; 0: none sleeps at all.
    More calls for power: it pays where workers have cores of their own, on virtual machines most. Needs the right to
    write /dev/cpu_dma_latency. None: the kernel decides."""


class Agent(Section):
    """One voice: what it is told, how it sounds, how patient it is."""

    instructions: str = ""
    instructions_file: Path | None = None
    """Long prompts live in a file beside sipagent.toml."""
    voice: str = ""
    """Empty: [realtime] voice."""
    greeting: str = "Hello, how can I help you?"
    """Spoken word for word when the call is answered; empty lets the caller speak first."""
    language: str = "en"
    """Hint for the transcription; Spanish and Portuguese need their region (es-MX)."""
    no_input_s: float = Field(10.0, ge=2, le=120)
    """Silence of both sides before the agent asks again."""
    reprompts: tuple[str, ...] = ("Are you still there?", "I cannot hear you. Is there anything I can do for you?")
    goodbye: str = "I will hang up now. Please call again any time. Goodbye."
    max_duration_s: float = Field(3600, ge=10, le=7200)
    """xAI ends a session after 120 minutes."""
    closing: str = "We have reached the longest time a call may take. Please call again. Goodbye."
    barge_in: BargeInSettings = BargeInSettings()
    transfers: tuple[str, ...] = ()
    """Names of [transfers.NAME] that this agent may send callers to."""
    fallback: Destination | None = None
    """Where the caller goes when the voice model cannot be had, or is lost for good: a queue, a person, a mailbox.
    None: the apology, and the end."""
    may_hang_up: bool = True
    """The agent ends the call itself when everything has been said."""
    may_hold: bool = False
    """Put the caller on hold, with music, for a while."""
    may_send_dtmf: bool = False
    """Press keys: for calls out that reach a menu."""
    digits: tuple[str, ...] = ()
    """Names of [digits.NAME] that callers may key in; nobody sees them but the tools, as {NAME}."""
    messages: tuple[str, ...] = ()
    """Mailboxes that this agent takes messages for."""
    may_schedule_callbacks: bool = False
    """Promise to call back: queued and made by [outbound], to numbers that dial_policy.allow lists."""
    tools: tuple[str, ...] = ()
    """What it may use, by the names of [tools]."""
    record: bool = False
    """Calls that come to this agent are recorded, from here on and after the announcement of [recording]."""

    @model_validator(mode="after")
    def _one_source_of_instructions(self) -> Agent:
        if bool(self.instructions) == (self.instructions_file is not None):
            raise ValueError("give either instructions or instructions_file")
        return self


class CallSettings(Section):
    """What holds for every call."""

    answer_within_s: float = Field(4.0, ge=0, le=30)
    """Ring while media and model connect; answer after this long even if the model is late."""
    apology: str = "We are sorry, your call cannot be served at the moment. Please try again later."
    one_moment: str = "One moment, please."
    not_heard: str = "I am sorry, I cannot hear you. Please call again."
    """What a caller is told of whom no sound ever came."""
    handover: str = "One moment please, I will connect you."
    """What the caller hears on their way to an agent's `fallback`."""
    warm_question: str = "You have a call. To take it, press 1. To decline, press 2."
    """What a colleague hears before a warm transfer when the model cannot be had."""
    operator: Destination | None = None
    """What the key "operator" of a menu means."""
    language: str = "en"
    """What callers are spoken to in, until a menu changes it."""
    dial_within_s: float = Field(30.0, ge=1, le=300)
    """How long a `dial:NUMBER@TRUNK` rings."""


class RecordingSettings(Section):
    """What is kept of recorded calls: those of routes and agents with `record = true` (docs/recording.md)."""

    folder: str = ""
    """Empty: `recordings` in the run folder."""
    format: Literal["wav", "opus"] = "wav"
    """wav: every sample as it was, 115 MB an hour. opus: 10 to 20 MB, and seconds of a core to make it."""
    keep_days: int = Field(30, ge=0, le=36500)
    """Then they are deleted; 0: when somebody does it."""
    announcement: str = "This call is recorded."
    """Heard to its end before the first sample is written. Empty: the operator has told the caller in another way."""
    key: SecretStr = SecretStr("")
    """32 bytes in base64 or hex encrypt what is on the disk; better from SIPAGENT_RECORDING__KEY or a secrets file."""

    @field_validator("key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and len(_key_bytes(value.get_secret_value())) != 32:
            raise ValueError("32 bytes in base64 or hex are needed; openssl rand -base64 32 makes them")
        return value

    @property
    def key_bytes(self) -> bytes:
        """The key, or nothing."""
        return _key_bytes(self.key.get_secret_value())


def _key_bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if re.fullmatch(r"[0-9a-fA-F]{64}", text) else base64.b64decode(text, validate=True)
    except ValueError:
        return b""


class ControlSettings(Section):
    """The control process and its API (docs/security.md)."""

    host: str = Field("127.0.0.1", pattern=r"^(localhost|[0-9.]+|[0-9a-fA-F:.]+)$")
    """An address of this machine. Beyond loopback: with `login`, and with a `certificate` or named `networks`."""
    port: Port = 8090
    login: Literal["off", "tokens"] = "off"
    """off: every program of this machine may do everything. tokens: only who has one (`sipagent token create`)."""
    networks: tuple[Network, ...] = ()
    """Who may come in, besides this machine: ["10.1.2.0/24"]. Empty: whoever reaches `host`."""
    certificate: str = ""
    """PEM file for TLS 1.2 and later: ours and those between it and the root; read anew by a reload."""
    private_key: str = ""
    """PEM file, for our user only."""
    requests_per_s: float = Field(50.0, ge=1, le=10000)
    """Of one token; twice as many at once. More get 429."""
    connections: int = Field(256, ge=8, le=10000)
    """Open to the API at once, by the network; one more closes the one that has been idle longest. The Unix socket of
    the command line has as many of its own."""
    keep_audit_days: int = Field(365, ge=1, le=36500)
    """Who did what through the API, in `audit` in the run folder."""
    drain_s: float = Field(0.0, ge=0, le=7200)
    """SIGTERM: no new calls, and this long for those that are up; then they go on to `drain_to`. Ctrl-C never waits."""
    drain_to: Destination | None = None
    """Who takes the calls that are still up then, after [call] handover: a queue, a phone or a mailbox, which Asterisk
    keeps when we are gone. Empty: they are told `goodbye`."""
    goodbye: str = "We are sorry, we have to end this call now. Please call again. Goodbye."
    """What callers hear who cannot stay."""
    workers: int = Field(1, ge=0, le=64)
    """One per core that calls may use; 0 runs everything in one process, for debugging."""

    @field_validator("drain_to", mode="before")
    @classmethod
    def _nobody(cls, value: object) -> object:
        return value or None  # empty in the environment

    @model_validator(mode="after")
    def _closed(self) -> ControlSettings:
        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("certificate: TLS needs certificate and private_key")
        for key in ("certificate", "private_key"):
            if getattr(self, key) and not Path(getattr(self, key)).is_file():
                raise ValueError(f"{key}: there is no file {getattr(self, key)}")
        if is_loopback(self.host):
            return self
        if self.login == "off":
            raise ValueError(
                f'login: "tokens" is needed, since {self.host} is not loopback: whoever reaches the API makes calls '
                "on your bill"
            )
        if not self.certificate and not (self.networks and all(map(is_private, self.networks))):
            raise ValueError(
                f"certificate: TLS is needed (certificate and private_key), since {self.host} is not loopback and "
                "tokens must not cross a network in clear; or name private networks that may come in: "
                'networks = ["10.1.2.0/24"]'
            )
        return self

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


class RecordsSettings(Section):
    """What is kept of calls, where, and for how long."""

    enabled: bool = True
    url: str = Field("", pattern=r"^(sqlite\+aiosqlite:///.+|postgresql\+psycopg://.*)?$")
    """Empty: SQLite, in `records.db` in the run folder."""
    password: SecretStr = SecretStr("")
    """Of the database's user: better from a secrets file than in the URL."""
    keep_days: int = Field(365, ge=1)
    """Calls and all that hangs on them."""
    keep_transcripts_days: int = Field(30, ge=0)
    """What was said, the tools' arguments and results, and deliveries of webhooks, which hold both."""
    keep_events_days: int = Field(30, ge=0)
    """The events that a call's timeline is drawn from."""
    redact_numbers: Literal["keep", "last_two", "none"] = "keep"
    """Phone numbers whole, their last two digits, or not at all."""
    redact_transcripts: Literal["keep", "drop"] = "keep"
    """drop: what was said is never written. Card numbers never are."""
    spool_mb: int = Field(256, ge=1)
    """Of disk, for events that wait for a database that is away: some million."""

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if re.match(r"[^/]*//[^/@]*:[^/]*@", value) or "password=" in value:
            raise ValueError("url: no password in it, since it is shown: [records] password is for that")
        return value


class StandinSettings(Section):
    """The scripted agent that speaks when there is no key."""

    port: Port = 8091
    """On loopback."""


class LogSettings(Section):
    """Logs go to stdout. No call waits for a line: those that nobody takes in time are dropped and counted."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"
    """auto: text on a terminal, JSON otherwise."""
    show_numbers: bool = False
    """Phone numbers whole instead of their last two digits."""
    show_transcripts: bool = False
    """What was said, word for word, a line for each side's words; without it there are no such lines."""
    core_dumps: bool = False
    """true: a process that crashes may leave its memory on the disk, keys and talks in it: to debug only."""
