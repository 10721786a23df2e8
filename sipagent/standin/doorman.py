"""Who is let in: API keys, ephemeral tokens, and the refusals in the words of the service that is imitated.

xAI answers a missing credential with 401 but a wrong key with 400 (measured), so that is what happens here;
OpenAI has 401 for both. No key and no token is ever logged or echoed.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from sipagent.standin.config import Dialect

_TOKEN_PREFIX = "xai-realtime-client-secret-"  # noqa: S105 - the public prefix of tokens, not a secret
_SUBPROTOCOLS = ("xai-client-secret.", "openai-insecure-api-key.")
_DEFAULT_S, _LONGEST_S = 600, 3600  # documented life of an ephemeral token
_MAX_TOKENS = 10_000
_INVALID = "Client specified an invalid argument"


@dataclass(frozen=True, slots=True)
class DoorWords:
    """How a service refuses a request."""

    wrong_key: int
    """The status for a key that is not known."""
    body: Callable[[str, str], dict[str, object]]
    """JSON of a refusal, from its code and its text."""
    codes: Mapping[int, tuple[str, str]]
    """Code and text by status."""

    def refusal(self, status: int) -> web.Response:
        """The answer to a request that is refused."""
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        return self.told(status, *self.codes[status], headers=headers)

    def told(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
        """The same with words of its own."""
        return web.json_response(self.body(code, text), status=status, headers=headers)


_OPENAI_TYPES = {"rate_limit_exceeded": "requests", "server_error": "server_error"}


def _openai_body(code: str, text: str) -> dict[str, object]:
    kind = _OPENAI_TYPES.get(code, "invalid_request_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": code}}


DOOR_WORDS: dict[Dialect, DoorWords] = {
    Dialect.XAI: DoorWords(
        wrong_key=400,
        body=lambda code, text: {"code": code, "error": text},
        codes={
            400: (_INVALID, "Incorrect API key provided. (stand-in)"),
            401: ("Unauthenticated", "No credential was given. (stand-in)"),
            403: ("The caller does not have permission", "The key lacks the right to use voice. (stand-in)"),
            429: ("Some resource has been exhausted", "Too many concurrent sessions for this team. (stand-in)"),
            503: ("The service is currently unavailable", "Try again later. (stand-in)"),
        },
    ),
    Dialect.OPENAI: DoorWords(
        wrong_key=401,
        body=_openai_body,
        codes={
            400: ("invalid_request", "The request is not valid. (stand-in)"),
            401: ("invalid_api_key", "Incorrect API key provided, or none. (stand-in)"),
            403: ("insufficient_permissions", "You have insufficient permissions for this operation. (stand-in)"),
            429: ("rate_limit_exceeded", "Rate limit reached for requests. (stand-in)"),
            503: ("server_error", "The server is overloaded or not ready yet. (stand-in)"),
        },
    ),
}


class Doorman:
    """Checks credentials and hands out ephemeral tokens."""

    def __init__(self, api_keys: frozenset[str] | None, words: DoorWords) -> None:
        """`None` lets any non-empty key in."""
        self._words = words
        self._keys = None if api_keys is None else [key.encode() for key in api_keys]
        self._tokens: dict[str, float] = {}  # token: Unix time of its end

    def refuse(self, request: web.Request, ordered: int | None, now: float) -> web.Response | None:
        """The refusal of this request, or None to let it in; `now` is Unix time."""
        if ordered is not None:
            return self._words.refusal(ordered)
        credential = _credential(request)
        if not credential:
            return self._words.refusal(401)
        if not self._known(credential, now):
            return self._words.refusal(self._words.wrong_key)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            text = "This is a WebSocket endpoint. (stand-in)"
            return self._words.told(426, "Upgrade required", text, headers={"Upgrade": "websocket"})
        return None

    def full(self) -> web.Response:
        """The refusal of one session too many."""
        return self._words.refusal(429)

    def protocols(self, request: web.Request) -> tuple[str, ...]:
        """The subprotocols to agree to: `realtime` if offered, else the first offered (browsers insist on one)."""
        offered = _offered(request)
        return ("realtime",) if "realtime" in offered else tuple(offered[:1])

    async def client_secret(self, request: web.Request, now: float) -> web.Response:
        """`POST /v1/realtime/client_secrets`; `now` is Unix time."""
        credential = _credential(request)
        if not credential:
            return self._words.refusal(401)
        if not self._known(credential, now) or credential in self._tokens:
            return self._words.refusal(self._words.wrong_key)
        try:
            body = json.loads(await request.read() or b"{}")
            seconds = body.get("expires_after", {}).get("seconds", _DEFAULT_S)
        except (ValueError, AttributeError, RecursionError):
            seconds = None
        if not isinstance(seconds, int) or not 1 <= seconds <= _LONGEST_S:
            text = f"expires_after.seconds must be a whole number from 1 to {_LONGEST_S}"
            return self._words.told(400, _INVALID, text)
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        if len(self._tokens) >= _MAX_TOKENS:
            return self._words.refusal(429)
        token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._tokens[token] = now + seconds
        return web.json_response({"value": token, "expires_at": int(now + seconds)})

    def _known(self, credential: str, now: float) -> bool:
        if credential.startswith(_TOKEN_PREFIX):
            return self._tokens.get(credential, 0.0) > now
        if self._keys is None:
            return True
        given = credential.encode()
        return any([hmac.compare_digest(given, key) for key in self._keys])  # noqa: C419 - no early end: constant time


def _credential(request: web.Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    for protocol in _offered(request):
        for prefix in _SUBPROTOCOLS:
            if protocol.startswith(prefix):
                return protocol[len(prefix) :]
    return ""


def _offered(request: web.Request) -> list[str]:
    header = request.headers.get("Sec-WebSocket-Protocol", "")
    return [part.strip() for part in header.split(",") if part.strip()]
