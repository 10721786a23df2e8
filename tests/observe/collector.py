"""An OpenTelemetry collector of our own: takes OTLP over HTTP and reads the protobuf."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    """What came, in order."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.headers.append(dict(request.headers))
        if self.status == 200:
            self.bodies.append(body)
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = values(of_resource.resource.attributes)
                for scope in of_resource.scope_spans:
                    self.spans += scope.spans
        return web.Response(status=self.status)

    def named(self, name: str) -> Span:
        """The one span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def children(self, of: Span) -> list[str]:
        """Names of the spans right under it, in order of time."""
        found = [span for span in self.spans if span.parent_span_id == of.span_id]
        return [span.name for span in sorted(found, key=lambda span: span.start_time_unix_nano)]


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


def seconds(span: Span) -> tuple[float, float]:
    """Start and end, Unix seconds to the millisecond."""
    return round(span.start_time_unix_nano / 1e9, 3), round(span.end_time_unix_nano / 1e9, 3)


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """For the length of the block."""
    one = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", one.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    try:
        yield one
    finally:
        await runner.cleanup()
