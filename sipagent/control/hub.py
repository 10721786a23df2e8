"""The control process's end of the links: a WebSocket server on a Unix socket only its user can reach."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from sipagent import model
from sipagent.control.live import Live
from sipagent.link import check_socket_path, decode_upward, encode

log = structlog.get_logger()


class Hub:
    """Takes the workers' messages into `live`, sends commands to them."""

    def __init__(self, path: Path, live: Live) -> None:
        self._path, self._live = path, live
        self._links: dict[int, ServerConnection] = {}
        self._server: Server | None = None

    async def start(self) -> None:
        """Listen; an old socket file of a dead process is replaced."""
        check_socket_path(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        self._server = await unix_serve(self._serve, str(self._path), compression=None, close_timeout=1)
        self._path.chmod(0o600)

    async def aclose(self) -> None:
        """Close the links and the socket; twice is fine."""
        if self._server:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)
            self._server = None

    async def send(self, worker: int, command: model.Command) -> bool:
        """One order to one worker; False when it is not there."""
        link = self._links.get(worker)
        if link is None:
            return False
        with contextlib.suppress(ConnectionClosed):
            await link.send(encode(command))
            return True
        return False

    async def _serve(self, link: ServerConnection) -> None:
        number = 0
        try:
            async for message in link:
                try:
                    upward = decode_upward(message)
                except msgspec.DecodeError as error:
                    log.error("link_garbage", worker=number, error=str(error))
                    continue
                for item in upward:
                    match item:
                        case model.WorkerHello(worker=number, pid=pid) if number in self._live.workers:
                            self._links[number] = link
                            self._live.workers[number].pid = pid
                        case model.WorkerHello(worker=unknown):
                            log.error("unknown_worker", worker=unknown)
                            return
                        case model.WorkerState():
                            if number:
                                self._live.worker_state(number, item)
                        case _:
                            self._live.take(item)
        except ConnectionClosed:
            pass
        finally:
            if number and self._links.get(number) is link:
                del self._links[number]
                self._live.worker_lost(number)
