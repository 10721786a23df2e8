"""A call as a trace, at a real receiver of OTLP: structure, times, statuses, and what must not stand in it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from pydantic import SecretStr

from sipagent import model
from sipagent.config import LogSettings, TracingSettings
from sipagent.control.live import Live
from sipagent.model import Direction, Role
from sipagent.observe import tracing
from sipagent.observe.spans import MAX_MARKS, MAX_SPANS, Spans
from sipagent.observe.tracing import Tracing
from sipagent.outcome import CallOutcome, Reason
from sipagent.phone.sipp import free_udp_port
from sipagent.tracecontext import Trace, tool_span
from tests.observe.collector import Collector, collector, seconds, values
from tests.waiting import until

NUMBER, DID, WORDS = "+442079460199", "+442079460123", "my card is lost"
NODE = "node-7"
T = 1_790_000_000.0


def started(call_id: str = "c1", at: float = T, **more: Any) -> model.CallStarted:
    facts = {"caller": NUMBER, "called": DID, "endpoint": "vonage", "codec": "alaw", "worker": 1} | more
    return model.CallStarted(call_id=call_id, at=at, **facts)


def ended(call_id: str = "c1", at: float = T + 9, reason: Reason = Reason.CALLER_HANGUP) -> model.CallEnded:
    outcome = CallOutcome(reason, f"of {NUMBER}")
    return model.CallEnded(call_id=call_id, at=at, outcome=outcome, duration_s=9, answered=True, turns=1, counters={})


def whole(call_id: str = "c1", traceparent: str = "") -> list[model.CallEvent]:
    """A menu, an agent, a turn, two tools side by side and a transfer that fails."""

    def of(kind: Any, after: float, **facts: Any) -> Any:
        return kind(call_id=call_id, at=T + after, **facts)

    return [
        started(call_id),
        of(model.CallRouted, 0.010, route="main", destination="menu:main", traceparent=traceparent),
        of(model.StepEntered, 0.012, step="menu:main"),
        of(model.CallAnswered, 0.250, setup_ms=250),
        of(model.StepRetried, 1.0, step="menu:main", why="no_input"),
        of(model.StepEntered, 2.0, step="agent:reception"),
        of(model.SessionOpened, 2.800, model="grok-voice-1", requested_model="grok-voice-latest",
           conversation_id="conv_1", connect_ms=700.0, acknowledged=True, endpoint="main"),
        of(model.AgentSpoke, 3.100, item_id="greeting", latency_ms=None),
        of(model.Transcript, 4.0, role=Role.CALLER, item_id="i", text=WORDS),
        of(model.ToolCalled, 4.100, name="order", arguments=f'{{"o": "{NUMBER}"}}', tool_call_id="t1"),
        of(model.ToolCalled, 4.110, name="order", arguments="{}", tool_call_id="t2"),
        of(model.ToolReturned, 4.300, name="order", ok=False, duration_ms=190, bytes=5, result=WORDS,
           tool_call_id="t2"),
        of(model.ToolReturned, 4.600, name="order", ok=True, duration_ms=500, bytes=7, result=WORDS,
           tool_call_id="t1"),
        of(model.AgentSpoke, 5.120, item_id="j", latency_ms=1120.0, detection_ms=500.0, model_ms=600.0,
           network_ms=19.0, own_ms=1.0),
        of(model.BargeIn, 5.5, item_id="j", played_ms=380, dropped_ms=900),
        of(model.TransferStarted, 6.0, target=NUMBER, how="referred"),
        of(model.LegDialled, 6.1, leg="leg-1", to=NUMBER, trunk="office", purpose="transfer"),
        of(model.LegEnded, 7.1, leg="leg-1", answered=False, result="busy", cause=17, seconds=0.0),
        of(model.TransferEnded, 7.2, target=NUMBER, result="busy"),
        of(model.SessionClosed, 8.9, model="grok-voice-1", seconds=6.1, agent_audio_s=1.5),
        ended(call_id),
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def sending(to: Collector, *, log: LogSettings | None = None, **settings: Any) -> AsyncIterator[Tracing]:
    """Everything is sent when the block is left."""
    one = Tracing(TracingSettings(endpoint=to.url, instance=NODE, **settings), log or LogSettings())
    async with one.running():
        yield one


async def sent(events: Iterable[model.CallEvent], **settings: Any) -> Collector:
    async with collector() as one:
        async with sending(one, **settings) as traces:
            for event in events:
                traces.take(event)
        return one


async def test_a_call_is_one_trace_whose_spans_hang_together() -> None:
    one = await sent(whole())
    assert {span.trace_id.hex() for span in one.spans} == {Trace.of("c1", NODE, 1.0).trace_id}
    root = one.named("call")
    assert root.parent_span_id == b""
    assert one.children(root) == ["ring", "menu main", "agent reception", "leg transfer"]
    assert one.children(one.named("agent reception")) == ["invoke_agent reception"]
    assert one.children(one.named("invoke_agent reception")) == [
        "chat grok-voice-latest", "chat grok-voice-latest", "execute_tool order", "execute_tool order", "transfer",
    ]  # fmt: skip
    assert len({span.span_id for span in one.spans}) == len(one.spans) == 11
    assert (root.kind, one.named("invoke_agent reception").kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert one.resource["service.name"] == "sipagent"
    assert one.resource["service.instance.id"] == NODE


async def test_times_are_those_of_the_call_to_the_millisecond() -> None:
    one = await sent(whole())
    after = {span.name: tuple(round(at - T, 3) for at in seconds(span)) for span in one.spans}
    assert after["call"] == (0.0, 9.0)
    assert after["ring"] == (0.0, 0.25)
    assert after["menu main"] == (0.012, 2.0)
    assert after["agent reception"] == (2.0, 9.0)
    assert after["invoke_agent reception"] == (2.1, 8.9)  # from its dialling
    assert after["leg transfer"] == (6.1, 7.1)
    turns = [tuple(round(at - T, 3) for at in seconds(span)) for span in one.spans if span.name.startswith("chat")]
    assert turns == [(2.1, 3.1), (4.0, 5.12)]  # the greeting; the caller's last sound to the agent's first
    tools = {values(span.attributes)["gen_ai.tool.call.id"]: span for span in one.spans if "tool" in span.name}
    assert {use: tuple(round(at - T, 3) for at in seconds(span)) for use, span in tools.items()} == {
        "t1": (4.1, 4.6), "t2": (4.11, 4.3),
    }  # fmt: skip
    assert tools["t1"].span_id.hex() == Trace.of("c1", NODE, 1.0).span_id(tool_span("t1"))


async def test_names_are_those_of_opentelemetry_for_generative_ai() -> None:
    one = await sent(whole())
    session = values(one.named("invoke_agent reception").attributes)
    assert session["gen_ai.operation.name"] == "invoke_agent"
    assert (session["gen_ai.provider.name"], session["gen_ai.system"]) == ("x_ai", "xai")
    assert (session["gen_ai.request.model"], session["gen_ai.response.model"]) == ("grok-voice-latest", "grok-voice-1")
    assert (session["gen_ai.conversation.id"], session["gen_ai.agent.name"]) == ("conv_1", "reception")
    (tool, _) = [values(span.attributes) for span in one.spans if span.name == "execute_tool order"]
    assert (tool["gen_ai.operation.name"], tool["gen_ai.tool.name"]) == ("execute_tool", "order")
    turn = [values(span.attributes) for span in one.spans if span.name.startswith("chat")][-1]
    assert turn["gen_ai.operation.name"] == "chat"
    shares = {name: turn[f"sipagent.turn.{name}_ms"] for name in ("detection", "model", "network", "own")}
    assert shares == {"detection": 500.0, "model": 600.0, "network": 19.0, "own": 1.0}


async def test_what_failed_is_an_error() -> None:
    one = await sent([*whole(), *whole("c2")[:-1], ended("c2", reason=Reason.REALTIME_LOST)])
    failed = sorted((span.name, span.status.message) for span in one.spans
                    if span.status.code == Status.STATUS_CODE_ERROR)  # fmt: skip
    of_each = [("execute_tool order", "tool_failed"), ("leg transfer", "not_reached"), ("transfer", "not_reached")]
    assert failed == sorted([*of_each, *of_each, ("call", "realtime_lost")])


async def test_no_number_and_no_word_leaves_unless_the_operator_shows_them() -> None:
    hidden = b"".join((await sent(whole())).bodies)
    for secret in (NUMBER, DID, WORDS, NUMBER[1:]):
        assert secret.encode() not in hidden
    shown = b"".join((await sent(whole(), log=LogSettings(show_numbers=True, show_transcripts=True))).bodies)
    for secret in (NUMBER, DID, WORDS):
        assert secret.encode() in shown
    dialled = [
        started(),
        model.StepEntered(call_id="c1", at=T, step=f"dial:{NUMBER}@office"),
        ended(reason=Reason.INTERNAL_ERROR),
    ]
    one = await sent(dialled)
    assert one.children(one.named("call")) == ["dial @office", "ring"]
    assert NUMBER.encode() not in b"".join(one.bodies)


async def test_a_worker_that_is_lost_leaves_no_span_open() -> None:
    async with collector() as one:
        async with sending(one) as traces:
            live = Live(1)
            live.subscribe(traces.take, traces.lost)
            for event in whole()[:10]:
                live.take(event)
            live.worker_lost(1, 0, "")
            live.take(ended())  # it was only its link: its call is closed here all the same
        names = [span.name for span in one.spans]
        assert len(names) == len(set(names)) == 7
        broken = {span.name: span.status.message for span in one.spans if span.status.code == Status.STATUS_CODE_ERROR}
        assert broken == dict.fromkeys(
            ("call", "agent reception", "invoke_agent reception", "execute_tool order"), "worker_lost"
        )
        assert round(seconds(one.named("call"))[1] - T, 3) == 4.1  # the last that is known of it


async def test_a_trace_that_came_with_the_call_is_gone_on_with() -> None:
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    one = await sent(whole(traceparent=theirs), sample_ratio=0.0)
    assert {span.trace_id.hex() for span in one.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert one.named("call").parent_span_id.hex() == "b7ad6b7169203331"
    assert len(one.spans) == 11
    assert (await sent(whole(traceparent=theirs[:-2] + "00"))).spans == []


async def test_some_calls_are_sampled() -> None:
    spans = [span for n in range(400) for span in map_all(whole(str(n)), Spans(NODE, 0.25))]
    calls = {span.trace.call_id for span in spans}
    assert 60 < len(calls) < 140
    assert len(spans) == 11 * len(calls)


def map_all(events: Iterable[model.CallEvent], spans: Spans) -> list[Any]:
    return [span for event in events for span in spans.take(event)]


async def test_headers_go_along_and_their_secret_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    async with collector() as one:
        async with sending(one, headers={"Authorization": SecretStr("Bearer s3cret")}) as traces:
            map_taken(traces, whole())
        assert {headers["Authorization"] for headers in one.headers} == {"Bearer s3cret"}
        assert b"s3cret" not in b"".join(one.bodies)
    assert "s3cret" not in caplog.text


def map_taken(traces: Tracing, events: Iterable[model.CallEvent]) -> None:
    for event in events:
        traces.take(event)


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "QUEUED_SPANS", 30)
    monkeypatch.setattr(tracing, "EXPORT_S", 0.2)
    nobody = Collector(url=f"http://127.0.0.1:{free_udp_port('127.0.0.1')}/v1/traces")
    async with sending(nobody) as traces:
        for n in range(10):
            map_taken(traces, whole(str(n)))  # returns at once, whatever the collector does
        assert (traces.waiting, traces.counts["dropped"]) == (30, 80)
    assert traces.counts == {"dropped": 80, "failed": 30}


async def test_a_collector_that_says_no_is_counted() -> None:
    async with collector() as one:
        one.status = 400
        async with sending(one) as traces:
            map_taken(traces, whole())
        assert traces.counts == {"failed": 11, "dropped": 0}


async def test_a_full_batch_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "BATCH", 11)
    monkeypatch.setattr(tracing, "EVERY_S", 3600.0)
    async with collector() as one, sending(one) as traces:
        map_taken(traces, whole())
        await until(lambda: len(one.spans) == 11, "the batch")


async def test_an_endless_call_is_bounded() -> None:
    spans = Spans(NODE, 1.0)
    events: list[model.CallEvent] = [started()]
    events += [model.BargeIn(call_id="c1", at=T + 1, item_id="i", played_ms=1, dropped_ms=1)] * (MAX_MARKS + 50)
    events += [model.AgentSpoke(call_id="c1", at=T + 2, item_id="i", latency_ms=1.0)] * (MAX_SPANS + 50)
    done = map_all([*events, ended()], spans)
    assert len(done) == MAX_SPANS
    assert done[-1].name == "call"
    assert len(done[-1].marks) == MAX_MARKS
    assert spans.cut == 52  # the root and the ringing are spans too
    assert map_all(whole()[3:], spans) == []  # nothing of it is left


async def test_a_call_out_is_a_clients() -> None:
    one = await sent([started(direction=Direction.OUT), ended()])
    assert one.named("call").kind == Span.SPAN_KIND_CLIENT
