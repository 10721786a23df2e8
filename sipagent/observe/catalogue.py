"""Every metric that a node exports, written down where it is made: what docs/metrics.md is generated from.

Two ways to make one: an instrument that counts events as they come (`counter`, `gauge`, `histogram`), and a `family`
that is filled anew at each scrape with what somebody else knows. Both stand in `metrics`, so that none is exported
without its line in the documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

PREFIX = "sipagent_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the documentation. `name` as Prometheus stores it, of a histogram without _bucket, _sum, _count."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str
    labels: tuple[str, ...]


class Family:
    """What a scrape fills: an empty family for each."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def counter(self) -> CounterMetricFamily:
        """A new one, as are the others; each is used with the kind it was declared as."""
        return CounterMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)

    def gauge(self) -> GaugeMetricFamily:
        """See counter."""
        return GaugeMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)

    def histogram(self) -> HistogramMetricFamily:
        """See counter."""
        return HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)


class Catalogue:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # A `_created` beside each counter doubles a scrape and says nothing that the counter's first sample does not.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.metrics: list[Metric] = []

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Counts up; its name ends in _total."""
        metric = self._add(name, "counter", text, labels)
        return Counter(metric.name, metric.help, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Goes up and down."""
        metric = self._add(name, "gauge", text, labels)
        return Gauge(metric.name, metric.help, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
        """Counts values by how large they were."""
        metric = self._add(name, "histogram", text, labels)
        return Histogram(metric.name, metric.help, labels, registry=self.registry, buckets=buckets)

    def family(self, name: str, kind: str, text: str, *labels: str) -> Family:
        """One that a collector fills."""
        return Family(self._add(name, kind, text, labels))

    def _add(self, name: str, kind: str, text: str, labels: tuple[str, ...]) -> Metric:
        metric = Metric(PREFIX + name, kind, text, labels)
        self.metrics.append(metric)
        return metric


_HEAD = """\
# Metrics

What `GET /metrics` of the control process tells Prometheus; generated from the code by `make generate`. Units are
seconds, bytes and ratios. No label holds a number, a name or words of a caller; `trunk`, `route`, `agent` and the like
hold names of your configuration only (else `other`), so that a stranger cannot make series. Whoever asks for
OpenMetrics gets exemplars too: the `call_id` of one call for each bucket (Prometheus keeps them with
`--enable-feature=exemplar-storage`).

Beside these there are `process_*` of the control process itself, and what Asterisk tells on its own `/metrics`.

| metric | kind | labels | what it tells |
| --- | --- | --- | --- |
"""


def documentation(metrics: Iterable[Metric]) -> str:
    """docs/metrics.md."""
    lines = (
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |\n"
        for metric in sorted(metrics, key=lambda metric: metric.name)
    )
    return _HEAD + "".join(lines)
