"""Alerts fire and keep quiet where they should, say what to do, and ask for what nodes export."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sipagent.asterisk.fetch import fetch
from sipagent.observe import bounds
from sipagent.observe.metrics import WORKER_LOST
from sipagent.outcome import CallOutcome, Fault, Reason
from tools.generate import ROOT, metrics

FILES = ROOT / "grafana/prometheus"
RULES = sorted((FILES / "rules").glob("*.yml"))
TESTS = sorted((FILES / "tests").glob("*.test.yml"))
RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ["## What it means", "## Look at", "## Do"]


def rules() -> list[dict[str, Any]]:
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    root = fetch(("prometheus", "amtool"))
    command = [*root.command(tool), *map(str, arguments)]
    env = {**os.environ, "SIPAGENT_RUNBOOKS": "https://runbooks.test"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    checked = run("promtool", "check", "config", "--lint=all", "--lint-fatal", FILES / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_they_fire_and_keep_quiet(file: Path) -> None:
    tested = run("promtool", "test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_test_that_expects_another_alert_fails(tmp_path: Path) -> None:
    wrong = (FILES / "tests/media.test.yml").read_text().replace("../rules", str(FILES / "rules"))
    (tmp_path / "wrong.yml").write_text(wrong.replace('alertname="MosLow"', 'alertname="MosHigh"'))
    assert run("promtool", "test", "rules", tmp_path / "wrong.yml").returncode != 0


def test_every_alert_has_both_kinds_of_test() -> None:
    names = [test["name"] for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    assert {name.partition(":")[0] for name in names if ": fires" in name} == set(ALERTS)
    assert {name.partition(":")[0] for name in names if ": quiet, since " in name} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == SECTIONS
    assert f"**{alert['labels']['severity']}**" in page


def test_every_page_has_its_alert_and_stands_in_the_list() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*ALERTS, "README"}
    assert set(re.findall(r"\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())) == set(ALERTS)


def test_runbooks_name_metrics_and_dashboards_that_are_there() -> None:
    pages = "".join(page.read_text() for page in RUNBOOKS.glob("*.md"))
    boards = {file.stem for file in (ROOT / "grafana/dashboards").iterdir()}
    assert set(re.findall(r"/d/([\w-]+)", pages)) <= boards
    exported = {metric.name for metric in metrics()}
    assert set(re.findall(r"sipagent_\w+", pages)) <= exported


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_runbook_says_to_look_at_is_called_so(page: Path) -> None:
    text = " ".join(page.read_text().split())
    linked = re.findall(r"\[([^]]+)\]\(/d/([\w-]+)\)", text)
    boards = {uid: json.loads((ROOT / f"grafana/dashboards/{uid}.json").read_text()) for _, uid in linked}
    for title, uid in linked:
        assert boards[uid]["title"].startswith(title)
    titles = {panel["title"] for board in boards.values() for panel in board["panels"]}
    assert set(re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text)) <= titles


def test_runbooks_explain_every_word_that_they_are_read_for() -> None:
    ours = {str(reason) for reason in Reason if CallOutcome(reason).fault in {Fault.OURS, Fault.SWITCH}} | {WORKER_LOST}
    asked_for = {what for what in bounds.TROUBLES if not what.endswith("_substituted")} | {bounds.OTHER}
    for page, words in (("CallsFailFast", ours), ("ModelTroubles", asked_for)):
        text = (RUNBOOKS / f"{page}.md").read_text()
        assert {word for word in words if f"`{word}`" not in text} == set(), page


def test_rules_ask_for_what_nodes_export() -> None:
    exported = {metric.name for metric in metrics()}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for rule in rules() for name in re.findall(r"[\w:]*sipagent_[\w:]+", rule["expr"])}
    assert {name for name in asked if re.sub("_(bucket|sum|count)$", "", name) not in exported | recorded} == set()


def test_alertmanagers_example() -> None:
    file = ROOT / "grafana/alertmanager/alertmanager.yml"
    checked = run("amtool", "check-config", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    matchers = " ".join(
        matcher
        for rule in yaml.safe_load(file.read_text())["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
    )
    assert set(re.findall(r"[A-Z]\w+", matchers)) <= set(ALERTS)


def test_compose_watches_with_these_files() -> None:
    """No image can be pulled here: what the services are given is checked instead."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "alertmanager", "grafana"):
        service = services[name]
        assert service["profiles"] == ["watch"]
        assert service["network_mode"] == "host"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), source
    datasource = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert datasource["datasources"][0]["type"] == "prometheus"
    provider = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/sipagent.yml").read_text())["providers"][0]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
