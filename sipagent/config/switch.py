"""[asterisk]: how we reach it, and what the one that we start ourselves listens to."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator

from sipagent.config.base import (
    ASTERISK_NAME,
    ASTERISK_SECRET,
    ASTERISK_SECTIONS,
    RTP_PORTS_A_CALL,
    Port,
    PortRange,
    Section,
    is_loopback,
    is_private,
)
from sipagent.config.trunks import Network


class AsteriskSettings(Section):
    """How we reach Asterisk, and what `sipagent asterisk up` starts."""

    host: str = "127.0.0.1"
    """Where ARI listens. Loopback, or an address of a private network: whoever reaches ARI owns the switch."""
    http_port: Port = 8088
    username: str = "sipagent"
    password: SecretStr = SecretStr("")
    app: str = Field("sipagent", pattern=r"^[A-Za-z0-9_-]+$")
    """Worker N registers `APP-N`; the dialplan tries them."""
    sip_address: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9.:-]+$")
    """Where `asterisk up` listens for SIP; 0.0.0.0 to be called from other machines."""
    sip_port: Port = 5060
    rtp_ports: PortRange = (10000, 19999)
    """Asterisk's own RTP, four ports a call."""
    phone_user: str = "phone"
    phone_password: SecretStr = SecretStr("")
    """The softphone account that `make run` prints."""
    tls_port: int = Field(0, ge=0, le=65535)
    """SIP over TLS 1.2 and later; usually 5061. 0: none."""
    tls_certificate: str = ""
    """PEM file: our certificate and those between it and the root."""
    tls_key: str = ""
    """PEM file, readable by Asterisk's user only."""
    tls_ca: str = "/etc/ssl/certs/ca-certificates.crt"
    """PEM file of roots that far ends' certificates must lead to; a PBX with a root of its own: put it here."""
    external_address: str = Field("", pattern=r"^[A-Za-z0-9.:-]*$")
    """Behind NAT: the public address that far ends outside of `local_networks` are told, for SIP and RTP."""
    local_networks: tuple[Network, ...] = ()
    """Reached without the NAT: the office, a PBX on the LAN."""
    realtime_priority: int = Field(10, ge=0, le=90)
    """The Asterisk that we start is scheduled round-robin before everything of normal priority (SCHED_RR), where that
    is permitted: RLIMIT_RTPRIO (systemd: LimitRTPRIO=90) or CAP_SYS_NICE. It belongs to the same key of [worker]: every
    packet passes both, and workers with priority starve an Asterisk without. 0: as other work."""

    @field_validator("host")
    @classmethod
    def _not_for_all(cls, value: str) -> str:
        # A name is taken as it is: where it leads is known to whoever gave it, and may change.
        if re.fullmatch(r"[0-9.]+|.*:.*", value) and not is_loopback(value) and not is_private(value):
            raise ValueError("ARI and its password cross it in clear: an address of loopback or of a private network")
        return value

    @field_validator("phone_user")
    @classmethod
    def _a_name_of_its_own(cls, value: str) -> str:
        if not ASTERISK_NAME.fullmatch(value) or value in ASTERISK_SECTIONS:
            raise ValueError("letters, digits, dot, dash; no name of Asterisk's own sections")
        return value

    @field_validator("phone_password")
    @classmethod
    def _writable(cls, value: SecretStr) -> SecretStr:
        if (text := value.get_secret_value()) and not ASTERISK_SECRET.fullmatch(text):
            raise ValueError("printable ASCII without blanks and semicolons, and neither < nor @ first")
        return value

    @field_validator("rtp_ports")
    @classmethod
    def _asterisk_takes_them(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] < 1024 or value[1] - value[0] + 1 < RTP_PORTS_A_CALL:
            raise ValueError(f"[{value[0]}, {value[1]}]: first and last of 1024 to 65535, four ports a call")
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> AsteriskSettings:
        if self.tls_port and not (self.tls_certificate and self.tls_key):
            raise ValueError("tls_port: TLS needs tls_certificate and tls_key")
        if self.tls_port and self.tls_port == self.sip_port:
            raise ValueError(f"tls_port: {self.tls_port} is sip_port (TCP) already")
        for key in ("tls_certificate", "tls_key", "tls_ca"):
            if re.search(r"[\x00-\x1f;]", getattr(self, key)):
                raise ValueError(f"{key}: a path without control characters and semicolons")
            if self.tls_port and not Path(getattr(self, key)).is_file():
                raise ValueError(f"{key}: there is no file {getattr(self, key)}")
        return self

    @property
    def url(self) -> str:
        """Base address of Asterisk's HTTP server."""
        return f"http://{self.host}:{self.http_port}"
