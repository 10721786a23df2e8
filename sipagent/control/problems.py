"""Problem details (RFC 9457): how the API says no."""

from __future__ import annotations

from collections.abc import Awaitable

from fastapi import Response
from fastapi.responses import JSONResponse

from sipagent.errors import NoSuchCall, OrderRefused


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
