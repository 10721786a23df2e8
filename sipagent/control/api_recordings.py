"""Recordings by HTTP: pause and resume those that run, list, fetch and delete those that are kept.

What touches the disk is a plain function here: FastAPI runs those in threads, and the loop goes on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from sipagent import orders
from sipagent.control.operator import Operator
from sipagent.control.problems import answered, problem, says
from sipagent.control.recordings.shelf import MEDIA_TYPES, Kept, Shelf
from sipagent.errors import RecordingUnreadable


class PauseView(BaseModel):
    """Silence in the file, because nobody was to be listened to; seconds from its beginning."""

    by: str
    from_s: float
    to_s: float


class RecordingView(BaseModel):
    """One recording, the caller left and the agent right."""

    recording_id: str
    call_id: str
    started: dt.datetime
    seconds: float
    format: str
    encrypted: bool
    """On the disk; whoever fetches it here gets it decrypted."""
    audio_bytes: int
    bytes: int
    """On the disk, and there ..."""
    sha256: str
    lost_ms: int
    cut: bool
    """Its worker died: up to a second is missing at the end."""
    pauses: list[PauseView]


class Recordings(BaseModel):
    """Newest first."""

    recordings: list[RecordingView]


def router(shelf: Shelf, operator: Operator) -> APIRouter:
    """The paths under /v1/recordings, and those of a live call's recording."""
    out = APIRouter(tags=["recordings"])

    @out.post("/v1/calls/{call_id}/recording/pause", status_code=204, response_class=Response, responses=says(404, 409))
    async def pause(call_id: str) -> Response:
        """Write nothing of this call until it is resumed; the file has silence there."""
        return await answered(operator.order(orders.PauseRecording(call_id=call_id)), 204)

    @out.post(
        "/v1/calls/{call_id}/recording/resume", status_code=204, response_class=Response, responses=says(404, 409)
    )
    async def resume(call_id: str) -> Response:
        """The operator's pause is over; one of the agent's may last."""
        return await answered(operator.order(orders.ResumeRecording(call_id=call_id)), 204)

    @out.get("/v1/recordings")
    def recordings(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Recordings:
        """Those that are over and kept."""
        return Recordings(recordings=[_view(kept) for kept in shelf.listed(limit)])

    @out.get("/v1/recordings/{recording_id}", response_model=RecordingView, responses=says(404))
    def recording(recording_id: str) -> Response | RecordingView:
        """What one of them is."""
        try:
            return _view(shelf.get(recording_id))
        except KeyError:
            return _not_there()

    @out.get("/v1/recordings/{recording_id}/audio", response_class=Response, responses=says(404, 409))
    def audio(recording_id: str) -> Response:
        """Its sound, decrypted: WAV, or Opus in Ogg. In parts (Range) if it is not encrypted."""
        try:
            kept = shelf.get(recording_id)
        except KeyError:
            return _not_there()
        media_type, name = MEDIA_TYPES[kept.format], f"{kept.recording_id}.{kept.format}"
        try:
            pieces = _begun(shelf.audio(kept))
        except RecordingUnreadable as error:
            return problem(409, "The recording cannot be read", str(error))
        if not kept.encrypted:
            return FileResponse(shelf.path(kept), media_type=media_type, filename=name)
        headers = {
            "Content-Length": str(kept.audio_bytes),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return StreamingResponse(pieces, media_type=media_type, headers=headers)

    @out.delete("/v1/recordings/{recording_id}", status_code=204, response_class=Response, responses=says(404))
    def delete(recording_id: str) -> Response:
        """For good."""
        try:
            shelf.delete(recording_id)
        except KeyError:
            return _not_there()
        return Response(status_code=204)

    return out


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """With the first piece read: a wrong key shows before anything has been answered."""
    return chain([next(pieces, b"")], pieces)


def _not_there() -> Response:
    return problem(404, "No such recording", "there is none of this id; one that runs is kept when it ends")


def _view(kept: Kept) -> RecordingView:
    return RecordingView(**msgspec.structs.asdict(kept) | {"pauses": [msgspec.structs.asdict(p) for p in kept.pauses]})
