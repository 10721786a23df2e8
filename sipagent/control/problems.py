"""Problem details (RFC 9457): how the API says no."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

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


_CONTENT = {"application/problem+json": {"schema": _SHAPE}}
REFUSALS: dict[int | str, dict[str, Any]] = {"4XX": {"description": "It is refused, and why", "content": _CONTENT}}
"""Of every route."""


def says(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: these, as problem details."""
    return {status: {"description": HTTPStatus(status).phrase, "content": _CONTENT} for status in statuses}


def speak_of(app: FastAPI) -> None:
    """What the framework refuses by itself is told in the same way: no such path, a wrong method, a value of no use."""
    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refused)


async def _refused(_request: Request, error: Exception) -> Response:
    match error:
        case HTTPException():
            answer = problem(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail))
            answer.headers.update(error.headers or {})
            return answer
        case RequestValidationError():
            wrong = (f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
            return problem(422, "What was sent is not of use", "; ".join(wrong))
    raise error


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
