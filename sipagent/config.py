"""Every knob, its default and its reason: one frozen object, made at start and handed down.

`sipagent.toml` first, the environment over it (``SIPAGENT_REALTIME__MODEL=...``), secrets from variables or
from files named ``section__key`` in secrets folders (``SIPAGENT_SECRETS_DIR`` over systemd's
``CREDENTIALS_DIRECTORY`` over ``secrets/`` in the run folder). TOML because telephony text breaks YAML:
there `+1555` is a number, `22:30` is 1350 and `*98` an error. Nothing else in the program reads the
environment. What is wrong is a ConfigError that names file, line, key and mend.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sipagent.errors import ConfigError

Port = Annotated[int, Field(ge=1, le=65535)]
PortRange = tuple[Port, Port]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class AsteriskSettings(_Section):
    """How we reach Asterisk, and what `sipagent asterisk up` starts."""

    host: str = "127.0.0.1"
    """Where ARI listens. Loopback: whoever reaches ARI owns the switch."""
    http_port: Port = 8088
    username: str = "sipagent"
    password: SecretStr = SecretStr("")
    app: str = Field("sipagent", pattern=r"^[A-Za-z0-9_-]+$")
    """Worker N registers `APP-N`; the dialplan tries them."""
    sip_address: str = "127.0.0.1"
    """Where `asterisk up` listens for SIP; 0.0.0.0 to be called from other machines."""
    sip_port: Port = 5060
    rtp_ports: PortRange = (10000, 19999)
    """Asterisk's own RTP, four ports a call."""
    phone_user: str = "phone"
    phone_password: SecretStr = SecretStr("")
    """The softphone account that `make run` prints."""

    @property
    def url(self) -> str:
        """Base address of Asterisk's HTTP server."""
        return f"http://{self.host}:{self.http_port}"


class VadSettings(_Section):
    """The model's voice detector (xAI's `turn_detection`)."""

    threshold: float = Field(0.7, ge=0.1, le=0.9)
    silence_duration_ms: int = Field(500, ge=0, le=10000)
    """How long a caller must pause before the agent answers: lower is quicker and cuts people off."""
    prefix_padding_ms: int = Field(333, ge=0, le=10000)


class RealtimeSettings(_Section):
    """The voice model."""

    url: str = Field("", pattern=r"^(wss?://.+)?$")
    """Empty: xAI itself, or its `region`. Any server of the same wire may stand here."""
    region: str = Field("", pattern=r"^[a-z0-9-]*$")
    """xAI's host of a region, e.g. "us-east-1"; empty for the global one."""
    model: str = "grok-voice-latest"
    api_key: SecretStr = SecretStr("")
    """Better from XAI_API_KEY or a secrets file than from here."""
    voice: str = "eve"
    reasoning: Literal["none", "high"] = "none"
    connect_timeout_s: float = Field(10.0, ge=0.5, le=60)
    """TCP, TLS and upgrade; connect to ready usually takes 1.0 to 1.4 s."""
    vad: VadSettings = VadSettings()

    @property
    def endpoint(self) -> str:
        """The WebSocket address to dial."""
        if self.url:
            return self.url
        return f"wss://{self.region + '.' if self.region else ''}api.x.ai/v1/realtime"

    @field_validator("url")
    @classmethod
    def _key_needs_tls(cls, value: str) -> str:
        if value.startswith("ws://") and not re.match(r"ws://(127\.[0-9.]+|localhost|\[::1\])(:\d+)?(/|$)", value):
            raise ValueError("a key must not cross a network in clear: use wss:// (ws:// only on loopback)")
        return value


class MediaSettings(_Section):
    """The workers' RTP, towards Asterisk."""

    address: str = "127.0.0.1"
    """Where workers hear Asterisk's ExternalMedia. It has no SRTP: loopback or a private net only."""
    ports: PortRange = (20000, 21999)
    """Even ports, one a call, shared out evenly among the workers."""
    order_buffer_ms: int = Field(40, ge=0, le=200)
    """Longest wait for a frame of the caller that is missing, before it counts as lost. A line that loses
    nothing waits for nothing; 0 never waits, and what comes out of order is dropped."""


