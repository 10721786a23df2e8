"""Every no of the API is a problem document, also one that the framework says."""

from __future__ import annotations

import httpx2
import pytest

from sipagent.control import api, api_records
from sipagent.control.live import Live


async def nothing() -> api.Reloaded:
    return api.Reloaded(needs_restart=[])


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/v1/nowhere", 404, "Not Found"),
        ("DELETE", "/v1/calls", 405, "Method Not Allowed"),
        ("GET", "/v1/calls?limit=none&state=odd", 422, "query.state: Input should be"),
        ("GET", "/v1/calls", 503, "[records] enabled"),
    ],
)
async def test_a_refusal_says_what_and_why(method: str, path: str, status: int, detail: str) -> None:
    app = api.build(Live(1), nothing, api_records.router(None))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://node") as client:
        answer = await client.request(method, path)
        document = (await client.get("/openapi.json")).json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    told = answer.json()
    assert (told["status"], told["type"]) == (status, "about:blank")
    assert detail in told["detail"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
