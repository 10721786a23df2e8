"""The API's probes: what came of the last ones, and one now."""

from __future__ import annotations

import datetime as dt

from fastapi import APIRouter, Response
from pydantic import BaseModel

from sipagent.control.probes import Probes
from sipagent.control.problems import problem, says
from sipagent.orders import ProbeResult


class ResultView(BaseModel):
    """How a probe went; milliseconds count from the INVITE."""

    name: str
    trunk: str
    call_id: str
    at: dt.datetime
    ok: bool
    why: str
    """What was wrong; empty when it passed."""
    cause: int
    """Q.850, 0 where nobody named one."""
    answer_ms: float | None
    voice_ms: float | None
    """The agent's first sound."""
    mos: float | None
    loss_percent: float | None
    jitter_ms: float | None
    rtt_ms: float | None


class ProbeView(BaseModel):
    """One probe through one trunk."""

    name: str
    trunk: str
    number: str
    every_s: float
    running: bool
    last: ResultView | None


class ProbeList(BaseModel):
    """In the order of the configuration."""

    probes: list[ProbeView]


class Results(BaseModel):
    """One for each trunk."""

    results: list[ResultView]


def router(probes: Probes) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/probes", tags=["probes"])

    @routes.get("")
    async def listed() -> ProbeList:
        """Every probe of the configuration, and how it went last."""
        return ProbeList(
            probes=[
                ProbeView(
                    name=name,
                    trunk=trunk,
                    number=probe.number,
                    every_s=probe.every_s,
                    running=place.running is not None,
                    last=_result(place.last) if place.last else None,
                )
                for name, trunk, probe, place in probes.all()
            ]
        )

    @routes.post("/{name}", response_model=Results, responses=says(404))
    async def now(name: str) -> Response | Results:
        """Probe now, through each of its trunks; answered when it is over."""
        try:
            found = await probes.now(name)
        except KeyError:
            return problem(404, "No such probe", f"there is no [probes.{name}]")
        return Results(results=[_result(result) for result in found])

    return routes


def _result(result: ProbeResult) -> ResultView:
    facts = {name: getattr(result, name) for name in ResultView.model_fields}
    return ResultView(**facts | {"at": dt.datetime.fromtimestamp(result.at, dt.UTC)})
