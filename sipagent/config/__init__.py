"""Every knob, its default and its reason: one frozen object, made at start and handed down.

`sipagent.toml` first, the environment over it (``SIPAGENT_REALTIME__MODEL=...``), secrets from variables or
from files named ``section__key`` in secrets folders (``SIPAGENT_SECRETS_DIR`` over systemd's
``CREDENTIALS_DIRECTORY`` over ``secrets/`` in the run folder); below the file only the passwords that we made
ourselves, for whoever writes none. TOML because telephony text breaks YAML: there `+1555` is a number,
`22:30` is 1350 and `*98` an error. Nothing else in the program reads the environment. What is wrong is a
ConfigError that names file, line, key and mend.
"""

from sipagent.config.reading import load, run_dir_of
from sipagent.config.sections import (
    Agent,
    BargeInSettings,
    CallSettings,
    ControlSettings,
    LogSettings,
    MediaSettings,
    RealtimeSettings,
    RecordingSettings,
    RecordsSettings,
    StandinSettings,
    VadSettings,
    WorkerSettings,
)
from sipagent.config.settings import Settings
from sipagent.config.switch import AsteriskSettings
from sipagent.config.trunks import Trunk
from sipagent.config.watching import TracingSettings

__all__ = [
    "Agent",
    "AsteriskSettings",
    "BargeInSettings",
    "CallSettings",
    "ControlSettings",
    "LogSettings",
    "MediaSettings",
    "RealtimeSettings",
    "RecordingSettings",
    "RecordsSettings",
    "Settings",
    "StandinSettings",
    "TracingSettings",
    "Trunk",
    "VadSettings",
    "WorkerSettings",
    "load",
    "run_dir_of",
]