class BargeInSettings(_Section):
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


class WorkerSettings(_Section):
    """What keeps a worker's 20 ms clock undisturbed (`sipagent/tuning.py`)."""

    nice: int = Field(0, ge=-20, le=19)
    """-10 lets calls go before other work of the machine; below 0 needs CAP_SYS_NICE (systemd: Nice=-10)."""
    realtime_priority: int = Field(0, ge=0, le=90)
    """1 to 90: scheduled round-robin before everything of normal priority (SCHED_RR); needs CAP_SYS_NICE."""
    cpus: tuple[int, ...] = ()
    """Worker N runs on the Nth of these cores (in turn) and nowhere else; empty: the kernel decides."""


class Agent(_Section):
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

    @model_validator(mode="after")
    def _one_source_of_instructions(self) -> Agent:
        if bool(self.instructions) == (self.instructions_file is not None):
            raise ValueError("give either instructions or instructions_file")
        return self


class CallSettings(_Section):
    """What holds for every call."""

    answer_within_s: float = Field(4.0, ge=0, le=30)
    """Ring while media and model connect; answer after this long even if the model is late."""
    apology: str = "We are sorry, your call cannot be served at the moment. Please try again later."
    one_moment: str = "One moment, please."


class ControlSettings(_Section):
    """The control process."""

    host: str = Field("127.0.0.1", pattern=r"^(127\.[0-9.]+|localhost|::1)$")
    """Loopback only, since the API knows no login yet; put a proxy with one in front to reach it from afar."""
    port: Port = 8090
    workers: int = Field(1, ge=0, le=64)
    """One per core that calls may use; 0 runs everything in one process, for debugging."""


class StandinSettings(_Section):
    """The scripted agent that speaks when there is no key."""

    port: Port = 8091
    """On loopback."""


