"""Which addresses a tool may reach: public ones, and what the operator has listed; with a secret in clear those alone.

A model chooses arguments, and a caller can talk it into any: so no request may end at our own switch, at a cloud's
metadata service or in the office network because a name resolved to it, then or a moment later. The check sits in the
resolver that the connection itself uses: what was checked is what is connected to, so a name that changes its
address in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from sipagent.tools import ToolFailed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a host name; OSError when there are none."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """As they stand in the configuration, checked there."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def may_reach(address: Address, listed: tuple[Network, ...], *, public: bool = True) -> bool:
    """Is it one that the operator has listed, or else a `public` address?"""
    if any(address in network for network in listed if network.version == address.version):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (inner := _inner(address)) is not None:
        return may_reach(inner, listed, public=public)
    return public and address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


async def _lookup(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Doorman(AbstractResolver):
    """Resolves for a connection, and gives only addresses that may be reached."""

    def __init__(self, listed: tuple[Network, ...], lookup: Lookup | None = None, *, in_clear: bool = False) -> None:
        """`in_clear`: what is sent must not leave the `listed` networks."""
        self._listed, self._lookup, self._in_clear = listed, lookup or _lookup, in_clear

    def check_literal(self, host: str) -> None:
        """A host that is an address already never comes to `resolve`; ToolFailed when it may not be reached."""
        with contextlib.suppress(ValueError):
            self._check(ipaddress.ip_address(host.strip("[]").partition("%")[0]))

    def _check(self, address: Address) -> None:
        if not may_reach(address, self._listed):
            raise ToolFailed("the address of the server is a private one, which this tool may not reach")
        if self._in_clear and not may_reach(address, self._listed, public=False):
            raise ToolFailed("the address of the server is a public one, and the secret must not go there in clear")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses must be good: one bad among them is a trick, or a mistake that would show now and then."""
        del family
        found = [ipaddress.ip_address(text.partition("%")[0]) for text in await self._lookup(host, port)]
        for address in found:
            self._check(address)
        return [_result(host, address, port) for address in found]

    async def close(self) -> None:
        """Nothing to close."""


def _result(host: str, address: Address, port: int) -> ResolveResult:
    family: Any = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return ResolveResult(
        hostname=host, host=str(address), port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )
