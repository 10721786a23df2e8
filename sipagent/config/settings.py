"""The whole configuration as one frozen object, made at start and handed down."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sipagent.config.sections import (
    Agent,
    AsteriskSettings,
    CallSettings,
    ControlSettings,
    LogSettings,
    MediaSettings,
    RealtimeSettings,
    StandinSettings,
    WorkerSettings,
)


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