class LogSettings(_Section):
    """Logs go to stdout."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"
    """auto: text on a terminal, JSON otherwise."""
    show_numbers: bool = False
    """Phone numbers whole instead of their last two digits."""
    show_transcripts: bool = False
    """What was said, word for word."""


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="SIPAGENT_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    run_dir: Path = Path(".run")
    """Sockets, logs, generated secrets and Asterisk's own files."""
    asterisk: AsteriskSettings = AsteriskSettings()
    realtime: RealtimeSettings = RealtimeSettings()
    media: MediaSettings = MediaSettings()
    call: CallSettings = CallSettings()
    agents: dict[str, Agent] = Field(min_length=1)
    numbers: dict[str, str] = Field(min_length=1)
    """Dialled number or extension -> agent; "*" for all others."""
    control: ControlSettings = ControlSettings()
    worker: WorkerSettings = WorkerSettings()
    standin: StandinSettings = StandinSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _hangs_together(self) -> Settings:
        for number, agent in self.numbers.items():
            if agent not in self.agents:
                raise ValueError(f"numbers.{number}: no agent {agent!r}; there is {', '.join(sorted(self.agents))}")
        for name, (first, last) in {
            "asterisk.rtp_ports": self.asterisk.rtp_ports,
            "media.ports": self.media.ports,
        }.items():
            if last - first < 2 * max(self.control.workers, 1):
                raise ValueError(f"{name}: [{first}, {last}] has no room for a call")
        mine, theirs = self.media.ports, self.asterisk.rtp_ports
        if mine[0] <= theirs[1] and theirs[0] <= mine[1]:
            raise ValueError(f"media.ports: {list(mine)} overlaps asterisk.rtp_ports {list(theirs)}")
        return self

    @property
    def control_socket(self) -> Path:
        """Unix socket between the control process and its workers."""
        return self.run_dir / "control.sock"

    def agent_for(self, number: str) -> tuple[str, Agent] | None:
        """The agent that answers a dialled number."""
        name = self.numbers.get(number) or self.numbers.get("*")
        return (name, self.agents[name]) if name else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over secrets over the file (`init_settings`, filled by `load`)."""
        secrets = NestedSecretsSettingsSource(file_secret_settings, secrets_prefix="", secrets_nested_delimiter="__")
        return env_settings, secrets, init_settings


def load(path: Path | None) -> Settings:
    """Read and check the configuration; ConfigError names file, line, key and mend.

    `path` None means `sipagent.toml` here. A secrets folder that does not exist is no error.
    """
    file = path or Path("sipagent.toml")
    text, data = _read(file)
    secrets_dirs = _secrets_dirs(data)
    if os.environ.get("XAI_API_KEY"):
        data.setdefault("realtime", {}).setdefault("api_key", os.environ["XAI_API_KEY"])
    try:
        settings = Settings(**data, _secrets_dir=secrets_dirs)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(file, text, item) for item in error.errors())) from None
    return _with_prompt_files(settings, file)


def run_dir_of(file: Path) -> Path:
    """The run folder a configuration names, before the rest of it is checked: secrets are made there."""
    return _run_dir(_read(file)[1])


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}. Start from the example: cp sipagent.example.toml {file}"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text: {error}") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None


def _run_dir(data: dict[str, Any]) -> Path:
    return Path(os.environ.get("SIPAGENT_RUN_DIR") or str(data.get("run_dir") or ".run"))


def _secrets_dirs(data: dict[str, Any]) -> list[Path]:
    """The generated ones, and over them the ones that somebody handed us (later folders win)."""
    named = (
        _run_dir(data) / "secrets",
        os.environ.get("CREDENTIALS_DIRECTORY"),
        os.environ.get("SIPAGENT_SECRETS_DIR"),
    )
    return [Path(name) for name in named if name and Path(name).is_dir()]


def _with_prompt_files(settings: Settings, file: Path) -> Settings:
    agents = {}
    for name, agent in settings.agents.items():
        if agent.instructions_file is not None:
            prompt = file.parent / agent.instructions_file
            try:
                text = prompt.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file}: agents.{name}.instructions_file: cannot read {prompt}: {error}") from None
            agents[name] = agent.model_copy(update={"instructions": text})
        else:
            agents[name] = agent
    return settings.model_copy(update={"agents": agents})


def _explain(file: Path, text: str, item: Any) -> str:
    """One pydantic error as: file:line: key: what is wrong. The offending value is shown, unless secret."""
    keys = [str(key) for key in item["loc"]]
    message = str(item["msg"]).removeprefix("Value error, ")
    if not keys and (found := re.match(r"([\w.*+#-]+): ", message)):
        keys = found[1].split(".", 1)
        message = message[found.end() :]
    if item["type"] == "extra_forbidden":
        message = f"unknown key; sipagent.example.toml shows every key of this section{_nearest(keys)}"
    elif item["type"] == "missing":
        message = "is needed; sipagent.example.toml shows how it looks"
    elif isinstance(item.get("input"), str | int | float) and not any("password" in k or "key" in k for k in keys):
        message += f" (it is {item['input']!r})"
    line = _line_of(text, keys)
    return f"{file}{f':{line}' if line else ''}: {'.'.join(keys) or 'file'}: {message}"


def _nearest(keys: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only when something is wrong

    model: Any = Settings
    for key in keys[:-1]:
        annotation = model.model_fields[key].annotation if key in getattr(model, "model_fields", {}) else None
        if annotation == dict[str, Agent]:
            model = {"agents": Agent}[key]
            keys = [*keys[:1], *keys[2:]]
            break
        if annotation is None:
            return ""
        model = annotation
    close = difflib.get_close_matches(keys[-1], getattr(model, "model_fields", {}), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _line_of(text: str, keys: list[str]) -> int | None:
    """Line of a key in the TOML text: by its table header, else the table's own line, else None."""
    best: int | None = None
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            if table == keys[: len(table)]:
                best = best or number
            if table == keys:
                return number
        elif assignment := re.match(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*=""", line):
            path = [*table, assignment[1].strip("\"'")]
            if path == keys[: len(path)]:
                return number
    return best
