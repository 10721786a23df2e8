"""The whole configuration as one frozen object, made at start and handed down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sipagent.config.base import GENERATED, Name, Variable
from sipagent.config.destinations import Destination
from sipagent.config.ivr import Announcement, Collect, Dial, Mailbox, Menu, Queue
from sipagent.config.limits import Limits
from sipagent.config.outward import Digits, Outbound, Supervisors
from sipagent.config.routes import Hours, Pattern, Route
from sipagent.config.sections import (
    Agent,
    CallSettings,
    ControlSettings,
    LogSettings,
    MediaSettings,
    RealtimeSettings,
    RecordingSettings,
    RecordsSettings,
    StandinSettings,
    WorkerSettings,
)
from sipagent.config.switch import AsteriskSettings
from sipagent.config.tools import Tool, ToolName
from sipagent.config.transfers import DialPolicy, Transfer
from sipagent.config.trunks import Trunk
from sipagent.config.trunks import check as check_trunks
from sipagent.config.watching import Probe, ProbeName, TracingSettings
from sipagent.config.webhooks import Webhook

STANDIN_KEY = "stand-in"


class _Secrets(NestedSecretsSettingsSource):
    """Files `section__key` in folders, a later one over those before it."""

    def __init__(self, source: PydanticBaseSettingsSource, folders: Sequence[Path]) -> None:
        super().__init__(source, folders, "ok", secrets_prefix="", secrets_nested_delimiter="__")


class _ByHand(_Secrets):
    """What somebody put into the run folder's own; what we made there stands below the file (`load`)."""

    @classmethod
    def load_secrets(cls, path: Path) -> dict[str, str]:
        return {name: text for name, text in super().load_secrets(path).items() if name not in GENERATED}


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
    limits: Limits = Limits()
    recording: RecordingSettings = RecordingSettings()
    trunks: dict[str, Trunk] = {}
    """Carriers, PBXs and phones, by name."""
    agents: dict[str, Agent] = Field(min_length=1)
    tools: dict[ToolName, Tool] = {}
    """What agents may do; each has those it names."""
    numbers: dict[Pattern, str] = {}
    """The short form of a route: dialled number or extension -> agent; "*" for all others."""
    routes: tuple[Route, ...] = ()
    """In order: the first that fits takes the call. Who fits none gets 404."""
    hours: dict[Name, Hours] = {}
    menus: dict[Name, Menu] = {}
    announcements: dict[Name, Announcement] = {}
    collects: dict[Name, Collect] = {}
    queues: dict[Name, Queue] = {}
    mailboxes: dict[Name, Mailbox] = {}
    dials: dict[Name, Dial] = {}
    transfers: dict[Name, Transfer] = {}
    """Where agents may send callers."""
    dial_policy: DialPolicy = DialPolicy()
    outbound: Outbound = Outbound()
    digits: dict[Name, Digits] = {}
    """What agents may have callers key in unseen."""
    supervisors: Supervisors = {}
    """Who may look in on live calls."""
    variables: dict[Variable, str] = {}
    """{name} in prompts and instructions."""
    steps: dict[str, dict[str, dict[str, Any]]] = {}
    """Steps of your own: [steps.KIND.NAME], read by the class that the entry point `sipagent.steps` names KIND."""
    folder: Path = Path()
    """Where files named in the configuration lie: its own folder."""
    control: ControlSettings = ControlSettings()
    records: RecordsSettings = RecordsSettings()
    webhooks: dict[Name, Webhook] = {}
    """Who is told what, once it is in the records."""
    worker: WorkerSettings = WorkerSettings()
    standin: StandinSettings = StandinSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    probes: dict[ProbeName, Probe] = {}
    """Calls to ourselves, through trunks."""

    @model_validator(mode="after")
    def _hangs_together(self) -> Settings:
        check_trunks(self.trunks, self.asterisk.phone_user, bool(self.asterisk.tls_port))
        if self.webhooks and not self.records.enabled:
            raise ValueError("webhooks: they are told from the records: leave [records] enabled")
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
    def has_model(self) -> bool:
        """There is somebody to talk with callers: xAI and a key for it, or another endpoint."""
        return bool(self.realtime.url or self.realtime.api_key.get_secret_value())

    def on_standin(self) -> Settings:
        """The same with the stand-in as the voice model."""
        url = f"ws://127.0.0.1:{self.standin.port}/v1/realtime"
        theirs = {"url": url, "api_key": SecretStr(STANDIN_KEY), "dialect": "xai"}
        return self.model_copy(update={"realtime": self.realtime.model_copy(update=theirs)})

    @property
    def control_socket(self) -> Path:
        """Unix socket between the control process and its workers."""
        return self.run_dir / "control.sock"

    @property
    def api_socket(self) -> Path:
        """Unix socket of the API, for the command line of this machine."""
        return self.run_dir / "api.sock"

    @property
    def recordings(self) -> Path:
        """Folder of the recordings."""
        return Path(self.recording.folder) if self.recording.folder else self.run_dir / "recordings"

    @property
    def records_calls(self) -> bool:
        """Some calls are recorded: their sound, not only that they were."""
        return any(route.record for route in self.routes) or any(agent.record for agent in self.agents.values())

    @property
    def records_url(self) -> str:
        """Where the records are, without the password."""
        return self.records.url or f"sqlite+aiosqlite:///{self.run_dir.absolute() / 'records.db'}"

    @property
    def endpoints(self) -> set[str]:
        """Whoever may call us and be called: trunks and phone accounts, by the names Asterisk knows them by."""
        return {self.asterisk.phone_user, *self.trunks}

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """[[routes]], and after them [numbers] as routes."""
        numbers = sorted(self.numbers.items(), key=lambda item: item[0] == "*")
        return (*self.routes, *(Route(to=(to,), go=Destination(f"agent:{agent}")) for to, agent in numbers))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over secrets over the file (`init_settings`, filled by `load`).

        Secrets are those in the folders that were handed to us, over those in the run folder, which `load` names first.
        """
        folders = getattr(file_secret_settings, "secrets_dir", None) or ()
        handed, by_hand = _Secrets(file_secret_settings, folders[1:]), _ByHand(file_secret_settings, folders[:1])
        return env_settings, handed, by_hand, init_settings
