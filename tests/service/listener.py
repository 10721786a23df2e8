"""A service manager's ear: a real datagram socket, as systemd has one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Ear:
    """What has been told, message by message."""

    address: str
    socket: socket.socket
    messages: list[dict[str, str]] = field(default_factory=list)

    def heard(self) -> list[dict[str, str]]:
        """All so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self.socket.recv(4096).decode().splitlines()
                self.messages.append(dict(line.split("=", 1) for line in lines))
        return self.messages

    def told(self, name: str) -> list[str]:
        """Values of one field so far."""
        return [message[name] for message in self.heard() if name in message]


@contextlib.contextmanager
def listening(address: Path | str) -> Iterator[Ear]:
    """An ear at this path, or at an abstract name (@...)."""
    text = str(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0" + text[1:] if text.startswith("@") else text)
        ear.setblocking(False)
        yield Ear(text, ear)
