"""Logs: structlog over the standard library, JSON unless a terminal looks on, `call_id` on every line.

Numbers and what was said are redacted by a processor, on by default; one canonical line per call is
written from its CallEnded. Nobody else in the program decides what may be shown.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from sipagent import model
from sipagent.config import LogSettings

_NUMBER_KEYS = frozenset({"caller", "called", "number", "to"})
_SPEECH_KEYS = frozenset({"text", "transcript"})

SLOW_TURN_MS = 1500
"""Answers later than the service level (grafana/prometheus/rules/slo.yml) have a line: who follows a dot of a dashboard
to its call must find it. The others would be a line every few seconds and call."""


def redact_number(number: str) -> str:
    """All but the last two digits hidden; short extensions tell nobody anything and stay."""
    return number if len(number) <= 4 else "*" * (len(number) - 2) + number[-2:]


class Redact:
    """A structlog processor that hides numbers and speech unless the settings allow them."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Redact in place."""
        for key in event.keys() & _NUMBER_KEYS if not self._settings.show_numbers else ():
            event[key] = redact_number(str(event[key]))
        for key in event.keys() & _SPEECH_KEYS if not self._settings.show_transcripts else ():
            event[key] = f"({len(str(event[key]))} characters)"
        return event


def configure(settings: LogSettings, stream: TextIO | None = None, **bound: Any) -> None:
    """Set up logging for this process, to stdout or `stream`; `bound` stands on every line (the worker's number)."""
    stream = stream or sys.stdout
    as_text = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        Redact(settings),
    ]
    if as_text:
        renderer: list[Any] = [_console(colors=stream.isatty())]
    else:
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    level = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**bound)
    # What libraries say goes the same way, without their debug chatter.
    form = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(force=True, stream=stream, level=max(level, logging.WARNING), format=form)


def _console(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    # Plain tracebacks: the pretty ones print every local, and with them keys and numbers.
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def log_event(event: model.CallEvent) -> None:
    """Subscriber of CallEvents in the worker: the canonical line at the end, little before."""
    log = structlog.get_logger()
    match event:
        case model.CallEnded():
            log.info(
                "call_ended",
                call_id=event.call_id,
                result=event.outcome.result,
                reason=event.outcome.reason,
                fault=event.outcome.fault,
                detail=event.outcome.detail,
                duration_s=event.duration_s,
                answered=event.answered,
                turns=event.turns,
                **{f"mos_{way}": leg.mos for way, leg in event.quality.items()},
                **event.counters,
            )
        case model.CallStarted():
            log.info(
                "call_started",
                call_id=event.call_id,
                caller=event.caller,
                called=event.called,
                endpoint=event.endpoint,
                codec=event.codec,
            )
        case model.CallRouted():
            log.info("call_routed", call_id=event.call_id, route=event.route, destination=event.destination)
        case model.TurnedAway():
            log.warning("turned_away", call_id=event.call_id, limit=event.limit, to=event.to)
        case model.WaitingForSession():
            log.info("waiting_for_session", call_id=event.call_id, place=event.place)
        case model.StepEntered():
            log.info("step_entered", call_id=event.call_id, step=event.step)
        case model.TransferStarted():
            log.info("transfer_started", call_id=event.call_id, target=event.target, how=event.how)
        case model.TransferEnded():
            log.info("transfer_ended", call_id=event.call_id, target=event.target, result=event.result)
        case model.RecordingStarted():
            log.info("recording_started", call_id=event.call_id, recording_id=event.recording_id)
        case model.RecordingPaused() | model.RecordingResumed():
            what = "recording_paused" if isinstance(event, model.RecordingPaused) else "recording_resumed"
            log.info(what, call_id=event.call_id, recording_id=event.recording_id, by=event.by)
        case model.SessionOpened():
            log.info(
                "session_opened",
                call_id=event.call_id,
                model=event.model,
                conversation_id=event.conversation_id,
                connect_ms=event.connect_ms,
            )
        case model.AgentSpoke() if event.latency_ms is not None and event.latency_ms > SLOW_TURN_MS:
            log.info(
                "slow_turn",
                call_id=event.call_id,
                latency_ms=event.latency_ms,
                detection_ms=event.detection_ms,
                model_ms=event.model_ms,
                network_ms=event.network_ms,
                own_ms=event.own_ms,
            )
        case model.RealtimeTrouble():
            log.warning("realtime_trouble", call_id=event.call_id, what=event.what, detail=event.detail)
        case model.LegEnded():
            log.info(
                "leg_ended",
                call_id=event.call_id,
                leg=event.leg,
                answered=event.answered,
                result=event.result,
                cause=event.cause,
                seconds=event.seconds,
            )
        case model.ToolCalled():
            log.info("tool_called", call_id=event.call_id, tool=event.name, **_given(arguments=event.arguments))
        case model.ToolReturned():
            log.info(
                "tool_returned",
                call_id=event.call_id,
                tool=event.name,
                ok=event.ok,
                duration_ms=event.duration_ms,
                bytes=event.bytes,
                **_given(result=event.result),
            )
        case model.Transcript() if event.final:
            log.info("said", call_id=event.call_id, role=event.role, text=event.text)
        case _:
            log.debug(type(event).__name__, call_id=event.call_id)


def _given(**texts: str) -> dict[str, str]:
    """Those that are not empty."""
    return {key: text for key, text in texts.items() if text}
