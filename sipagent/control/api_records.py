"""The API of the records: calls as a list, one by one, as a picture, and all of them as a stream."""

from __future__ import annotations

import csv
import datetime as dt
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from sipagent.control.problems import problem, says
from sipagent.errors import OrderRefused
from sipagent.records import database, picture, report
from sipagent.records.service import Records
from sipagent.records.store import PAGE_MOST, BadCursor, Filter, as_kept

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula; a caller chooses their own number."""


class Problem(Exception):
    """Raised by what a route asks; becomes the route's answer."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(status, title, detail)
        self.status, self.title, self.detail = status, title, detail


class Route(APIRoute):
    """A route that answers with the problem that was raised in it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Around FastAPI's own."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as raised:
                return problem(raised.status, raised.title, raised.detail)
            except OrderRefused as refusal:
                return problem(403, "It is not done", str(refusal))

        return answer


class CallSummary(BaseModel):
    """One call. The first fields are Asterisk's CDR; times are UTC, lengths seconds unless their name says ms."""

    id: str
    uniqueid: str
    linkedid: str
    src: str
    dst: str
    start: dt.datetime
    answer: dt.datetime | None
    end: dt.datetime | None
    duration: float | None
    billsec: float | None
    disposition: str
    state: Literal["live", "ended", "lost"]
    direction: str
    trunk: str
    route: str
    destination: str
    agent: str
    step: str
    codec: str
    worker: int
    result: str
    reason: str
    fault: str
    detail: str
    cause: int | None
    answered_by: str
    spoken: int
    turns: int
    barge_ins: int
    false_barge_ins: int
    tools: int
    tool_errors: int
    transfers: int
    recorded: bool
    setup_ms: float | None
    first_audio_ms: float | None
    latency_avg_ms: float | None
    latency_max_ms: float | None
    mos: float | None
    realtime_model: str
    conversation_id: str
    connect_ms: float | None
    counters: dict[str, int]
    quality: dict[str, Any]


class CallPage(BaseModel):
    """Calls, newest first."""

    calls: list[CallSummary]
    next: str
    """`cursor` of the page behind this one; empty: it is the last."""


class DeliveryView(BaseModel):
    """One webhook to one receiver."""

    id: str
    """Also the header `webhook-id`."""
    webhook: str
    type: str
    call_id: str
    created_at: dt.datetime
    next_at: dt.datetime
    attempts: int
    state: Literal["pending", "delivered", "dead"]
    last_status: int | None
    last_error: str
    delivered_at: dt.datetime | None


