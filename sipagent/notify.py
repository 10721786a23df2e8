"""What a service manager wants to know: systemd's notify protocol (sd_notify(3)), datagrams of KEY=VALUE lines.

Own lines, since PyPI's `sdnotify` is kept by nobody and the bindings of libsystemd want a compiler and its headers for
what is one `sendto`. Started by hand there is nobody to tell, and all of this does nothing.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, MutableMapping


class ServiceManager:
    """Whoever started us and wants to hear how we do."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        # A leading @ stands for the null byte of Linux' abstract names.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """It ends us when it hears nothing for so long; 0: it does not wait for anything."""

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """The one that the environment names; its names are taken out, since workers do not speak for the service."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog = environment.pop("WATCHDOG_USEC", "")
        environment.pop("WATCHDOG_PID", None)
        return cls(address, int(watchdog) / 1e6 if watchdog.isdecimal() else 0.0)

    def tell(self, **fields: str | int) -> None:
        """One message. Nobody waits for it: a manager that is away, being restarted itself, must not stop a call."""
        if not self._address:
            return
        text = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(text.encode(), self._address)

    @contextlib.asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """For the length of the block a configuration is being read."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            yield
        finally:
            self.tell(READY=1)

    def stopping(self, within_s: float) -> None:
        """The end has begun and may take so long, whatever TimeoutStopSec says."""
        self.tell(STOPPING=1, EXTEND_TIMEOUT_USEC=int(within_s * 1e6))
