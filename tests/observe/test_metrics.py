"""What the instruments show after events, and what a scrape tells of workers and live calls."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sipagent import model
from sipagent.asterisk.fetch import fetch
from sipagent.control import api, api_metrics
from sipagent.control.live import Live
from sipagent.control.probes import Place
from sipagent.model import CallEvent, Direction
from sipagent.observe import bounds, scraped
from sipagent.observe.node import Sources, measure
from sipagent.observe.scraped import LIVE_CALLS
from sipagent.outcome import CallOutcome, Reason
from tests.observe import story
from tools.generate import ROOT, metrics

NUMBER = re.compile(r"\+?\d{7,}")


class Node:
    """Live state with its metrics, and what a scrape reads of them."""

    def __init__(self, workers: int = 1, **changes: Any) -> None:
        self.settings = story.settings(**changes)
        self.live = Live(workers)
        self.catalogue = measure(
            self.live,
            lambda: self.settings,
            Sources(
                restarts=lambda: {1: 2},
                recorder=lambda: {"blocks_late": 3},
                probes=lambda: self.probes,
                taken=lambda: {"main": 3, "second": 1},
                endpoints=lambda: {"main": "", "other": "the name cannot be resolved"},
                traces=lambda: {"sent": 7},
                refused=lambda: {401: 4},
                connections=lambda: 12,
                closed=lambda: {"gave_way": 3},
            ),
        )
        self.probes = {("uk", "office"): story.probed(), ("uk", "new"): Place(due=0.0)}

    def take(self, *events: CallEvent) -> None:
        for event in events:
            self.live.take(event)

    def value(self, name: str, **labels: str) -> float | None:
        """Of the one series with these labels, others beside them not minded; the sum where there are several."""
        found = [
            sample.value
            for family in self.catalogue.registry.collect()
            for sample in family.samples
            if sample.name == f"sipagent_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_call_from_its_offer_to_its_end(node: Node) -> None:
    node.take(*story.opened("1.1", 10))
    assert node.value("calls_offered_total", direction="in", trunk="office") == 1
    assert node.value("calls_active", state="answered", trunk="office") == 1
    assert node.value("realtime_sessions_open", model="grok-voice") == 1
    node.take(*story.ended("1.1", 40))
    assert node.value("calls_active", trunk="office") == 0
    assert node.value("realtime_sessions_open") is None
    labels = {"trunk": "office", "route": "number 1", "agent": "reception", "reason": "caller_hangup"}
    assert node.value("calls_ended_total", result="success", fault="none", **labels) == 1
    assert node.value("call_setup_seconds_sum", trunk="office") == 0.4
    assert node.value("first_agent_audio_seconds_sum", agent="reception") == pytest.approx(0.8)
    assert node.value("realtime_session_seconds_total", model="grok-voice") == 60
    assert node.value("realtime_cost_total", model="grok-voice") == 0.05
    assert node.value("rtp_packets_lost_total", direction="switch_to_caller", trunk="office") == 90
    assert node.value("call_mos_bucket", direction="switch_to_caller", le="2.5") == 1


def test_a_session_that_is_closed_is_not_open_while_its_call_goes_on(node: Node) -> None:
    node.take(*story.opened("1.1", 10), *story.opened("1.2", 10))
    node.take(story.ended("1.1", 20)[0])
    assert node.value("calls_active", trunk="office") == 2
    assert node.value("realtime_sessions_open", model="grok-voice") == 1


def test_each_endpoint_has_its_quota_and_what_is_taken_of_it() -> None:
    fallbacks = {
        name: {"url": "wss://example.com", "session_quota": quota} for name, quota in (("second", 4), ("third", 0))
    }
    node = Node(realtime={"session_quota": 10, "fallbacks": fallbacks})
    assert node.value("realtime_sessions_quota", endpoint="main") == 10
    assert node.value("realtime_sessions_quota", endpoint="second") == 4
    assert node.value("realtime_sessions_quota", endpoint="third") is None
    assert node.value("realtime_sessions_taken", endpoint="main") == 3
    assert node.value("realtime_sessions_taken", endpoint="second") == 1


def test_a_turn_is_shown_with_its_shares(node: Node) -> None:
    node.take(*story.opened("1.1", 10))
    assert node.value("turn_latency_seconds_count", trunk="office", agent="reception", model="grok-voice") == 1
    assert node.value("turn_latency_seconds_sum") == 0.9
    shares = [node.value("turn_share_seconds_sum", share=share) for share in ("detection", "model", "network", "own")]
    assert shares == [0.5, 0.34, 0.058, 0.002]


def test_a_leg_that_was_busy_and_the_transfer_that_failed_of_it(node: Node) -> None:
    node.take(*story.everything("1.1", 10))
    assert node.value("legs_ended_total", trunk="office", purpose="transfer", result="busy", cause_class="normal") == 1
    assert node.value("transfers_total", target="boss", how="warm", result="busy") == 1
    assert node.value("dials_refused_total", asked_by="agent", why="not_allowed") == 1
    assert node.value("queue_stay_seconds_sum", queue="sales") == 14
    assert node.value("hold_seconds_total", by="agent") == 4
    assert node.value("tool_duration_seconds_count", tool="order_status", ok="false") == 1
    assert node.value("recordings_ended_total", result="kept", format="wav") == 1


def test_a_call_out_by_what_it_came_to(node: Node) -> None:
    node.take(*story.outbound("out-1", 10))
    assert node.value("outbound_calls_total", trunk="office", agent="reception", disposition="machine") == 1
    assert node.value("realtime_sessions_unacknowledged_total") == 1


def test_a_call_out_belongs_to_the_trunk_that_carried_it(node: Node) -> None:
    (started, *_) = story.opened("out-1", 10, endpoint="phone", direction=Direction.OUT)
    for trunk in ("", "office"):
        leg = model.LegDialled(call_id="out-1", at=11, leg=f"out-1-{trunk}", to="+44", trunk=trunk, purpose="outbound")
        node.take(*([started] if not trunk else []), leg)
    node.take(model.CallAnswered(call_id="out-1", at=12, setup_ms=9))
    assert node.value("calls_answered_total", direction="out", trunk="office") == 1
    assert node.live.calls["out-1"].endpoint == "office"


def test_the_calls_of_a_worker_that_died_are_failures_of_ours() -> None:
    node = Node()
    node.live.worker_state(1, story.state())
    node.take(*story.opened("1.1", 10), *story.opened("1.2", 10))
    node.take(*story.ended("1.2", 20))
    node.live.worker_lost(1, 0, "")
    assert node.value("calls_ended_total", reason="worker_lost", fault="ours", result="failure") == 1
    assert node.value("calls_finished_total", direction="in", result="failure", fault="ours") == 1
    assert node.value("realtime_sessions_open") is None
    assert node.value("worker_up", worker="1") == 0
    assert node.value("worker_calls", worker="1") is None


def test_nothing_is_kept_of_calls_that_are_over(node: Node) -> None:
    taker = node.live._subscribers[0].__self__  # type: ignore[attr-defined]
    for number in range(50):
        node.take(*story.everything(f"1.{number}", 10))
    assert taker._calls == {}
    assert node.value("live_call_seconds") is None


def _of_a_stranger(call_id: str, at: float) -> list[model.CallEvent]:
    """A call that began before this process did, and that nobody has adopted since."""
    return [event for event in story.opened(call_id, at)[1:] if not isinstance(event, model.CallAdopted)]


def test_strangers_are_counted_and_make_no_call(node: Node) -> None:
    node.take(*_of_a_stranger("1.1", 1), *story.ended("1.1", 3))
    assert node.value("calls_ended_total", trunk="other", agent="other") == 1
    assert node.value("events_of_unknown_calls_total") == 14
    assert node.value("realtime_sessions_open") is None


def _adopted(call_id: str, **facts: Any) -> list[model.CallEvent]:
    """Its worker, started anew, has it, and opens a session of its own."""
    [session] = [event for event in story.opened(call_id, 20) if isinstance(event, model.SessionOpened)]
    return [model.CallAdopted(call_id=call_id, at=20, worker=1, step="agent:reception", **facts), session]


def test_the_sessions_of_a_worker_that_died_are_not_open_beside_those_of_who_adopted_its_calls(node: Node) -> None:
    node.take(*story.opened("1.1", 10), *story.opened("1.2", 10), *_adopted("1.1"), *_adopted("1.2"))
    assert node.value("realtime_sessions_open", model="grok-voice") == 2
    node.take(*story.ended("1.1", 30))
    assert node.value("realtime_sessions_open", model="grok-voice") == 1
    assert node.value("calls_ended_total", trunk="office", route="number 1", agent="reception") == 1


def test_an_adopted_call_from_before_this_process_is_no_stranger(node: Node) -> None:
    node.take(*_adopted("out-1", endpoint="office", direction=model.Direction.OUT, started_at=1.0))
    assert node.value("realtime_sessions_open", model="grok-voice") == 1
    node.take(*story.ended("out-1", 30, disposition=model.Disposition.HUMAN))
    known = {"direction": "out", "trunk": "office", "agent": "reception"}
    assert node.value("calls_ended_total", route="other", **known) == 1
    assert node.value("outbound_calls_total", trunk="office", agent="reception", disposition="human") == 1
    assert node.value("realtime_sessions_open") is None


def test_loss_that_rtcp_calls_negative_takes_nothing_away(node: Node) -> None:
    node.take(*story.opened("1.1", 1))
    quality = {"caller_to_switch": model.LegQuality(100, 90, -10, 0, 0, 0, 10, 1, None, None, None)}
    node.take(*story.ended("1.1", 9, quality=quality))
    assert node.value("rtp_packets_lost_total", direction="caller_to_switch") == 0
    assert node.value("call_mos_count", direction="caller_to_switch") is None


def test_workers_as_they_report_themselves() -> None:
    node = Node(2)
    node.live.worker_state(1, story.state())
    assert node.value("worker_up", worker="1") == 1
    assert node.value("worker_up", worker="2") == 0
    assert node.value("worker_restarts_total", worker="1") == 2
    assert node.value("pacing_lateness_seconds_bucket", worker="1", le="0.005") == 3
    assert node.value("pacing_lateness_seconds_bucket", worker="1", le="+Inf") == 4
    assert node.value("pacing_lateness_seconds_count", worker="1") == 4
    assert node.value("pacing_shifted_seconds_total", worker="1") == 0.04
    assert node.value("ari_timeouts_total", worker="1") == 2
    assert node.value("worker_recording_blocks_dropped_total", worker="1") == 3
    assert node.value("worker_log_lines_dropped_total", worker="1") == 4
    assert node.value("recorder_events_total", what="blocks_late") == 3
    assert node.value("node_ready") == 0


def test_probes_tell_what_the_last_one_met(node: Node) -> None:
    assert node.value("probe_up", trunk="office") == 1
    assert node.value("probe_first_words_seconds", trunk="office") == 0.9
    assert node.value("probe_up", trunk="new") is None  # nobody knows yet
    assert node.value("probe_runs_total", trunk="new", result="failed") == 0
    node.probes["uk", "office"] = story.probed(ok=False, voice_ms=None, mos=None)
    assert node.value("probe_up", trunk="office") == 0
    assert node.value("probe_first_words_seconds") is None
    assert node.value("trace_spans_total", result="sent") == 7
    assert node.value("api_refused_total", status="401") == 4
    assert node.value("api_refused_total", status="429") == 0
    assert node.value("api_connections") == 12
    assert node.value("api_connections_closed_total", why="gave_way") == 3
    assert node.value("api_connections_closed_total", why="turned_away") == 0
    assert node.value("realtime_endpoint_up", endpoint="main") == 1
    assert node.value("realtime_endpoint_up", endpoint="other") == 0


def test_live_calls_are_bounded_and_the_slowest_are_shown(node: Node) -> None:
    for number in range(LIVE_CALLS + 5):
        node.take(*story.opened(f"1.{number}", 10)[:6])
    node.take(model.AgentSpoke(call_id="1.3", at=12, item_id="i", latency_ms=4000))
    assert node.value("live_calls_hidden") == 5
    shown = [s for f in node.catalogue.registry.collect() for s in f.samples if s.name == "sipagent_live_call_seconds"]
    assert len(shown) == LIVE_CALLS
    assert node.value("live_call_turn_latency_seconds", call_id="1.3") == 4
    node.take(*story.ended("1.3", 20))
    assert node.value("live_call_turn_latency_seconds", call_id="1.3") is None
    assert node.value("live_calls_hidden") == 4


def test_no_label_holds_a_number_or_what_was_said(node: Node) -> None:
    node.take(*story.everything("1.1", 10), *story.outbound("out-2", 20), *_of_a_stranger("+15550001111", 30))
    text = generate_latest(node.catalogue.registry).decode()
    labels = {value for line in text.splitlines() for value in re.findall(r'="([^"]*)"', line)}
    assert not [value for value in labels if NUMBER.fullmatch(value) or "wire" in value or "made up" in value]


def test_every_metric_moves(node: Node) -> None:
    """One that no event and no report can move is a promise that nobody keeps."""
    node.live.worker_state(1, story.state())
    node.take(*story.everything("1.1", 10), *story.outbound("out-2", 20), *story.opened("1.3", 30))
    node.take(model.RecordingStarted(call_id="1.3", at=31, recording_id="r"))
    node.take(model.WaitingForSession(call_id="1.3", at=31, place=1))
    samples = [s for family in node.catalogue.registry.collect() for s in family.samples]
    moved = {re.sub("_(bucket|sum|count)$", "", sample.name) for sample in samples if sample.value}
    still = {metric.name for metric in node.catalogue.metrics} - moved
    tested_apart = {"live_calls_hidden", "events_of_unknown_calls_total", "log_lines_dropped_total"}
    assert still == {f"sipagent_{name}" for name in tested_apart}


def test_lines_of_the_log_that_nobody_took_are_counted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.value("log_lines_dropped_total") == 0
    monkeypatch.setattr(scraped, "lines_dropped", lambda: 5)
    assert node.value("log_lines_dropped_total") == 5


def test_what_alerts_ask_for_is_there_at_0_before_the_first_of_it(node: Node) -> None:
    """Prometheus' `increase` takes a first sample for where a counter began: a burst before it would be none."""
    for limit in (*bounds.LIMITS, bounds.OTHER):
        assert node.value("calls_turned_away_total", limit=limit) == 0
    for result in (*bounds.WAITS, bounds.OTHER):
        assert node.value("realtime_session_wait_seconds_count", result=result) == 0
    for trunk in ("office", "phone"):
        assert node.value("calls_offered_total", direction="in", trunk=trunk) == 0
        assert node.value("calls_answered_total", direction="in", trunk=trunk) == 0


