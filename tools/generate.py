"""Writes what is generated from code: docs/metrics.md and Grafana's dashboards. `make generate`; a test compares."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grafana.boards import boards  # noqa: E402 - the checkout is no installed package
from sipagent.config import Settings  # noqa: E402
from sipagent.control.live import Live  # noqa: E402
from sipagent.observe.catalogue import Metric, documentation  # noqa: E402
from sipagent.observe.node import measure  # noqa: E402


def metrics() -> list[Metric]:
    """Every metric of a node."""
    settings = Settings(agents={"any": {"instructions": "any"}})  # type: ignore[dict-item]
    return measure(Live(1), lambda: settings).metrics


def generated() -> dict[Path, str]:
    """Every generated file, by its place in the repository."""
    files = {Path("docs/metrics.md"): documentation(metrics())}
    return files | {Path("grafana/dashboards") / f"{name}.json": text for name, text in boards().items()}


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
        sys.stdout.write(f"{path}\n")
