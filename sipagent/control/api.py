"""The HTTP API of the control process: alive, ready, live calls; what is over is in `api_records`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel

from sipagent import __version__
from sipagent.control.door import STRANGER
from sipagent.control.live import Live, LiveCall, LiveWorker
from sipagent.control.problems import REFUSALS, problem, says, speak_of
from sipagent.control.scopes import mark
from sipagent.errors import SipAgentError


class WorkerView(BaseModel):
    """One worker."""

    worker: int
    pid: int
    ready: bool
    asterisk: str
    calls: int
    events_dropped: int


class CallView(BaseModel):
    """One live call. Numbers are whole: the API is for the operator."""

    call_id: str
    state: str
    worker: int
    caller: str
    called: str
    route: str
    step: str
    agent: str
    endpoint: str
    codec: str
    direction: str
    disposition: str
    """Who answered a call out."""
    held_by: str
    """caller or agent, while they hold the call."""
    recording: str
    """on, paused, or empty."""
    place: int
    """In line for a session with the model; 0: they do not wait."""
    model: str
    seconds: float
    turns: int
    barge_ins: int
    tool: str
    """What runs for the caller now; empty: nothing."""
    tool_calls: int
    tool_errors: int
    last_latency_ms: float | None


class Ready(BaseModel):
    """Whether the node takes calls, and if not, why."""

    ready: bool
    reasons: list[str]
    troubles: list[str] = []
    """What is wrong and no reason to take no calls: the database is away, a realtime endpoint cannot be reached."""
    workers: list[WorkerView]


class Reloaded(BaseModel):
    """The configuration is in force."""

    needs_restart: list[str]
    """Sections that were changed and are read at the start only."""
    note: str = ""
    """What the operator should know: that Asterisk is away and has not read it, say."""


class Calls(BaseModel):
    """Live calls, oldest first."""

    calls: list[CallView]


Reload = Callable[[], Awaitable[Reloaded]]
MAX_BODY_BYTES = 1 << 20
"""The largest there is, a call's variables, is 50 KB."""


class Api(FastAPI):
    """Whose description tells who may do what."""

    def openapi(self) -> dict[str, Any]:
        """FastAPI makes it once, and anew when there is another route."""
        document = super().openapi()
        if "securitySchemes" not in document.setdefault("components", {}):
            mark(document)
        return document


def build(live: Live, reload: Reload, *more: APIRouter, troubles: Callable[[], list[str]] = list) -> FastAPI:
    """The application over the node's live state, and `more`. `troubles` are for readyz.

    `reload()` raises what is wrong with the file.
    """
    app = Api(
        title="sipagent",
        version=__version__,
        docs_url="/docs",
        redoc_url=None,
        max_body_size=MAX_BODY_BYTES,
        responses=REFUSALS,
    )
    speak_of(app)

    @app.get("/healthz")
    async def healthz(request: Request) -> dict[str, str]:
        """The control process is alive; strangers are not told its version."""
        return {"status": "ok"} | ({} if request.scope.get(STRANGER) else {"version": __version__})

    @app.get("/readyz", responses={503: {"model": Ready}})
    async def readyz(request: Request, response: Response) -> Ready:
        """The node takes calls: every worker is there, with its Asterisk, and none is draining.

        Without a token, where one is asked for, it says whether, and not why.
        """
        reasons = live.why_not_ready()
        response.status_code = 503 if reasons else 200
        if request.scope.get(STRANGER):
            return Ready(ready=not reasons, reasons=[], workers=[])
        workers = [_worker(worker) for worker in live.workers.values()]
        return Ready(ready=not reasons, reasons=reasons, troubles=troubles(), workers=workers)

    @app.get("/v1/calls/live")
    async def calls() -> Calls:
        """Calls that live now."""
        return Calls(calls=[_call(call) for call in live.calls.values()])

    @app.post("/v1/reload", response_model=Reloaded, responses=says(422))
    async def reload_configuration() -> Response | Reloaded:
        """Read the configuration anew; new calls get it, calls that are up keep theirs."""
        try:
            return await reload()
        except SipAgentError as error:
            return problem(422, "The configuration was not taken", str(error))

    for router in more:
        app.include_router(router)
    return app


def _worker(worker: LiveWorker) -> WorkerView:
    state = worker.state
    return WorkerView(
        worker=worker.number,
        pid=worker.pid,
        ready=worker.ready,
        asterisk=state.asterisk_version if state else "",
        calls=state.calls if state else 0,
        events_dropped=state.events_dropped if state else 0,
    )


def _call(call: LiveCall) -> CallView:
    return CallView(
        call_id=call.call_id,
        state=call.state,
        worker=call.worker,
        caller=call.caller,
        called=call.called,
        route=call.route,
        step=call.step,
        agent=call.agent,
        endpoint=call.endpoint,
        codec=call.codec,
        direction=call.direction,
        disposition=call.disposition,
        held_by=call.held_by,
        recording=call.recording,
        place=call.place,
        model=call.realtime_model,
        seconds=round(time.time() - call.started_at, 1),
        turns=call.turns,
        barge_ins=call.barge_ins,
        tool=call.tool,
        tool_calls=call.tool_calls,
        tool_errors=call.tool_errors,
        last_latency_ms=call.last_latency_ms,
    )
