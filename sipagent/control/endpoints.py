"""Whether the realtime endpoints can be reached: known before a caller finds out.

Every half minute a connection to each, with its TLS, and closed again: no session, no key, nothing billed. A name
that does not resolve and a certificate that nobody trusts are told as what they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import structlog

from sipagent.config import Settings

log = structlog.get_logger()

EVERY_S = 30.0
WITHIN_S = 5.0
_PORTS = {"ws": 80, "wss": 443}


async def reach(url: str, within_s: float = WITHIN_S) -> str:
    """Why nothing can be had of this address (ws:// or wss://); empty when it takes connections."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    context = await asyncio.to_thread(ssl.create_default_context) if parts.scheme == "wss" else None
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        return f"{host}:{port} does not answer within {within_s:g} s"
    except socket.gaierror as error:
        return f"the name {host} cannot be resolved: {error.strerror}"
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {host} is not trusted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no TLS with {host}:{port}: {error.reason}"
    except OSError as error:
        return f"{host}:{port} cannot be reached: {error.strerror or error}"
    return ""


class Endpoints:
    """`run` until cancelled."""

    def __init__(self, settings: Callable[[], Settings], reach: Callable[[str], Awaitable[str]] = reach) -> None:
        """`settings` gives the configuration in force."""
        self._settings, self._reach = settings, reach
        self.state: Mapping[str, str] = {}
        """By name, why it cannot be reached, or nothing. Another thread may read it: it is replaced, never changed."""

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Once, at all of them."""
        endpoints = self._settings().realtime.endpoints
        found = await asyncio.gather(*(self._reach(one.url) for one in endpoints))
        before, self.state = self.state, {one.name: why for one, why in zip(endpoints, found, strict=True)}
        for name, why in self.state.items():
            if why and why != before.get(name):
                log.error("endpoint_away", endpoint=name, error=why)
            elif not why and before.get(name):
                log.info("endpoint_is_back", endpoint=name)

    @property
    def troubles(self) -> list[str]:
        """What an operator should know, one line each."""
        return [f"realtime endpoint {name}: {why}" for name, why in self.state.items() if why]
