"""The control process's end of the links: a WebSocket server on a Unix socket only its user can reach.

Whoever has an order for a worker asks here and gets its answer, wherever the worker lives: in a process of its own
or, without any, in this one (`attach`). Whatever happens to a call passes through here once: a worker sends again
what nobody has acknowledged, and what is here already is told by its number. A `Keeper` says what is safe; without
one everything is, as soon as it has been heard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from sipagent import model, orders
from sipagent.control.live import Live
from sipagent.errors import NoWorker, OrderRefused, Unanswered
from sipagent.link import ON_THIS_MACHINE, check_socket_path, decode_upward, encode

log = structlog.get_logger()


class Keeper(Protocol):
    """Whoever keeps events for good: the records."""

    def kept(self, run: str) -> int:
        """The number up to which the events of this run of a worker are safe."""

    def take(self, event: model.CallEvent, run: str = "", number: int = 0) -> None:
        """One event more; `Hub.safe` is to be told. Without a run it is of this process."""


class Counting(Protocol):
    """Whoever counts the sessions with the model: `control.sessions`."""

    def here(self, run: str, held: Iterable[orders.SessionHeld]) -> None:
        """This run of a worker is there, and has these open."""

    def asked(self, run: str, item: orders.SessionAsked) -> None:
        """It wants one, or needs one no more."""

    def gone(self, run: str) -> None:
        """It is away."""


@dataclass(slots=True)
class _Run:
    """One run of a worker's process, as far as it has been heard."""

    heard: int
    safe: int
    last_event: int = 0
    """What came after it were answers, which nobody keeps."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def is_safe(self, number: int) -> None:
        """Everything up to this number is kept; so are the answers behind it, since they need no keeping."""
        number = self.heard if number >= self.last_event else number
        if number > self.safe:
            self.safe = number
            self.changed.set()


class Hub:
    """Takes the workers' messages into `live`, brings them orders and their answers back."""

    def __init__(self, path: Path, live: Live, keeper: Keeper | None = None) -> None:
        self._path, self._live, self._keeper = path, live, keeper
        self._links: dict[int, dict[ServerConnection, orders.WorkerHello]] = {number: {} for number in live.workers}
        """More than one only while a process of a dead control process goes and its successor is there."""
        self._runs: dict[str, _Run] = {}
        self._linked: dict[str, ServerConnection] = {}
        self._inside: dict[int, Callable[[orders.Order | orders.SessionTold], None]] = {}
        self._waiting: dict[str, asyncio.Future[orders.Answer]] = {}
        self._server: Server | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self.on_audio: Callable[[bytes], object] = lambda _block: None
        """Gets the binary messages: blocks of recordings."""
        self.counting: Counting | None = None
        self.standing: tuple[orders.Order, ...] = ()
        """What every worker is told when it comes, since those before it were told."""

    @property
    def linked(self) -> frozenset[str]:
        """The runs of workers that are there now."""
        return frozenset(self._linked)

    def safe(self, run: str, number: int) -> None:
        """The keeper has this event of a run, and all before it."""
        if known := self._runs.get(run):
            known.is_safe(number)

    def attach(self, worker: int, obey: Callable[[orders.Order | orders.SessionTold], None]) -> None:
        """A worker inside this process; what it has to say comes to `take`."""
        self._inside[worker] = obey

    async def start(self) -> None:
        """Listen; an old socket file of a dead process is replaced."""
        check_socket_path(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        self._server = await unix_serve(self._serve, str(self._path), close_timeout=1, **ON_THIS_MACHINE)
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
            NoWorker: it is not there; Unanswered: it did not answer in time; OrderRefused: it says no, and why.
        """
        waiting: asyncio.Future[orders.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[order.id] = waiting
        try:
            await self._send(worker, order)
            async with asyncio.timeout(timeout_s):
                answer = await waiting
        except TimeoutError:
            raise Unanswered(f"worker {worker} has not answered in {timeout_s:g} s") from None
        finally:
            del self._waiting[order.id]
        if answer.error:
            raise OrderRefused(answer.error)
        return answer

    def tell(self, run: str, told: orders.SessionTold) -> None:
        """Something that a run of a worker waits for (none: who is inside); one that is away asks again when back."""
        if link := self._linked.get(run):
            task = asyncio.create_task(_pass(link, told), name="tell")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        elif not run:
            for obey in self._inside.values():
                obey(told)

    async def _send(self, worker: int, order: orders.Order) -> None:
        if obey := self._inside.get(worker):
            obey(order)
            return
        for link in list(self._links.get(worker, ()))[-1:]:
            with contextlib.suppress(ConnectionClosed):
                await link.send(encode(order))
                return
        raise NoWorker(f"worker {worker} is not there")

    def take(self, item: orders.Upward) -> None:
        """One thing that a worker inside this process has to say, or this process itself of a call."""
        self._hear(item, 1, "", 0)

    def _hear(self, item: orders.Upward, worker: int, run: str, number: int) -> None:
        match item:
            case orders.SessionWanted() | orders.SessionLeft():
                if self.counting:
                    self.counting.asked(run, item)
            case orders.Answer():
                waiting = self._waiting.get(item.order)
                if waiting is not None and not waiting.done():
                    waiting.set_result(item)
            case orders.WorkerHello() | orders.WorkerState() | orders.Numbered():
                pass  # of the link itself
            case _:
                self._live.take(item, run)
                if run:
                    self._runs[run].last_event = number
                if self._keeper:
                    self._keeper.take(item, run, number)

    async def _serve(self, link: ServerConnection) -> None:
        worker, run, thanks = 0, "", None
        try:
            async for message in link:
                if isinstance(message, bytes):
                    self.on_audio(message)
                    continue
                try:
                    upward = decode_upward(message)
                except msgspec.DecodeError as error:
                    log.error("link_garbage", worker=worker, error=str(error))
                    continue
                if not worker and upward and isinstance(hello := upward[0], orders.WorkerHello):
                    if hello.worker not in self._live.workers:
                        log.error("unknown_worker", worker=hello.worker)
                        return
                    worker, run = hello.worker, hello.run
                    self._links[worker][link] = hello
                    self._live.worker_here(worker, hello.pid, run)
                    self._linked[run] = link
                    if self.counting:
                        self.counting.here(run, hello.sessions)
                    for order in self.standing:
                        await link.send(encode(order))
                    thanks = asyncio.create_task(self._thank(link, self._run(run)), name="thanks")
                elif worker:
                    self._hear_all(worker, run, upward)
        except ConnectionClosed:
            pass
        finally:
            if thanks:
                thanks.cancel()
            if worker:
                self._gone(worker, run, link)

    def _gone(self, worker: int, run: str, link: ServerConnection) -> None:
        """A process has ended; its number is lost with it unless its successor is there already."""
        gone = self._links[worker].pop(link)
        left = list(self._links[worker].values())
        if left:
            self._live.worker_here(worker, left[-1].pid, left[-1].run)
        if all(one.run != run for one in left):
            self._live.worker_lost(worker, gone.pid, run)
        if self._linked.get(run) is link:
            del self._linked[run]
            if self.counting:
                self.counting.gone(run)

    def _hear_all(self, worker: int, run: str, upward: list[orders.Upward]) -> None:
        """A message: the worker's state, the number of what follows, and that."""
        known = self._run(run)
        number = 0
        for item in upward:
            match item:
                case orders.WorkerState():
                    self._live.worker_state(worker, item)
                case orders.Numbered():
                    number = item.first
                case _ if number > known.heard:
                    known.heard = number
                    self._hear(item, worker, run, number)
                    number += 1
                case _:
                    number += 1  # again what we have
        known.is_safe(known.safe if self._keeper else known.heard)

    def _run(self, run: str) -> _Run:
        if run not in self._runs:
            kept = self._keeper.kept(run) if self._keeper else 0
            self._runs[run] = _Run(kept, kept, kept)
        return self._runs[run]

    async def _thank(self, link: ServerConnection, known: _Run) -> None:
        """Tell the worker what it may forget, the newest number only; the first also says that it is known."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                known.changed.clear()
                await link.send(encode(orders.Acknowledged(known.safe)))
                await known.changed.wait()


async def _pass(link: ServerConnection, told: orders.SessionTold) -> None:
    with contextlib.suppress(ConnectionClosed):
        await link.send(encode(told))
