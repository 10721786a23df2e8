"""The API's live calls: begin one, end one, look in on one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from sipagent import orders
from sipagent.control.operator import Operator, Wanted
from sipagent.control.problems import answered, problem, says
from sipagent.errors import OrderRefused

Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,39}$")]


class Body(BaseModel):
    """What we are sent: nothing that we do not know."""

    model_config = ConfigDict(extra="forbid")


class NewCall(Body):
    """A call out. What is left out is as [outbound] says."""

    to: str = Field(min_length=1, max_length=64, examples=["+442079460123"])
    agent: str = Field(min_length=1, max_length=64)
    trunk: str | list[str] = []
    """One, or several that are tried in order; all of them in [outbound] trunks."""
    caller_id: str = Field("", max_length=32)
    """Our number as they see it: one of the trunk's caller_id.allow."""
    answer_within_s: float | None = Field(None, ge=3, le=300)
    variables: dict[Name, Annotated[str, Field(max_length=1000)]] = Field({}, max_length=50)
    """{name} in the agent's instructions, tools and message."""
    detect: bool | None = None
    machine: Literal["hang_up", "message", "agent"] | None = None
    message: str | None = Field(None, max_length=1000)


class CallBegun(BaseModel):
    """It rings, or soon does."""

    call_id: str


class Message(Body):
    """For the agent's ear alone."""

    text: str = Field(min_length=1, max_length=4000)
    answer: bool = False
    """The agent speaks at once."""


class Look(Body):
    """Who looks in: a name of [supervisors]."""

    supervisor: str = Field(min_length=1, max_length=64)


class Takeover(Look):
    """The supervisor speaks with the caller."""

    agent: Literal["leaves", "stays"] = "leaves"
    """stays: all three hear each other."""


def build(operator: Operator) -> APIRouter:
    """The routes over what the operator may ask."""
    router = APIRouter(prefix="/v1/calls", tags=["calls"])

    @router.post("", status_code=201, response_model=CallBegun, responses=says(403))
    async def new_call(
        call: NewCall, response: Response, idempotency_key: Annotated[str, Header(max_length=255)] = ""
    ) -> Response | CallBegun:
        """Call somebody and put an agent on the line; the same Idempotency-Key never calls twice."""
        wanted = Wanted(
            to=call.to,
            agent=call.agent,
            trunks=(call.trunk,) if isinstance(call.trunk, str) else tuple(call.trunk),
            caller_id=call.caller_id,
            ring_s=call.answer_within_s,
            variables=call.variables,
            detect=call.detect,
            machine=call.machine,
            message=call.message,
        )
        try:
            begun = CallBegun(call_id=await operator.dial_once(wanted, idempotency_key))
        except OrderRefused as error:
            return problem(403, "The call is not made", str(error))
        response.headers["Location"] = f"/v1/calls/{begun.call_id}"
        return begun

    @router.delete("/{call_id}", status_code=202, response_class=Response, responses=says(404, 409))
    async def delete_call(call_id: str) -> Response:
        """Hang up a call."""
        return await answered(operator.order(orders.HangUp(call_id=call_id)))

    @router.post("/{call_id}/message", status_code=202, response_class=Response, responses=says(404, 409))
    async def message(call_id: str, said: Message) -> Response:
        """Whisper to the agent: it acts on it, the caller does not hear it."""
        return await answered(operator.order(orders.Tell(call_id=call_id, text=said.text, answer=said.answer)))

    @router.post("/{call_id}/monitor", status_code=202, response_class=Response, responses=says(404, 409))
    async def monitor(call_id: str, look: Look) -> Response:
        """Ring a supervisor, who then hears both sides and is heard by nobody."""
        return await answered(operator.supervise(call_id, look.supervisor, "monitor"))

    @router.delete("/{call_id}/monitor", status_code=202, response_class=Response, responses=says(404, 409))
    async def stop_monitor(call_id: str) -> Response:
        """The supervisor leaves, the call goes on."""
        return await answered(operator.order(orders.Dismiss(call_id=call_id)))

    @router.post("/{call_id}/takeover", status_code=202, response_class=Response, responses=says(404, 409))
    async def takeover(call_id: str, take: Takeover) -> Response:
        """Ring a supervisor (or take the one who is listening) and let them speak with the caller."""
        how = "takeover" if take.agent == "leaves" else "barge"
        return await answered(operator.supervise(call_id, take.supervisor, how))

    return router
