"""Who may do what: every path of the API, and the least a token must be for it. Here, so that one page answers it.

Viewers see how the node does and which calls there were; what was said, and everything that touches a call or costs
money, is the operators'; what changes the node, or destroys for good, the admins'. A path that nobody has listed is the
admins' alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from starlette.routing import compile_path

from sipagent.control.problems import says


class Scope(IntEnum):
    """Each may what those before it may."""

    NOBODY = 0
    """Strangers: health checks."""
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


SCOPES = {
    Scope.NOBODY: ("GET /healthz", "GET /readyz"),
    Scope.VIEWER: (
        "GET /openapi.json",
        "GET /docs",
        "GET /docs/oauth2-redirect",
        "GET /metrics",
        "GET /v1/calls",
        "GET /v1/calls/live",
        "GET /v1/drain",
        "GET /v1/probes",
        "GET /v1/recordings",
        "GET /v1/recordings/{recording_id}",
        "GET /v1/webhooks/deliveries",
    ),
    Scope.OPERATOR: (
        "POST /v1/calls",
        "GET /v1/calls/export",
        "GET /v1/calls/{call_id}",
        "DELETE /v1/calls/{call_id}",
        "GET /v1/calls/{call_id}/report.svg",
        "GET /v1/calls/{call_id}/report.txt",
        "POST /v1/calls/{call_id}/message",
        "POST /v1/calls/{call_id}/monitor",
        "DELETE /v1/calls/{call_id}/monitor",
        "POST /v1/calls/{call_id}/takeover",
        "POST /v1/calls/{call_id}/recording/pause",
        "POST /v1/calls/{call_id}/recording/resume",
        "GET /v1/recordings/{recording_id}/audio",
        "GET /v1/callbacks",
        "POST /v1/callbacks",
        "DELETE /v1/callbacks/{callback_id}",
        "GET /v1/messages",
        "POST /v1/messages/{message_id}/heard",
        "DELETE /v1/messages/{message_id}",
        "POST /v1/probes/{name}",
        "POST /v1/webhooks/deliveries/{delivery_id}/resend",
    ),
    Scope.ADMIN: (
        "POST /v1/reload",
        "POST /v1/drain",
        "POST /v1/workers/restart",
        "DELETE /v1/recordings/{recording_id}",
    ),
}

_NEEDED = {operation: scope for scope, operations in SCOPES.items() for operation in operations}
_METHODS: dict[str, list[tuple[Any, Scope]]] = {}
"""Patterns of the paths by method, as the framework itself compiles them."""
for _operation, _scope in sorted(_NEEDED.items(), key=lambda item: "{" in item[0]):  # fixed words before parameters
    _method, _, _path = _operation.partition(" ")
    _METHODS.setdefault(_method, []).append((compile_path(_path)[0], _scope))


def needed(method: str, path: str) -> tuple[Scope, str]:
    """The scope that a request needs, and the id of the call that it is about, if it is about one."""
    for pattern, scope in _METHODS.get("GET" if method == "HEAD" else method, ()):
        if found := pattern.match(path):
            return scope, found.groupdict().get("call_id", "")
    return Scope.ADMIN, ""


def mark(document: dict[str, Any]) -> None:
    """Have an OpenAPI document tell what each path needs, as the role of a bearer token."""
    scheme = {"type": "http", "scheme": "bearer", "description": "`sipagent token create`"}
    document["components"]["securitySchemes"] = {"token": scheme}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if scope := _NEEDED.get(f"{method.upper()} {path}", Scope.ADMIN):
                operation["security"] = [{"token": [scope.name.lower()]}]
                refusals = says(401, 403, 429)
                if "requestBody" in operation:  # the framework's own words: it is no JSON, it is too long
                    refusals |= {400: {"description": "Not JSON."}, 413: {"description": "Too long."}}
                for status, refusal in refusals.items():
                    operation["responses"].setdefault(str(status), refusal)
