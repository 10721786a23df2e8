"""What the control process knows, event by event."""

from sipagent import model
from sipagent.control.live import ENDED_KEPT, Live, LiveWorker
from sipagent.model import Role
from sipagent.orders import WorkerState
from sipagent.outcome import CallOutcome, Reason


def started(call_id: str, worker: int = 1) -> model.CallStarted:
    return model.CallStarted(call_id=call_id, at=5, caller="1", called="100", endpoint="e", codec="alaw", worker=worker)


def ended(call_id: str) -> model.CallEnded:
    outcome = CallOutcome(Reason.CALLER_HANGUP)
    return model.CallEnded(call_id=call_id, at=9, outcome=outcome, duration_s=4, answered=True, turns=1, counters={})


def state(*, asterisk: bool = True, accepting: bool = True) -> WorkerState:
    return WorkerState(
        asterisk_connected=asterisk, asterisk_version="22.10", accepting=accepting, calls=0, events_dropped=0
    )


async def test_a_call_grows_and_ends() -> None:
    live, heard = Live(1), []
    live.subscribe(heard.append)
    events: list[model.CallEvent] = [
        started("c"),
        model.CallAnswered(call_id="c", at=6, setup_ms=9),
        model.SessionOpened(
            call_id="c", at=6, model="m", requested_model="l", conversation_id="x", connect_ms=1, acknowledged=True
        ),
        model.AgentSpoke(call_id="c", at=6, item_id="greeting", latency_ms=None),
        model.Transcript(call_id="c", at=6, role=Role.CALLER, item_id="i", text="hello"),
        model.AgentSpoke(call_id="c", at=7, item_id="j", latency_ms=640.0),
        model.BargeIn(call_id="c", at=7, item_id="j", played_ms=100, dropped_ms=900),
        model.NoInputStep(call_id="c", at=7, step=1),
        model.RealtimeTrouble(call_id="c", at=7, what="w", detail="d"),
        model.ToolCalled(call_id="c", at=7, name="a"),
        model.ToolReturned(call_id="c", at=7, name="a", ok=False, duration_ms=1, bytes=9),
        model.ToolCalled(call_id="c", at=8, name="b"),
    ]
    for event in events:
        live.take(event)
    call = live.calls["c"]
    assert (call.state, call.realtime_model, call.turns, call.barge_ins, call.last_latency_ms) == (
        "answered",
        "m",
        1,
        1,
        640.0,
    )
    assert (call.tool, call.tool_calls, call.tool_errors) == ("b", 1, 1)
    live.take(ended("c"))
    assert live.calls == {}
    assert live.ended[-1].outcome == CallOutcome(Reason.CALLER_HANGUP)
    assert heard == [*events, ended("c")]


async def test_memory_is_bounded_and_strangers_are_counted() -> None:
    live = Live(1)
    for n in range(ENDED_KEPT + 10):
        live.take(started(str(n)))
        live.take(ended(str(n)))
    assert (len(live.calls), len(live.ended)) == (0, ENDED_KEPT)
    live.take(ended("never started"))
    assert live.counts["events_of_unknown_calls"] == 1


async def test_readiness_names_each_worker() -> None:
    live = Live(3)
    live.worker_state(1, state())
    live.worker_state(2, state(asterisk=False))
    assert live.why_not_ready() == ["worker 2 has no Asterisk", "worker 3 is not there"]
    live.worker_state(2, state())
    live.worker_state(3, state(accepting=False))
    assert live.why_not_ready() == ["worker 3 is draining"]
    live.worker_state(3, state())
    assert live.why_not_ready() == []
    await live.until_ready()
    live.take(started("c", worker=2))
    live.worker_lost(2, 0, "")
    assert live.why_not_ready() == ["worker 2 is not there"]
    assert live.ended[-1].state == "lost"
    assert live.counts["calls_without_end"] == 1


async def test_a_call_whose_worker_died_waits_for_another_one() -> None:
    live, lost = Live(2), []
    live.on_worker_lost = lost.append
    live.worker_here(2, 4711, "run")
    for call_id in ("adopted", "forgotten"):
        live.take(started(call_id, worker=2))
        live.take(model.CallAnswered(call_id=call_id, at=6, setup_ms=9))
    live.worker_lost(2, 4711, "run")
    assert lost == [LiveWorker(2, 4711, "run")]
    assert {call.state for call in live.calls.values()} == {"orphaned"}
    live.take(model.CallAdopted(call_id="adopted", at=7, worker=1, step="agent:reception"))
    live.give_up(*lost)
    assert [(call.call_id, call.state, call.worker) for call in live.calls.values()] == [("adopted", "answered", 1)]
    assert [(call.call_id, call.state) for call in live.ended] == [("forgotten", "lost")]
    assert (live.counts["calls_adopted"], live.counts["calls_without_end"]) == (1, 1)


async def test_a_call_older_than_this_process_is_known_once_it_is_adopted() -> None:
    """Else nobody would come for it when its next worker dies, and drain would not wait for it."""
    live = Live(2)
    live.take(model.Transcript(call_id="c", at=6, role=model.Role.CALLER, item_id="i", text="Hello"))
    assert live.calls == {}
    live.take(
        model.CallAdopted(
            call_id="c", at=7, worker=2, step="agent:reception", caller="201", called="100", started_at=5.0
        )
    )
    (call,) = live.calls.values()
    assert (call.state, call.agent, call.caller, call.started_at) == ("answered", "reception", "201", 5.0)
    live.on_worker_lost = lambda _worker: None
    live.worker_lost(2, 0, "")
    assert call.state == "orphaned"
