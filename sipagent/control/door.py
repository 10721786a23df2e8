"""The API's door: asks everybody who they are before anything of their request is read, and notes what they do.

ASGI around the whole application, so that no route can forget it: what a path needs stands in `scopes`, one that stands
there not is the admins' alone. Whoever comes by the Unix socket of the run folder is let through as admin: the kernel
has asked them already.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Request

from sipagent.config import ControlSettings
from sipagent.control.audit import LONGEST_PATH, Audit, Deed
from sipagent.control.pace import Pace
from sipagent.control.problems import problem
from sipagent.control.scopes import Scope, needed
from sipagent.control.tokens import Tokens

BURST_S = 2
"""Of a token's requests at once."""
WRONG_PER_S, WRONG_AT_ONCE = 10 / 60, 10
"""Wrong tokens of one address that are answered and noted; more get 429. It keeps the audit log small; nobody guesses
256 bits. Right ones pass all the while, so that nobody behind the same address is locked out."""
NOTED_PER_S, NOTED_AT_ONCE = 2, 100
"""Refusals that go to the audit log, of all addresses together: 35 MB a day at worst, whoever knocks."""
CALLS = "/v1/calls/"
STRANGER = "sipagent.stranger"
"""In the ASGI scope: this one has no login, tell them little."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who comes, and what they may. Names with a space are no token's."""

    name: str
    scope: Scope


BY_SOCKET = Who("unix socket", Scope.ADMIN)
NO_LOGIN = Who("no login", Scope.ADMIN)
NOBODY = Who("", Scope.NOBODY)


