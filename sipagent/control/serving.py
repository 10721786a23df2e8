"""How the API is served: uvicorn inside our loop, on TCP (with TLS where there is a certificate) and on a Unix socket.

The Unix socket, of mode 600 in the run folder, is for the command line of this machine: whoever may open it is the
node's own user or root, and needs no token, no port and no certificate's name to be right.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from sipagent.config import ControlSettings
from sipagent.control.connections import Connections
from sipagent.errors import ConfigError
from sipagent.link import check_socket_path


class _Server(uvicorn.Server):
    """Signals are the composition root's, not its."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


class Serving:
    """The API's two sockets, bound at once; `run` until told to `stop`."""

    def __init__(self, control: ControlSettings, unix_path: Path, closed: Counter[str] | None = None) -> None:
        """ConfigError when one cannot be bound, or the certificate cannot be used.

        `closed` counts connections of the network that had to go (see `Connections`).
        """
        self.outside = Connections(control.connections, closed)
        self._within = Connections(control.connections)
        self._control, self._unix_path = control, unix_path
        self._tls = _tls(control) if control.certificate else None
        self._tcp = _listen(control)
        self._unix = _listen_unix(unix_path)
        self._servers: list[_Server] = []
        self._stopped = False

    async def run(self, outside: ASGIApp, within: ASGIApp) -> None:
        """Serve `outside` on TCP and `within` on the Unix socket."""
        doors = [(self._tcp, outside, self._tls, self.outside), (self._unix, within, None, self._within)]
        self._servers = [_Server(_config(app, tls, connections)) for _, app, tls, connections in doors]
        if self._stopped:
            self.stop()
        try:
            async with asyncio.TaskGroup() as group:
                for server, (listening, *_) in zip(self._servers, doors, strict=True):
                    group.create_task(server.serve([listening]))
        finally:
            self._unix_path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Have `run` come to its end, also one that is still to begin."""
        self._stopped = True
        for server in self._servers:
            server.should_exit = True

    def renew(self) -> None:
        """Read the certificate anew, for connections from now on; ConfigError: the old one goes on."""
        if self._tls:
            _tls(self._control)  # a pair that does not fit must not be half loaded
            _load(self._tls, self._control)


def _config(app: ASGIApp, tls: ssl.SSLContext | None, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=connections.protocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
        ssl_context_factory=functools.partial(_ours, tls) if tls else None,
    )


def _ours(tls: ssl.SSLContext, *_: object) -> ssl.SSLContext:
    return tls


def _tls(control: ControlSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, control)
    return context


def _load(context: ssl.SSLContext, control: ControlSettings) -> None:
    try:
        # The third argument: with no terminal to ask at, a key with a passphrase must fail and not wait for one.
        context.load_cert_chain(control.certificate, control.private_key, lambda: "")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            f"control.certificate: {control.certificate} and {control.private_key} cannot be used ({why}): "
            "they must be PEM, belong together, and the key have no passphrase"
        ) from None


def _listen(control: ControlSettings) -> socket.socket:
    """Bound by us, since uvicorn would end the process where we can say what to change."""
    family = socket.AF_INET6 if ":" in control.host else socket.AF_INET
    try:
        return socket.create_server((control.host, control.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"control.port: {control.host}:{control.port} cannot be bound ({error.strerror}); "
            "is another sipagent running? Change [control] port or SIPAGENT_CONTROL__PORT"
        ) from None


def _listen_unix(path: Path) -> socket.socket:
    """An old socket file of a dead process is replaced."""
    check_socket_path(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o600)  # before it listens: until then nobody gets in
    listening.listen(128)
    return listening
