"""Who is let in: API keys, ephemeral tokens, and the refusals in xAI's words.

xAI answers a missing credential with 401 but a wrong key with 400 (measured), so that is what happens here.
No key and no token is ever logged or echoed.
"""

from __future__ import annotations

import hmac
import json
import secrets

from aiohttp import web

_TOKEN_PREFIX = "xai-realtime-client-secret-"  # noqa: S105 - the public prefix of tokens, not a secret
_SUBPROTOCOLS = ("xai-client-secret.", "openai-insecure-api-key.")
_DEFAULT_S, _LONGEST_S = 600, 3600  # documented life of an ephemeral token
_MAX_TOKENS = 10_000

_BODIES = {
    400: ("Client specified an invalid argument", "Incorrect API key provided. (stand-in)"),
    401: ("Unauthenticated", "No credential was given. (stand-in)"),
    403: ("The caller does not have permission", "The key lacks the right to use voice. (stand-in)"),
    429: ("Some resource has been exhausted", "Too many concurrent sessions for this team. (stand-in)"),
    503: ("The service is currently unavailable", "Try again later. (stand-in)"),
}


def refusal(status: int) -> web.Response:
    """The answer to a handshake that is refused."""
    code, text = _BODIES[status]
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return web.json_response({"code": code, "error": text}, status=status, headers=headers)


class Doorman:
    """Checks credentials and hands out ephemeral tokens."""

    def __init__(self, api_keys: frozenset[str] | None) -> None:
        """`None` lets any non-empty key in."""
        self._keys = None if api_keys is None else [key.encode() for key in api_keys]
        self._tokens: dict[str, float] = {}  # token: Unix time of its end

    def refuse(self, request: web.Request, ordered: int | None, now: float) -> web.Response | None:
        """The refusal of this request, or None to let it in; `now` is Unix time."""
        if ordered is not None:
            return refusal(ordered)
        credential = _credential(request)
        if not credential:
            return refusal(401)
        if not self._known(credential, now):
            return refusal(400)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response(
                {"code": "Upgrade required", "error": "This is a WebSocket endpoint. (stand-in)"},
                status=426,
                headers={"Upgrade": "websocket"},
            )
        return None

    def protocols(self, request: web.Request) -> tuple[str, ...]:
        """The subprotocols to agree to: `realtime` if offered, else the first offered (browsers insist on one)."""
        offered = _offered(request)
        return ("realtime",) if "realtime" in offered else tuple(offered[:1])

    async def client_secret(self, request: web.Request, now: float) -> web.Response:
        """`POST /v1/realtime/client_secrets`; `now` is Unix time."""
        credential = _credential(request)
        if not credential:
            return refusal(401)
        if not self._known(credential, now) or credential in self._tokens:
            return refusal(400)
        try:
            body = json.loads(await request.read() or b"{}")
            seconds = body.get("expires_after", {}).get("seconds", _DEFAULT_S)
        except (ValueError, AttributeError, RecursionError):
            seconds = None
        if not isinstance(seconds, int) or not 1 <= seconds <= _LONGEST_S:
            return web.json_response(
                {
                    "code": "Client specified an invalid argument",
                    "error": f"expires_after.seconds must be a whole number from 1 to {_LONGEST_S}",
                },
                status=400,
            )
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        if len(self._tokens) >= _MAX_TOKENS:
            return refusal(429)
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