class Refused(Exception):
    """Not let in; becomes the answer."""

    def __init__(self, status: int, title: str, detail: str, *, noted: bool = True, **headers: str) -> None:
        super().__init__(status, title, detail)
        self.status, self.title, self.detail, self.noted = status, title, detail, noted
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Door:
    """In front of `app`; `within` makes the one that the Unix socket leads to."""

    def __init__(
        self,
        app: ASGIApp,
        control: ControlSettings,
        tokens: Tokens,
        audit: Audit,
        clock: Callable[[], float] = time.monotonic,
        refused: Counter[int] | None = None,
    ) -> None:
        """`refused` counts, by HTTP status, who was not let in."""
        self._app, self._control, self._tokens, self._audit, self._clock = app, control, tokens, audit, clock
        self._networks = [ipaddress.ip_network(network) for network in control.networks]
        self._refused = Counter() if refused is None else refused
        self._pace = Pace(control.requests_per_s, math.ceil(control.requests_per_s * BURST_S))
        self._wrong = Pace(WRONG_PER_S, WRONG_AT_ONCE)
        self._refusals = Pace(NOTED_PER_S, NOTED_AT_ONCE)

    def within(self) -> ASGIApp:
        """The same for whoever could open the Unix socket."""

        async def app(request: Request, receive: Receive, send: Send) -> None:
            await self._enter(request, receive, send, BY_SOCKET)

        return app

    async def __call__(self, request: Request, receive: Receive, send: Send) -> None:
        """Somebody comes by the network."""
        await self._enter(request, receive, send, None)

    async def _enter(self, request: Request, receive: Receive, send: Send, who: Who | None) -> None:
        if request["type"] != "http":  # there is no WebSocket here; whoever adds one thinks of this line
            await send({"type": "websocket.close", "code": 1008})
            return
        scope, call_id = needed(request["method"], request["path"])
        try:
            who = who or self._who(request)
            self._may(who, scope, request)
        except Refused as refused:
            self._refused[refused.status] += 1
            if refused.noted and not self._refusals.wait_s("", self._clock()):
                self._note(request, who or NOBODY, call_id, refused.status, refused.detail)
            answer = problem(refused.status, refused.title, refused.detail)
            answer.headers.update(refused.headers)
            await answer(request, receive, send)
            return
        request[STRANGER] = who is NOBODY
        if scope < Scope.OPERATOR:  # what viewers may changes nothing and tells nothing that was said
            await self._app(request, receive, send)
            return
        noted = False

        async def noting(message: Message) -> None:
            nonlocal noted
            if message["type"] == "http.response.start" and not noted:
                noted = True
                self._note(request, who, call_id or _begun(message), message["status"])
            await send(message)

        try:
            await self._app(request, receive, noting)
        finally:
            if not noted:
                self._note(request, who, call_id, 0)

    def _who(self, request: Request) -> Who:
        """By their address and their token."""
        address, headers = _address(request), dict(request["headers"])
        if self._networks and not self._from_here(address):
            raise Refused(403, "Not from there", "this address is not in [control] networks")
        if self._control.login == "off":
            _no_browser(headers)
            return NO_LOGIN
        scheme, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not secret:
            return NOBODY
        token = self._tokens.find(secret.strip(), dt.datetime.now(dt.UTC)) if scheme.lower() == "bearer" else None
        if token is None:
            raise self._wrong_token(address, "this token is not known, was revoked, or has expired", "invalid_token")
        return Who(token.name, Scope[token.scope.upper()])

    def _may(self, who: Who, scope: Scope, request: Request) -> None:
        if who is BY_SOCKET or (who is NOBODY and scope is Scope.NOBODY):
            return
        if who is NOBODY:
            raise self._wrong_token(_address(request), "a token is needed: Authorization: Bearer sipagent_...")
        if wait_s := self._pace.wait_s(who.name if who is not NO_LOGIN else _address(request), self._clock()):
            detail = f"more than [control] requests_per_s = {self._control.requests_per_s:g}"
            raise Refused(429, "Too many requests", detail, noted=False, Retry_After=str(math.ceil(wait_s)))
        if who.scope < scope:
            word = scope.name.lower()
            challenge = f'Bearer realm="sipagent", error="insufficient_scope", scope="{word}"'
            detail = f"this token is a {who.scope.name.lower()}'s, and this needs {word}"
            raise Refused(403, "Not with this token", detail, WWW_Authenticate=challenge)

    def _wrong_token(self, address: str, detail: str, error: str = "") -> Refused:
        if wait_s := self._wrong.wait_s(address, self._clock()):
            why = "too many requests without a token that counts"
            return Refused(429, "Too many requests", why, noted=False, Retry_After=str(math.ceil(wait_s)))
        challenge = 'Bearer realm="sipagent"' + (f', error="{error}"' if error else "")
        return Refused(401, "Who are you?", detail, WWW_Authenticate=challenge)

    def _from_here(self, address: str) -> bool:
        with contextlib.suppress(ValueError):
            one = ipaddress.ip_address(address)
            one = getattr(one, "ipv4_mapped", None) or one
            return one.is_loopback or any(one in network for network in self._networks)
        return False

    def _note(self, request: Request, who: Who, call_id: str, status: int, why: str = "") -> None:
        self._audit.write(
            Deed(
                at=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
                who=who.name,
                address=_address(request),
                method=request["method"],
                path=request["path"][:LONGEST_PATH],
                status=status,
                call_id=call_id,
                why=why,
            )
        )


def _address(request: Request) -> str:
    client = request.get("client")
    return client[0] if client else ""


def _begun(message: Message) -> str:
    """Id of the call that this answer says has begun."""
    location = dict(message.get("headers", ())).get(b"location", b"").decode("latin-1")
    return location.removeprefix(CALLS) if location.startswith(CALLS) else ""


def _no_browser(headers: Mapping[bytes, bytes]) -> None:
    """Without a login a page from anywhere, open in a browser of this machine, must reach nothing.

    It could send requests as its own (they carry Origin), or have its own name lead to this machine (Host).
    """
    host = headers.get(b"host", b"").decode("latin-1")
    name = urlsplit(f"//{host}").hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(name).is_loopback:
            name = "localhost"
    if name != "localhost":
        detail = f'{host!r} is not this machine: with a proxy in front set [control] login = "tokens"'
        raise Refused(403, "Not by that name", detail)
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and urlsplit(origin).netloc != host:
        raise Refused(403, "Not from a page elsewhere", f"{origin[:LONGEST_PATH]!r} is not this node")
