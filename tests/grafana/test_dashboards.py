"""The dashboards as files: what is committed is what the code makes, and Grafana can read it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.models import dashboard

from grafana.panels import CALL, NODE
from tools.generate import ROOT, generated, metrics

BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(text) for path, text in generated().items() if path.suffix == ".json"
}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and PromQL of every target, as Grafana would send it."""
    return [
        (panel["title"], asked.replace("$__rate_interval", "1m").replace(CALL, 'call_id=~".+"'))
        for panel in panels(board)
        for target in panel.get("targets", ())
        for asked in [target["expr"].replace(NODE, 'instance=~".+"')]
    ]


@pytest.mark.parametrize("path", generated())
def test_what_is_committed_is_what_the_code_makes(path: Any) -> None:
    assert (ROOT / path).read_text() == generated()[path], "run `make generate`"


def test_nothing_else_lies_there() -> None:
    assert {file.stem for file in (ROOT / "grafana/dashboards").iterdir()} == set(BOARDS)


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_is_whole(uid: str) -> None:
    board = BOARDS[uid]
    assert board["uid"] == uid
    assert board["description"]
    assert [link["title"] for link in board["links"]] == ["Dashboards", "Runbooks"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    dashboard.Dashboard.from_json(board)  # the SDK, which was made from Grafana's own schema, reads it
    for panel in panels(board):
        assert panel["title"]
        if panel["type"] == "text":
            continue
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        if panel["type"] != "table":  # its columns have units of their own
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert NODE in target["expr"], f"{panel['title']} does not follow the chosen node"
            assert "@" not in target["expr"]
            assert target["legendFormat"]


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_do_not_lie_upon_each_other(uid: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[uid]["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("uid", BOARDS)
def test_no_node_hides_another_or_is_added_to_it_where_both_have_a_worker_1(uid: str) -> None:
    for panel in panels(BOARDS[uid]):
        for target in panel.get("targets", ()):
            by = [labels for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) if "worker" in labels]
            assert all("instance" in labels or "label_join(" in target["expr"] for labels in by), panel["title"]
            if panel["type"] != "table" and "{{worker}}" in target["legendFormat"]:
                assert "{{instance}}" in target["legendFormat"], panel["title"]


def test_links_between_dashboards_lead_somewhere() -> None:
    linked = set(re.findall(r'"/d/([\w-]+)', json.dumps(list(BOARDS.values()))))
    assert linked
    assert linked <= set(BOARDS)


def test_every_metric_is_shown_somewhere() -> None:
    shown = " ".join(query for board in BOARDS.values() for _, query in queries(board))
    rules = (ROOT / "grafana/prometheus/rules/slo.yml").read_text()  # panels show what these make of them
    names = set(re.findall(r"sipagent_\w+", shown + rules))
    shown_ones = {re.sub("_(bucket|sum|count)$", "", name) for name in names} | names
    exported = {metric.name for metric in metrics()}
    assert exported - shown_ones == set()
    asked = set(re.findall(r"(?<![\w:])sipagent_\w+", shown))
    unknown = {
        name for name in asked if name not in exported and re.sub("_(bucket|sum|count)$", "", name) not in exported
    }
    assert unknown == set(), "no node exports these"