class Deliveries(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[DeliveryView]
    by_state: dict[str, int]
    """How many there are in all."""


class Wanted(BaseModel):
    """Which calls."""

    since: Annotated[
        dt.datetime | None, Query(alias="from", description="Begun then or later; UTC without a zone.")
    ] = None
    until: Annotated[dt.datetime | None, Query(alias="to", description="Begun before it.")] = None
    state: Literal["", "live", "ended", "lost"] = ""
    direction: Literal["", "in", "out"] = ""
    trunk: str = ""
    route: str = ""
    agent: str = ""
    result: str = ""
    reason: str = ""
    number: str = ""
    """Exactly, of either side."""

    def filter(self) -> Filter:
        """For the store."""
        values = self.model_dump() | {"since": _unix(self.since), "until": _unix(self.until)}
        return Filter(**values)


WantedQuery = Annotated[Wanted, Query()]


def router(records: Records | None) -> APIRouter:
    """The routes; without records each says that there are none."""
    routes = APIRouter(tags=["records"], route_class=Route, responses=says(503))

    def kept() -> Records:
        if records is None:
            raise Problem(503, "There are no records", "the configuration says [records] enabled = false")
        return records

    @routes.get("/v1/calls", responses=says(400))
    async def calls(
        wanted: WantedQuery,
        limit: Annotated[int, Query(ge=1, le=PAGE_MOST)] = 50,
        cursor: Annotated[str, Query(description="`next` of the page before.")] = "",
    ) -> CallPage:
        """Calls, those that live included, newest first, page by page."""
        try:
            page = await there(kept().store.page(wanted.filter(), limit, cursor))
        except BadCursor as error:
            raise Problem(400, "No such page", str(error)) from None
        return CallPage.model_validate({"calls": page.calls, "next": page.next})

    @routes.get("/v1/calls/export", response_class=StreamingResponse)
    async def export(
        wanted: WantedQuery,
        format: Annotated[Literal["", "csv", "json"], Query()] = "",  # noqa: A002 - the name of the parameter
        accept: Annotated[str, Header()] = "",
    ) -> StreamingResponse:
        """All calls that fit, newest first, as CSV or as a JSON array with a call a line; few of them are in memory."""
        as_csv = format == "csv" or (not format and "text/csv" in accept)
        # Asked for here: an answer that has begun can only break off.
        await there(kept().store.page(wanted.filter(), 1))
        found = kept().store.export(wanted.filter())
        return StreamingResponse(
            _in_chunks(_csv(found) if as_csv else _json(found)),
            media_type="text/csv; charset=utf-8" if as_csv else "application/json",
            headers={"Content-Disposition": f'attachment; filename="calls.{"csv" if as_csv else "json"}"'},
        )

    @routes.get("/v1/calls/{call_id}", responses=says(404))
    async def call(call_id: str, *, events: bool = True) -> dict[str, Any]:
        """Everything of one call: turns, transcript, tools, transfers, legs, recordings, messages, and its events."""
        return await _one(kept(), call_id, events=events)

    @routes.get("/v1/calls/{call_id}/report.svg", response_class=Response, responses=says(404))
    async def report_svg(call_id: str) -> Response:
        """The call as a picture: who spoke when, who waited for what."""
        drawn = report.timeline(await _one(kept(), call_id))
        return Response(picture.svg(drawn), media_type="image/svg+xml")

    @routes.get("/v1/calls/{call_id}/report.txt", response_class=Response, responses=says(404))
    async def report_text(call_id: str) -> Response:
        """The same in words."""
        drawn = report.timeline(await _one(kept(), call_id))
        return Response(report.text(drawn), media_type="text/plain; charset=utf-8")

    @routes.get("/v1/webhooks/deliveries")
    async def deliveries(
        state: Literal["", "pending", "delivered", "dead"] = "",
        webhook: str = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MOST)] = 100,
    ) -> Deliveries:
        """What receivers were told, or could not be told; the newest first."""
        webhooks = kept().webhooks
        found = await there(webhooks.deliveries(state, as_kept(webhook), limit))
        return Deliveries.model_validate({"deliveries": found, "by_state": await there(webhooks.by_state())})

    @routes.post(
        "/v1/webhooks/deliveries/{delivery_id}/resend", status_code=202, response_class=Response, responses=says(404)
    )
    async def resend(delivery_id: str) -> Response:
        """Once more, from the first attempt on; also one that was delivered."""
        if await there(kept().webhooks.resend(as_kept(delivery_id), time.time())):
            return Response(status_code=202)
        raise Problem(404, "No such delivery", "none has this id, or its webhook is no longer configured")

    return routes


async def _one(records: Records, call_id: str, *, events: bool = True) -> dict[str, Any]:
    found = await there(records.store.call(call_id, events=events))
    if found is None:
        raise Problem(404, "No such call", "no record has this id")
    return found


async def there(work: Awaitable[T]) -> T:
    """What the database gives, or a plain word that it is away."""
    try:
        return await work
    except (*database.AWAY, SQLAlchemyError) as error:
        detail = "calls go on and are written once it is back"
        raise Problem(503, "The records cannot be read now", detail) from error


def _unix(moment: dt.datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


async def _json(calls: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    between = b"[\n"
    async for call in calls:
        yield between + msgspec.json.encode(call)
        between = b",\n"
    yield b"\n]\n" if between == b",\n" else b"[]\n"


async def _csv(calls: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    names = [name for name in CallSummary.model_fields if name not in {"counters", "quality"}]
    yield _line(names)
    async for call in calls:
        yield _line([_cell(call[name]) for name in names])


def _line(cells: list[Any]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run is quoted with an apostrophe; a phone number is none."""
    if not isinstance(value, str) or not value.startswith(_FORMULA) or value.lstrip("+").isdecimal():
        return value
    return f"'{value}"


async def _in_chunks(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for line in lines:
        waiting += line
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)
