"""What went wrong, for programs: problem details as in RFC 9457."""

from __future__ import annotations

from fastapi.responses import JSONResponse


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """An answer that says so."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )
