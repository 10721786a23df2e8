"""What queries of panels give in times that no test can wait for: promtool feeds them hours of samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.boards_noc import grown, of_each
from grafana.panels import NODE
from tests.grafana.test_dashboards import BOARDS, queries
from tests.grafana.test_rules import run

NOW_M = 180
"""Minutes since the first sample there can be, and since Prometheus' time 0."""
LONG_AGO = -1e6


def told(folder: Path, query: str, expected: list[dict[str, Any]], series: dict[str, str]) -> str:
    """What promtool says of a query, asked `NOW_M` minutes after the beginning: nothing, if it gives what it should."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": query.replace("@", NODE).replace(NODE, 'instance=~".+"'), "eval_time": f"{NOW_M}m",
             "exp_samples": expected},
        ],
    }  # fmt: skip
    file = folder / "query.test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    tested = run("promtool", "test", "rules", file)
    return tested.stdout + tested.stderr if tested.returncode else ""


@dataclass(frozen=True)
class Past:
    """Of a counter, of the node, and since when its process runs, in minutes."""

    what: str
    counter: str
    ready: str
    started_s: float
    grown: float | None


PASTS = [
    Past("it counts on", "100x150 103x30", "1x180", LONG_AGO, 3),
    Past("nothing has happened", "100x180", "1x180", LONG_AGO, 0),
    Past("the scrape of an hour ago failed", "100x119 stale 100x28 103x30", "1x119 stale 1x59", LONG_AGO, 3),
    Past(
        "scrapes failed for twenty minutes, an hour ago", "100x109 _x20 101x20 103x29", "1x109 _x20 1x50", LONG_AGO, 2
    ),
    Past("the first four came within the hour, at once", "_x150 4x30", "1x180", LONG_AGO, 4),
    Past("the node was started again, and has counted less", "100x150 4x30", "1x180", 150 * 60, 4),
    Past("the node was started again, and has counted more", "100x150 104x30", "1x180", 150 * 60, 104),
    Past("the node was started again two hours ago", "100x60 _x100 4x20", "1x180", 61 * 60, 4),
    Past("Prometheus is new, the node is not", "_x150 100x10 105x20", "_x150 1x30", LONG_AGO, 5),
    Past("both are new", "_x150 7x30", "_x150 1x30", 149 * 60, 7),
    Past("there never was one", "", "1x180", LONG_AGO, None),
]


@pytest.mark.parametrize("past", PASTS, ids=lambda past: past.what)
def test_how_much_a_counter_has_grown(tmp_path: Path, past: Past) -> None:
    series = {
        'sipagent_calls_ended_total{instance="n", job="sipagent", reason="full"}': past.counter,
        'sipagent_node_ready{instance="n", job="sipagent"}': past.ready,
        'process_start_time_seconds{instance="n", job="sipagent"}': f"{past.started_s}x{NOW_M}",
    }
    expected = [] if past.grown is None else [{"labels": '{reason="full"}', "value": past.grown}]
    fed = {name: values for name, values in series.items() if values}
    assert told(tmp_path, grown("calls_ended_total{@}", "reason"), expected, fed) == ""


def test_what_has_grown_on_one_node_is_not_mixed_with_when_another_was_started(tmp_path: Path) -> None:
    series = {
        'sipagent_calls_ended_total{instance="old"}': f"100x{NOW_M}",
        'sipagent_node_ready{instance="old"}': f"1x{NOW_M}",
        'process_start_time_seconds{instance="old"}': f"{LONG_AGO}x{NOW_M}",
        'sipagent_calls_ended_total{instance="new"}': "_x150 7x30",
        'sipagent_node_ready{instance="new"}': "_x150 1x30",
        'process_start_time_seconds{instance="new"}': f"_x150 {149 * 60}x30",
    }
    assert told(tmp_path, grown("calls_ended_total{@}"), [{"labels": "{}", "value": 7}], series) == ""


def tile(title: str) -> str:
    return next(query for name, query in queries(BOARDS["sipagent-noc"]) if name == title)


OFFERED = 'sipagent_calls_offered_total{instance="n", direction="in", trunk="office"}'
ANSWERED = 'sipagent_calls_answered_total{instance="n", direction="in", trunk="office"}'
SERVED = 'sipagent_calls_finished_total{instance="n", result="success", fault="none"}'
FAILED = 'sipagent_calls_finished_total{instance="n", result="failure", fault="ours"}'


@pytest.mark.parametrize("minutes", [1, 5, 10])
def test_one_call_on_a_quiet_line_is_answered_for_a_quarter_of_an_hour(tmp_path: Path, minutes: int) -> None:
    one = f"0x{NOW_M - minutes - 1} 1x{minutes}"
    assert told(tmp_path, tile("Answered"), [{"labels": "{}", "value": 1}], {OFFERED: one, ANSWERED: one}) == ""


def test_an_answer_whose_call_came_before_the_window_is_no_ratio(tmp_path: Path) -> None:
    offered, answered = f"0x{NOW_M - 17} 1x16", f"0x{NOW_M - 14} 1x13"
    assert told(tmp_path, tile("Answered"), [], {OFFERED: offered, ANSWERED: answered}) == ""


def test_no_call_is_no_failure_and_one_that_was_served_is_none(tmp_path: Path) -> None:
    assert told(tmp_path, tile("Failed calls"), [], {SERVED: f"5x{NOW_M}", FAILED: f"1x{NOW_M}"}) == ""
    served = {SERVED: f"5x{NOW_M - 9} 6x8", FAILED: f"1x{NOW_M}"}
    assert told(tmp_path, tile("Failed calls"), [{"labels": "{}", "value": 0}], served) == ""


def test_the_sessions_of_the_endpoint_where_they_are_scarcest(tmp_path: Path) -> None:
    series = {
        f'sipagent_realtime_sessions_{what}{{instance="n", endpoint="{endpoint}"}}': f"{count}x{NOW_M}"
        for what, endpoint, count in (
            ("taken", "main", 9), ("quota", "main", 10), ("taken", "second", 1), ("quota", "second", 100),
        )
    }  # fmt: skip
    assert told(tmp_path, tile("Sessions of quota"), [{"labels": "{}", "value": 0.9}], series) == ""


def test_each_node_has_a_row_of_its_own(tmp_path: Path) -> None:
    series = {f'sipagent_worker_up{{instance="n{node}", worker="1"}}': f"{node}x{NOW_M}" for node in (0, 1)}
    expected = [{"labels": f'{{worker="n{node} 1"}}', "value": node} for node in (0, 1)]
    assert told(tmp_path, of_each("min", "worker", "sipagent_worker_up{@}"), expected, series) == ""
