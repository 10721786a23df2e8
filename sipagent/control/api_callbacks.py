"""The API's call-backs and messages: what was promised to callers, and what they left."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from sipagent.config import Settings
from sipagent.control.api_calls import Name
from sipagent.control.api_records import Problem, Route, there
from sipagent.control.operator import Operator
from sipagent.control.problems import says
from sipagent.records.service import Records
from sipagent.records.tables import Callback, Message

MessageId = Annotated[int, Path(ge=1, lt=2**63)]
"""What fits the database's column."""


class NewCallback(BaseModel):
    """A call to be made later, again until somebody answers."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(min_length=1, max_length=64, examples=["+442079460123"])
    agent: str = Field(min_length=1, max_length=64)
    trunk: str = Field("", max_length=64)
    """Empty: those of [outbound], in order."""
    reason: str = Field("", max_length=500)
    """The agent is told."""
    variables: dict[Name, Annotated[str, Field(max_length=1000)]] = Field({}, max_length=50)
    not_before: dt.datetime | None = None
    """With its time zone; none: now."""
    not_after: dt.datetime | None = None
    """Given up then; none: as [outbound] expire_after_s says."""
    attempts: int | None = Field(None, ge=1, le=20)


class CallbackView(BaseModel):
    """One call-back."""

    id: str
    number: str
    agent: str
    trunk: str
    reason: str
    call_id: str
    """Of the call in which it was promised."""
    state: Literal["waiting", "dialling", "done", "failed", "expired", "cancelled"]
    attempts: int
    max_attempts: int
    last_disposition: str
    next_at: dt.datetime
    not_after: dt.datetime


class CallbackList(BaseModel):
    """Newest first."""

    callbacks: list[CallbackView]


class MessageView(BaseModel):
    """What a caller left with an agent."""

    id: int
    mailbox: str
    text: str
    number: str
    call_id: str
    at: dt.datetime
    heard: bool


class MessageList(BaseModel):
    """Newest first."""

    messages: list[MessageView]


def router(records: Records | None, operator: Operator, settings: Callable[[], Settings]) -> APIRouter:
    """The routes; without records nothing can be kept for later. `settings` gives the configuration in force."""
    routes = APIRouter(tags=["call-backs and messages"], route_class=Route, responses=says(503))

    def kept() -> Records:
        if records is None:
            raise Problem(503, "There are no records", "the configuration says [records] enabled = false")
        return records

    @routes.post("/v1/callbacks", status_code=201, responses=says(403))
    async def new_callback(
        wanted: NewCallback, idempotency_key: Annotated[str, Header(max_length=255)] = ""
    ) -> CallbackView:
        """Queue a call; the same Idempotency-Key queues it once."""
        now, outbound = time.time(), settings().outbound
        number = operator.checked(wanted.to, wanted.agent, (wanted.trunk,) if wanted.trunk else ())
        begin = wanted.not_before.timestamp() if wanted.not_before else now
        row = await there(
            kept().callbacks.add(
                number=number,
                agent=wanted.agent,
                trunk=wanted.trunk,
                reason=wanted.reason,
                variables=wanted.variables,
                not_before=begin,
                not_after=wanted.not_after.timestamp() if wanted.not_after else begin + outbound.expire_after_s,
                max_attempts=wanted.attempts or outbound.attempts,
                idempotency_key=idempotency_key or None,
                now=now,
            )
        )
        return _callback(row)

    @routes.get("/v1/callbacks")
    async def callbacks(
        state: Literal["", "waiting", "dialling", "done", "failed", "expired", "cancelled"] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> CallbackList:
        """What was promised, and what became of it."""
        return CallbackList(callbacks=[_callback(row) for row in await there(kept().callbacks.list(state, limit))])

    @routes.delete("/v1/callbacks/{callback_id}", status_code=204, response_class=Response, responses=says(409))
    async def cancel(callback_id: str) -> Response:
        """It is not made."""
        if not await there(kept().callbacks.cancel(callback_id)):
            raise Problem(409, "Not cancelled", "there is none of this id that waits")
        return Response(status_code=204)

    @routes.get("/v1/messages")
    async def messages(
        mailbox: str = "", *, new: bool = False, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> MessageList:
        """What callers have left with agents (`take_message`)."""
        found = await there(kept().messages.list(mailbox, only_new=new, limit=limit))
        return MessageList(messages=[_message(row) for row in found])

    @routes.post("/v1/messages/{message_id}/heard", status_code=204, response_class=Response, responses=says(404))
    async def heard(message_id: MessageId) -> Response:
        """Somebody has read it."""
        if not await there(kept().messages.heard(message_id, time.time())):
            raise Problem(404, "No such message", "there is none of this id")
        return Response(status_code=204)

    @routes.delete("/v1/messages/{message_id}", status_code=204, response_class=Response, responses=says(404))
    async def remove(message_id: MessageId) -> Response:
        """For good."""
        if not await there(kept().messages.remove(message_id)):
            raise Problem(404, "No such message", "there is none of this id")
        return Response(status_code=204)

    return routes


def _moment(unix: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, dt.UTC)


def _callback(row: Callback) -> CallbackView:
    return CallbackView(
        id=row.id,
        number=row.number,
        agent=row.agent,
        trunk=row.trunk,
        reason=row.reason,
        call_id=row.call_id,
        state=row.state,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        last_disposition=row.last_disposition,
        next_at=_moment(row.next_at),
        not_after=_moment(row.not_after),
    )


def _message(row: Message) -> MessageView:
    return MessageView(
        id=row.id,
        mailbox=row.mailbox,
        text=row.text,
        number=row.number,
        call_id=row.call_id,
        at=_moment(row.at),
        heard=row.heard_at is not None,
    )
