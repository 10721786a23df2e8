"""What the commands share: how they are declared, their options, the configuration, the loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import aiohttp
import typer

from sipagent import config, secretfiles
from sipagent.config import Settings
from sipagent.errors import ToolError

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data for programs.")]
StandinOption = Annotated[bool, typer.Option("--standin", help="Use the stand-in as the voice model, no key needed.")]
DEFAULT_CONFIG = Path("sipagent.toml")

T = TypeVar("T")


def group(**more: Any) -> typer.Typer:
    """Commands of one module, or of one word (`sipagent token ...`)."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, **more)


def settings_of(config_file: Path, *, standin: bool = False) -> Settings:
    """The configuration; passwords nobody chose are made on the way."""
    secretfiles.ensure(config.run_dir_of(config_file))
    settings = config.load(config_file)
    return settings.on_standin() if standin else settings


@contextlib.asynccontextmanager
async def node_api(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    """The API of the node of this configuration, by its Unix socket: nothing to log in with, whatever it asks others.

    Without a time-out of ours: what takes long (a restart, a probe) has the node's own.
    """
    where = settings.api_socket
    connector, timeout = aiohttp.UnixConnector(str(where)), aiohttp.ClientTimeout()
    async with aiohttp.ClientSession("http://localhost", connector=connector, timeout=timeout) as http:
        try:
            yield http
        except aiohttp.ClientError as error:
            why = error.strerror if isinstance(error, aiohttp.ClientConnectorError) else error
            raise ToolError(
                f"no control process answers at {where} ({why}): is `sipagent run` running? It must have the same "
                "run_dir (SIPAGENT_RUN_DIR), and you be its user"
            ) from None


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE of the command line."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write it as caller=+442079460123", param_hint="--variable")
    return name.strip(), value.strip()


async def until_signal(
    work: Coroutine[Any, Any, object], wind_down: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> None:
    """Run until the work ends or somebody asks us to stop; then the work is cancelled and has cleaned up.

    SIGTERM lets it `wind_down` before; a second signal, or Ctrl-C, does not wait for that.
    """
    loop, stop, polite = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)

    def on_sigterm() -> None:
        (stop if polite.is_set() else polite).set()

    loop.add_signal_handler(signal.SIGTERM, on_sigterm)
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    asked = asyncio.create_task(polite.wait())
    await asyncio.wait({task, stopping, asked}, return_when=asyncio.FIRST_COMPLETED)
    if polite.is_set() and wind_down and not task.done():
        winding = asyncio.create_task(wind_down())
        await asyncio.wait({task, stopping, winding}, return_when=asyncio.FIRST_COMPLETED)
        winding.cancel()
    stopping.cancel()
    asked.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where there is one: its sockets and timers cost less."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(work)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - Linux only
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
