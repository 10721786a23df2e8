"""Sends the spans of calls to an OpenTelemetry collector, in batches, by OTLP over HTTP.

Lives in the control process and is imported only where [tracing] names an endpoint: the SDK costs 12 MB and 0.2 s.
What waits to be sent is bounded (`QUEUED_SPANS`, a minute or so of a busy node); a collector that is slow or away makes
the oldest of it drop out, counted, and nothing else waits for it. Sending is a thread's, since the exporter blocks; the
SDK's own batches are not used, since they drop without counting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable

import structlog
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from sipagent import __version__, model
from sipagent.config import LogSettings, TracingSettings
from sipagent.observe.spans import Span, Spans

log = structlog.get_logger()

QUEUED_SPANS = 4096
BATCH = 512
"""Of one request, as the SDK's own processor has it."""
EVERY_S = 2.0
"""From the first span of a batch to its sending; a full batch goes at once."""
EXPORT_S = 10.0
"""The exporter tries again within this time, with longer and longer waits."""
END_S = 3.0
"""Given to what is left at the end."""
_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_SCOPE = InstrumentationScope("sipagent", __version__)


class Tracing:
    """Hears every event (`take`, `lost`) and sends what comes of it. `running` for as long as there are calls."""

    def __init__(self, tracing: TracingSettings, shown: LogSettings, exporter: SpanExporter | None = None) -> None:
        """`shown`: what the operator lets be seen of numbers and words. `exporter` for tests."""
        self.counts: Counter[str] = Counter()
        """sent, failed (the collector did not take them), dropped (too many waited): for the metrics."""
        show = {"numbers": shown.show_numbers, "words": shown.show_transcripts}
        self._spans = Spans(tracing.node, tracing.sample_ratio, **show)
        self._resource = Resource.create({"service.name": tracing.service_name, "service.version": __version__,
                                          "service.instance.id": tracing.node})  # fmt: skip
        self._exporter = exporter or OTLPSpanExporter(
            endpoint=tracing.endpoint,
            headers={name: value.get_secret_value() for name, value in tracing.headers.items()},
            timeout=EXPORT_S,
            compression=Compression.Gzip,
        )
        self._waiting: deque[Span] = deque()
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._ending = self._complained = False

    @property
    def waiting(self) -> int:
        """Spans that are still to be sent."""
        return len(self._waiting)

    def take(self, event: model.CallEvent) -> None:
        """Subscriber of CallEvents: takes note and returns."""
        self._queue(self._spans.take(event))

    def lost(self, call_id: str) -> None:
        """The worker of this call is gone."""
        self._queue(self._spans.lost(call_id))

    def _queue(self, spans: Iterable[Span]) -> None:
        for span in spans:
            if len(self._waiting) >= QUEUED_SPANS:
                self._waiting.popleft()
                self.counts["dropped"] += 1
            self._waiting.append(span)
            self._some.set()
        if len(self._waiting) >= BATCH:
            self._many.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send batches for the length of the block; what is left at its end is given `END_S`."""
        sending = asyncio.create_task(self._run(), name="tracing")
        try:
            yield
        finally:
            self._ending = True
            self._some.set()
            self._many.set()
            await asyncio.wait({sending}, timeout=END_S)
            await asyncio.to_thread(self._exporter.shutdown)  # one that is still trying gives up
            sending.cancel()
            await asyncio.wait({sending})
            self.counts["dropped"] += len(self._waiting)

    async def _run(self) -> None:
        while self._waiting or not self._ending:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._many.wait()
            await self._send()

    async def _send(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        if not self._ending:
            if not self._waiting:
                self._some.clear()
            if len(self._waiting) < BATCH:
                self._many.clear()
        if not batch:
            return
        readable = [self._readable(span) for span in batch]
        result = await asyncio.to_thread(self._export, readable)
        well = result is SpanExportResult.SUCCESS
        self.counts["sent" if well else "failed"] += len(batch)
        if not well and not self._complained:
            log.warning("traces_not_sent", spans=len(batch), mend="[tracing] endpoint: is a collector there?")
        self._complained = not well

    def _export(self, spans: list[ReadableSpan]) -> SpanExportResult:
        try:
            return self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever the collector's trouble is, calls go on
            log.warning("traces_exporter", error=type(error).__name__)
            return SpanExportResult.FAILURE

    def _readable(self, span: Span) -> ReadableSpan:
        """As the SDK would have made it, with the ids that everybody knows."""
        trace = span.trace
        parent = trace.span_id(span.parent) if span.parent else trace.parent
        return ReadableSpan(
            name=span.name,
            context=_context(trace.trace_id, trace.span_id(span.what), remote=False),
            parent=_context(trace.trace_id, parent, remote=not span.parent) if parent else None,
            resource=self._resource,
            attributes=span.attributes,
            events=[Event(name, dict(facts), timestamp=_ns(at)) for at, name, facts in span.marks],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=_ns(span.start),
            end_time=_ns(span.end),
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: str, span_id: str, *, remote: bool) -> SpanContext:
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _ns(at: float) -> int:
    return round(at * 1_000_000) * 1000