def test_a_trunk_that_a_reload_brings_has_its_series_before_its_first_call(node: Node) -> None:
    assert node.value("calls_offered_total", trunk="branch") is None
    trunk = {"preset": "generic-ip", "hosts": ["127.0.0.1"]}
    node.settings = story.settings(trunks={"office": trunk, "branch": trunk})
    node.value("node_ready")  # a scrape
    assert node.value("calls_offered_total", trunk="branch") == 0


def test_all_calls_end_in_one_of_the_series_that_were_there_from_the_start(node: Node) -> None:
    before = len(generate_latest(node.catalogue.registry).decode().split("sipagent_calls_finished_total{"))
    for reason in Reason:
        node.take(*story.opened(reason, 1), *story.ended(reason, 2, reason))
    text = generate_latest(node.catalogue.registry).decode()
    assert len(text.split("sipagent_calls_finished_total{")) == before
    assert node.value("calls_finished_total") == len(Reason)
    failed = sum(CallOutcome(reason).result == "failure" for reason in Reason)
    assert node.value("calls_finished_total", result="failure") == failed


# --- over HTTP


async def _nothing() -> api.Reloaded:
    return api.Reloaded(needs_restart=[])


@pytest.fixture
def busy() -> Node:
    node = Node()
    node.live.worker_state(1, story.state())
    node.take(*story.everything("1.1", 10), *story.outbound("out-2", 20), *story.opened("1.3", 30))
    return node


