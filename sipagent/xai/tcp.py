"""The TCP connection under a session: made here, whichever library speaks over it, and asked about itself.

The kernel knows what no library tells alike: how far the server is, when it last sent a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

DEAD_PEER_MS = 2500
"""Data that the other side's kernel has not acknowledged for so long: the connection is lost (RFC 5482)."""
_TCP_INFO = struct.Struct("@52xI12xI")
"""Of Linux's struct tcp_info: tcpi_last_data_recv (ms ago), tcpi_rtt (smoothed, in us)."""


class Tcp:
    """One connection. `socket` goes to the library, which closes it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # While a caller is heard something is always on its way: what nobody acknowledges tells a dead peer.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)

    @classmethod
    async def connect(cls, host: str, port: int) -> Tcp:
        """To the first address of the host that takes it; OSError when none does."""
        loop, errors = asyncio.get_running_loop(), list[str]()
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with contextlib.ExitStack() as undo:
                try:
                    connecting = undo.enter_context(socket.socket(family, kind, protocol))
                    connecting.setblocking(False)
                    await loop.sock_connect(connecting, address)
                except OSError as error:
                    errors.append(str(error))
                    continue
                tcp = cls(connecting)
                undo.pop_all()
                return tcp
        raise OSError("; ".join(errors))

    def silent_s(self) -> float:
        """For how long the server has sent no byte; told by messages, a long one that comes slowly would be silence."""
        return self._info()[0] / 1000

    def round_trip_ms(self) -> float | None:
        """To the server's end of the connection and back, as the kernel measures it; None when it cannot say."""
        try:
            return self._info()[1] / 1000
        except OSError:
            return None

    def cut(self) -> None:
        """The end, whatever a library does with it just now: the server sees it, and so does the library."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def _info(self) -> tuple[int, int]:
        last_data_recv_ms, rtt_us = _TCP_INFO.unpack(
            self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        )
        return last_data_recv_ms, rtt_us
