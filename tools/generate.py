"""Writes what is generated: reference pages, Grafana's dashboards, the table of docs/tuning.md. A test compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grafana.boards import boards  # noqa: E402 - the checkout is no installed package
from sipagent.config import Settings  # noqa: E402
from sipagent.control.live import Live  # noqa: E402
from sipagent.observe.catalogue import Metric, documentation  # noqa: E402
from sipagent.observe.node import measure  # noqa: E402
from tools.reference import api, commands, configuration  # noqa: E402
from tools.reference.words import table  # noqa: E402


def metrics() -> list[Metric]:
    """Every metric of a node."""
    settings = Settings(agents={"any": {"instructions": "any"}})
    return measure(Live(1), lambda: settings).metrics


def capacity() -> str:
    """`docs/tuning.md` with what `bench crowd` measured last: bench/RESULTS.md has the whole table."""
    crowd = _between("crowd", (ROOT / "bench/RESULTS.md").read_text())
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in crowd.splitlines() if line[:1] == "|"]
    shown = {
        "calls": "calls",
        "passed": "passed",
        "uplink p50/p99": "caller to model, p50 / p99 ms",
        "pacing p50/p99": "pacing, p50 / p99 ms",
        "Asterisk": "Asterisk",
        "worker": "worker",
    }
    places = [rows[0].index(name) for name in shown]
    measured = next(line for line in crowd.splitlines() if re.match(r"\d{4}-", line))
    text = table(list(shown.values()), [[row[place] for place in places] for row in rows[2:]])
    text += f"\nProcessor in percent of one core a call. {measured}"
    begin, end = "<!-- capacity -->", "<!-- /capacity -->"
    before, _, rest = (ROOT / "docs/tuning.md").read_text().partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def _between(name: str, text: str) -> str:
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]


def generated() -> dict[Path, str]:
    """Every generated file, by its place in the repository."""
    files = {
        Path("docs/metrics.md"): documentation(metrics()),
        Path("docs/reference/configuration.md"): configuration.page(),
        Path("docs/reference/cli.md"): commands.page(),
        Path("docs/reference/api.md"): api.page(),
        Path("docs/tuning.md"): capacity(),
    }
    return files | {Path("grafana/dashboards") / f"{name}.json": text for name, text in boards().items()}


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
        sys.stdout.write(f"{path}\n")