@pytest.fixture
def scrape(busy: Node) -> Callable[[str], tuple[str, str]]:
    client = TestClient(api.build(busy.live, _nothing, api_metrics.router(busy.catalogue.registry)))

    def get(accept: str) -> tuple[str, str]:
        answer = client.get("/metrics", headers={"Accept": accept})
        assert answer.status_code == 200
        return answer.headers["content-type"], answer.text

    return get


def test_prometheus_text_for_whoever_asks_for_nothing_else(scrape: Callable[[str], tuple[str, str]]) -> None:
    kind, text = scrape("*/*")
    assert kind.startswith("text/plain; version=0.0.4")
    assert "# EOF" not in text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert "sipagent_turn_latency_seconds" in families


def test_openmetrics_with_the_call_as_exemplar(scrape: Callable[[str], tuple[str, str]]) -> None:
    kind, text = scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    exemplars = {
        sample.exemplar.labels["call_id"]
        for family in openmetrics.text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar and family.name == "sipagent_turn_latency_seconds"
    }
    assert exemplars <= {"1.1", "out-2", "1.3"}
    assert exemplars


@pytest.fixture(scope="session")
def promtool() -> list[str]:
    return fetch(("prometheus",)).command("promtool")


def test_promtool_finds_nothing_to_say(scrape: Callable[[str], tuple[str, str]], promtool: list[str]) -> None:
    _, text = scrape("")
    checked = subprocess.run([*promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    wrong = text.replace("sipagent_turn_latency_seconds", "sipagent_turn_latency_milliseconds")
    checked = subprocess.run([*promtool, "check", "metrics"], input=wrong, capture_output=True, text=True, check=False)
    assert checked.returncode


def test_every_metric_is_documented(node: Node) -> None:
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert documented == {metric.name for metric in node.catalogue.metrics} == {metric.name for metric in metrics()}
    exported = {family.name for family in node.catalogue.registry.collect()}
    counters = {name.removesuffix("_total") for name in documented}
    assert {name for name in exported if not name.startswith("process_")} <= counters
