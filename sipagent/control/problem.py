"""What the API answers when it cannot do what it was asked: problem details, RFC 9457."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse


class Problem(Exception):
    """Raised by a route; becomes the answer."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(status, title, detail)
        self.status, self.title, self.detail = status, title, detail

    @property
    def response(self) -> JSONResponse:
        """As JSON."""
        return problem(self.status, self.title, self.detail)


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """The answer itself."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


async def answer(_request: Request, error: Exception) -> JSONResponse:
    """For FastAPI: how a Problem that was raised is told."""
    if not isinstance(error, Problem):
        raise error
    return error.response
