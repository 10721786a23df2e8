"""OpenAI's dialect for tests: a rig that speaks it, and the published types as the judge of every event.

`published` validates an event against openai-python's own pydantic types, and finds the fields that no type
knows: those types let any extra field pass, so a validation alone would too.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from openai.types.realtime import RealtimeServerEvent
from openai.types.realtime.realtime_session_create_response import RealtimeSessionCreateResponse
from pydantic import BaseModel

from sipagent.standin.wire import encode
from tests.standin.harness import VAD, Rig

TYPES: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(RealtimeServerEvent)[0])
}
TRANSCRIPTION = {"model": "gpt-4o-transcribe"}


def session(form: str = "audio/pcmu", **fields: Any) -> dict[str, Any]:
    """A telephone's `session` for `session.update`."""
    incoming = {"format": {"type": form}, "turn_detection": VAD, "transcription": TRANSCRIPTION}
    outgoing = {"format": {"type": form}, "voice": "marin"}
    return {"type": "realtime", "audio": {"input": incoming, "output": outgoing}} | fields


def published(event: dict[str, Any]) -> None:
    """ValidationError or AssertionError if an event is not, to the field, as openai-python has it."""
    body = json.loads(encode(event))
    told = TYPES[body["type"]].model_validate(body, strict=True)
    if body["type"] in ("session.created", "session.updated"):
        # The event's type names the request's shape; what the service sends, and documents, is the response's.
        of_session = RealtimeSessionCreateResponse.model_validate(body["session"], strict=True)
        assert not set(told.model_extra or {})
        strangers(of_session, "session")
    else:
        strangers(told, body["type"])


def strangers(value: object, path: str) -> None:
    """AssertionError for a field, at any depth, that its type does not know."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{path}: {sorted(value.model_extra)} unknown to {type(value).__name__}"
        for name in type(value).model_fields:
            strangers(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            strangers(entry, f"{path}[{index}]")


class GaRig(Rig):
    """A session in OpenAI's dialect; every event it puts out is judged as it comes."""

    def __init__(self, *faults: str, judged: bool = True, **config: Any) -> None:
        self._judged = 0 if judged else None
        super().__init__(*faults, dialect="openai", **config)

    def collect(self) -> None:
        super().collect()
        if self._judged is not None:
            for event in self.events[self._judged :]:
                published(event)
            self._judged = len(self.events)

    def setup(self, form: str = "audio/pcmu", **fields: Any) -> None:
        self.send("session.update", session=session(form, **fields))

    def detect(self, **fields: Any) -> None:
        """Another turn detection."""
        self.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": fields}}})

    def manual(self) -> None:
        """No turn detection."""
        self.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})

    def refused(self, code: str | None, param: str | None = None) -> str:
        """The last event was this error; its message."""
        event = self.events[-1]
        assert event["type"] == "error", self.types()
        assert (event["error"]["code"], event["error"]["param"]) == (code, param), event["error"]
        return str(event["error"]["message"])
