"""The API's `/metrics`: the registry as text, in the format that whoever asks prefers."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def router(registry: CollectorRegistry) -> APIRouter:
    """`GET /metrics`, for Prometheus."""
    routes = APIRouter()

    @routes.get("/metrics", response_class=Response)
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Everything counted. OpenMetrics, with exemplars, where it is asked for; Prometheus' text format otherwise."""
        encode, content_type = choose_encoder(accept)
        # In a thread: thousands of lines take tens of milliseconds, in which the loop has events to take.
        return Response(await asyncio.to_thread(encode, registry), headers={"Content-Type": content_type})

    return routes
