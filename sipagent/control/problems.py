"""Problem details (RFC 9457): how the API says no."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from sipagent.errors import NoSuchCall, OrderRefused

_SHAPE = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}


def says(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: these, as problem details."""
    content = {"application/problem+json": {"schema": _SHAPE}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """A refusal that says what, and why."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


async def answered(order: Awaitable[object], status: int = 202) -> Response:
    """What became of an order: `status`, 404 where its call is over, 409 where it cannot be done now."""
    try:
        await order
    except NoSuchCall as error:
        return problem(404, "No such call", str(error))
    except OrderRefused as error:
        return problem(409, "It cannot be done now", str(error))
    return Response(status_code=status)
