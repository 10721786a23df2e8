"""All metrics of a node, put together: what is counted, what is looked at, and the control process itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector

from sipagent import model
from sipagent.config import Settings
from sipagent.observe.catalogue import Catalogue
from sipagent.observe.metrics import CallMetrics
from sipagent.observe.scraped import NodeCollector, NodeNow, RecorderCollector, WorkerCollector
from sipagent.observe.watched import DoorCollector, EndpointCollector, ProbeCollector, Probed, TraceCollector


class LiveNode(NodeNow, Protocol):
    """One that can be listened to."""

    def subscribe(self, subscriber: Callable[[model.CallEvent], None], lost: Callable[[str], None]) -> None:
        """Every event, and every call that its worker took with it."""


def _nothing() -> Mapping[int, int]:
    return {}


def _no_probes() -> Mapping[tuple[str, str], Probed]:
    return {}


def _nowhere() -> Mapping[str, str]:
    return {}


def _no_counts() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Sources:
    """Who knows what the node's own state does not."""

    restarts: Callable[[], Mapping[int, int]] = field(default=_nothing)
    """Of workers, by number."""
    recorder: Callable[[], Mapping[str, int]] = field(default=_no_counts)
    """What the recorder counts."""
    probes: Callable[[], Mapping[tuple[str, str], Probed]] = field(default=_no_probes)
    """By name and trunk."""
    taken: Callable[[], Mapping[str, int]] = field(default=_no_counts)
    """Sessions of quotas that calls have, by realtime endpoint."""
    endpoints: Callable[[], Mapping[str, str]] = field(default=_nowhere)
    """Realtime endpoints by name, and why they cannot be reached."""
    traces: Callable[[], Mapping[str, int]] = field(default=_no_counts)
    """What became of spans."""
    refused: Callable[[], Mapping[int, int]] = field(default=_nothing)
    """Requests that the API's door did not let in, by HTTP status."""
    connections: Callable[[], int] = field(default=int)
    """Open to the API now."""
    closed: Callable[[], Mapping[str, int]] = field(default=_no_counts)
    """Those that had to go for want of room."""


def measure(node: LiveNode, settings: Callable[[], Settings], sources: Sources | None = None) -> Catalogue:
    """Begin to count; what is exported is the catalogue's registry.

    Whoever has more to tell makes a collector with families of this catalogue, so that they are documented too:
    `catalogue.registry.register(MyCollector(catalogue, ...))`.
    """
    sources = sources or Sources()
    catalogue = Catalogue(CollectorRegistry())
    calls = CallMetrics(catalogue, settings)
    node.subscribe(calls.take, calls.lost)
    catalogue.registry.register(NodeCollector(catalogue, node, settings, calls, sources.taken))
    catalogue.registry.register(WorkerCollector(catalogue, node, sources.restarts))
    catalogue.registry.register(RecorderCollector(catalogue, sources.recorder))
    catalogue.registry.register(ProbeCollector(catalogue, sources.probes))
    catalogue.registry.register(EndpointCollector(catalogue, sources.endpoints))
    catalogue.registry.register(TraceCollector(catalogue, sources.traces))
    catalogue.registry.register(DoorCollector(catalogue, sources.refused, sources.connections, sources.closed))
    ProcessCollector(registry=catalogue.registry)
    return catalogue
