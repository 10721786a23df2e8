"""Logs: structlog over the standard library, JSON unless a terminal looks on, `call_id` on every line.

Numbers and what was said are redacted by a processor, on by default; one canonical line per call is
written from its CallEnded. Nobody else in the program decides what may be shown. No call waits for a line to be
written (`log_writer.py`).
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from sipagent import model
from sipagent.config import LogSettings
from sipagent.observe.log_writer import LogWriter
from sipagent.records.redaction import last_two, numbers_of

_NUMBER_KEYS = frozenset({"caller", "called", "number"})
_PLACE_KEYS = frozenset({"destination", "step", "target", "to"})
"""Names of the configuration that may hold a number, as dial:+442079460123@vonage does, or be one: a REFER's."""
_SPEECH_KEYS = frozenset({"text", "transcript"})

SLOW_TURN_MS = 1500
"""Answers later than the service level (grafana/prometheus/rules/slo.yml) have a line: who follows a dot of a dashboard
to its call must find it. The others would be a line every few seconds and call."""


class Redact:
    """A structlog processor that hides numbers and speech unless the settings allow them."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Redact in place."""
        if not self._settings.show_numbers:
            for key in event.keys() & _NUMBER_KEYS:
                event[key] = last_two(str(event[key]))
            for key in event.keys() & _PLACE_KEYS:
                event[key] = numbers_of(str(event[key]), last_two)
        for key in event.keys() & _SPEECH_KEYS if not self._settings.show_transcripts else ():
            event[key] = f"({len(str(event[key]))} characters)"
        return event


def configure(settings: LogSettings, stream: TextIO | None = None, **bound: Any) -> None:
    """Set up logging for this process, to stdout beside its work, or to `stream` at once.

    `bound` stands on every line (the worker's number).
    """
    stream = stream or _beside()
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
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _bound.update(bound)
    structlog.contextvars.bind_contextvars(**bound)
    # What libraries say goes the same way, without their debug chatter.
    form = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(force=True, stream=stream, level=max(level, logging.WARNING), format=form)


def lines_dropped() -> int:
    """Of this process: nobody took them in time."""
    return _writer.dropped if _writer else 0


def leave() -> None:
    """Before an end that runs nothing more: what waits is written."""
    if _writer:
        _writer.leave()


_writer: LogWriter | None = None
_bound: dict[str, Any] = {}


def _beside() -> TextIO:
    global _writer  # noqa: PLW0603 - a process has one stdout
    try:
        descriptor = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return sys.stdout  # in memory: nothing to wait for
    if _writer is None:
        sys.stdout.flush()  # what was said before comes first
        _writer = LogWriter(descriptor, _tell_of_drops)
    return cast("TextIO", _writer)


def _tell_of_drops(lines: int) -> None:
    structlog.get_logger().warning("log_lines_dropped", lines=lines, **_bound)  # a thread has no context


def _console(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    # Plain tracebacks: the pretty ones print every local, and with them keys and numbers.
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


_TOLD: dict[type[model.CallEvent], tuple[str, ...]] = {
    model.CallStarted: ("caller", "called", "endpoint", "codec"),
    model.CallRouted: ("route", "destination"),
    model.TurnedAway: ("limit", "to"),
    model.WaitingForSession: ("place",),
    model.StepEntered: ("step",),
    model.SessionOpened: ("model", "conversation_id", "connect_ms"),
    model.RealtimeTrouble: ("what", "detail"),
    model.TransferStarted: ("target", "how"),
    model.TransferEnded: ("target", "result"),
    model.LegEnded: ("leg", "answered", "result", "cause", "seconds"),
    model.RecordingStarted: ("recording_id",),
    model.RecordingPaused: ("recording_id", "by"),
    model.RecordingResumed: ("recording_id", "by"),
}
"""What of an event stands in its line, which is named like the event."""
_WARNINGS = (model.TurnedAway, model.RealtimeTrouble)


class EventLog:
    """Subscriber of CallEvents in the worker: the canonical line at the end, little before."""

    def __init__(self, settings: LogSettings) -> None:
        """What was said has lines where it may be shown. Where not, they would tell nothing, twice a turn."""
        self._shows_speech = settings.show_transcripts
        self._log = structlog.get_logger()

    def __call__(self, event: model.CallEvent) -> None:
        """One event, which has a line or none."""
        match event:
            case model.CallEnded():
                outcome = {name: getattr(event.outcome, name) for name in ("result", "reason", "fault", "detail")}
                call = {name: getattr(event, name) for name in ("duration_s", "answered", "turns")}
                heard = {f"mos_{way}": leg.mos for way, leg in event.quality.items()}
                self._log.info("call_ended", call_id=event.call_id, **outcome, **call, **heard, **event.counters)
            case model.AgentSpoke() if event.latency_ms is not None and event.latency_ms > SLOW_TURN_MS:
                shares = ("latency_ms", "detection_ms", "model_ms", "network_ms", "own_ms")
                self._log.info("slow_turn", call_id=event.call_id, **{name: getattr(event, name) for name in shares})
            case model.ToolCalled():
                self._log.info(
                    "tool_called", call_id=event.call_id, tool=event.name, **_given(arguments=event.arguments)
                )
            case model.ToolReturned():
                figures = {name: getattr(event, name) for name in ("ok", "duration_ms", "bytes")}
                given = _given(result=event.result)
                self._log.info("tool_returned", call_id=event.call_id, tool=event.name, **figures, **given)
            case model.Transcript() if self._shows_speech:
                self._log.info("said", call_id=event.call_id, role=event.role, text=event.text)
            case _ if facts := _TOLD.get(type(event)):
                write = self._log.warning if isinstance(event, _WARNINGS) else self._log.info
                told = {name: getattr(event, name) for name in facts}
                write(str(event.__struct_config__.tag), call_id=event.call_id, **told)
            case _:
                self._log.debug(type(event).__name__, call_id=event.call_id)


def _given(**texts: str) -> dict[str, str]:
    """Those that are not empty."""
    return {key: text for key, text in texts.items() if text}
