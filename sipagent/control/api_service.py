"""The API's drain and restart: before new code, or before the machine goes down."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from sipagent.control.api_calls import Body
from sipagent.control.problems import answered, says
from sipagent.control.upgrade import Upgrade


class Draining(Body):
    """`on` false: calls are taken again."""

    on: bool = True
    end: bool = False
    """Calls that are up go on to [control] drain_to now, or are told goodbye; answered when they have."""


class Restart(Body):
    """How long calls may go on where they are, before they go on elsewhere."""

    wait_s: float = Field(0.0, ge=0, le=7200)


class Left(BaseModel):
    """Calls that are up."""

    calls: int
    with_us: int
    """Those of them that would end with the service: their callers are not with somebody else yet."""


def router(upgrade: Upgrade) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["service"])

    @routes.post("/v1/drain", status_code=202, response_class=Response, responses=says(409))
    async def drain(wanted: Draining) -> Response:
        """No new calls from now on (readyz says 503), or calls again; those that are up go on, or `end`."""
        return await answered(_drain(upgrade, wanted))

    @routes.get("/v1/drain")
    async def drained() -> Left:
        """How many calls are still up."""
        return Left(calls=await upgrade.until_empty(0), with_us=upgrade.with_us)

    @routes.post("/v1/workers/restart", status_code=204, response_class=Response, responses=says(409))
    async def restart(wanted: Restart) -> Response:
        """Restart the workers one after the other; no call is dropped. Answered when all are back."""
        return await answered(upgrade.restart_workers(wanted.wait_s), 204)

    return routes


async def _drain(upgrade: Upgrade, wanted: Draining) -> None:
    await upgrade.drain(on=wanted.on)
    if wanted.on and wanted.end:
        await upgrade.conclude()
