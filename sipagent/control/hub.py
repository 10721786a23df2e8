"""The control process's end of the links: a WebSocket server on a Unix socket only its user can reach.

Whoever has an order for a worker asks here and gets its answer, wherever the worker lives: in a process of its own
or, without any, in this one (`attach`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from sipagent import orders
from sipagent.control.live import Live
from sipagent.errors import OrderRefused
from sipagent.link import check_socket_path, decode_upward, encode

log = structlog.get_logger()


class Hub:
    """Takes the workers' messages into `live`, brings them orders and their answers back."""

    def __init__(self, path: Path, live: Live) -> None:
        self._path, self._live = path, live
        self._links: dict[int, ServerConnection] = {}
        self._inside: dict[int, Callable[[orders.Order], None]] = {}
        self._waiting: dict[str, asyncio.Future[orders.Answer]] = {}
        self._server: Server | None = None
        self.on_audio: Callable[[bytes], object] = lambda _block: None
        """Gets the binary messages: blocks of recordings."""

    def attach(self, worker: int, obey: Callable[[orders.Order], None]) -> None:
        """A worker inside this process; what it has to say comes to `take`."""
        self._inside[worker] = obey

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

    async def ask(self, worker: int, order: orders.Order, timeout_s: float) -> orders.Answer:
        """One order to one worker, and what came of it.

        Raises:
            OrderRefused: the worker is not there, did not answer in time, or says no; its text says why.
        """
        waiting: asyncio.Future[orders.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[order.id] = waiting
        try:
            await self._send(worker, order)
            async with asyncio.timeout(timeout_s):
                answer = await waiting
        except TimeoutError:
            raise OrderRefused(f"worker {worker} has not answered in {timeout_s:g} s") from None
        finally:
            del self._waiting[order.id]
        if answer.error:
            raise OrderRefused(answer.error)
        return answer

    async def _send(self, worker: int, order: orders.Order) -> None:
        if obey := self._inside.get(worker):
            obey(order)
            return
        link = self._links.get(worker)
        if link is not None:
            with contextlib.suppress(ConnectionClosed):
                await link.send(encode(order))
                return
        raise OrderRefused(f"worker {worker} is not there")

    def take(self, item: orders.Upward) -> None:
        """One thing that a worker has to say."""
        match item:
            case orders.Answer():
                waiting = self._waiting.get(item.order)
                if waiting is not None and not waiting.done():
                    waiting.set_result(item)
            case orders.WorkerHello() | orders.WorkerState():
                pass  # of the link itself
            case _:
                self._live.take(item)

    async def _serve(self, link: ServerConnection) -> None:
        number = 0
        try:
            async for message in link:
                if isinstance(message, bytes):
                    self.on_audio(message)
                    continue
                try:
                    upward = decode_upward(message)
                except msgspec.DecodeError as error:
                    log.error("link_garbage", worker=number, error=str(error))
                    continue
                for item in upward:
                    match item:
                        case orders.WorkerHello(worker=number, pid=pid) if number in self._live.workers:
                            self._links[number] = link
                            self._live.workers[number].pid = pid
                        case orders.WorkerHello(worker=unknown):
                            log.error("unknown_worker", worker=unknown)
                            return
                        case orders.WorkerState():
                            if number:
                                self._live.worker_state(number, item)
                        case _:
                            self.take(item)
        except ConnectionClosed:
            pass
        finally:
            if number and self._links.get(number) is link:
                del self._links[number]
                self._live.worker_lost(number)
