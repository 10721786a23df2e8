"""What a scrape of /metrics costs the control process: time, bytes, and how long its loop stands still for it.

A node's worth of live calls, and a day's worth of label values behind them; no network.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from prometheus_client.exposition import choose_encoder

from sipagent import model
from sipagent.config import Settings
from sipagent.control.live import Live
from sipagent.meter import Meter
from sipagent.model import LegQuality
from sipagent.observe.node import measure
from sipagent.orders import WorkerState
from sipagent.outcome import CallOutcome, Reason

SCRAPES = 30
TICK_S = 0.001
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
"""What Prometheus asks for; with exemplars, so the dearer of the two."""
_QUALITY = LegQuality(500, 500, 0, 0.0, 0, 0, 0, 2.0, 40.0, 90.0, 4.3)
_TRUNKS, _AGENTS = ("vonage", "twilio", "office", "phone"), ("reception", "sales", "support")


async def measure_scrape(calls: int, say: Callable[[str], object]) -> None:
    """`calls` that are up, four workers, four trunks, three agents."""
    live, settings = Live(4), _settings()
    catalogue = measure(live, lambda: settings)
    events = [event for number in range(1000) for event in _call(number, over=True)]
    events += [event for number in range(calls) for event in _call(1000 + number, over=False)]
    meter = Meter(0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)
    meter.observe(0.0004)
    for number in live.workers:
        live.worker_state(number, WorkerState(True, "22", True, calls // 4, 0, meter.read(), meter.read()))
    began = time.perf_counter()
    for event in events:
        live.take(event)
    each_us = (time.perf_counter() - began) / len(events) * 1e6
    encode, _ = choose_encoder(OPENMETRICS)
    took_ms, late_ms = [], []
    done = asyncio.Event()

    async def tick() -> None:
        while not done.is_set():
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late_ms.append((time.perf_counter() - due) * 1000)

    ticking = asyncio.create_task(tick())
    text = b""
    for _ in range(SCRAPES):
        began = time.perf_counter()
        text = await asyncio.to_thread(encode, catalogue.registry)
        took_ms.append((time.perf_counter() - began) * 1000)
    done.set()
    await ticking
    late_ms.sort()
    say(
        f"{calls} live calls: {statistics.median(took_ms):.1f} ms (max {max(took_ms):.1f}), {len(text)} bytes, "
        f"{text.count(10)} lines, {len(catalogue.metrics)} metrics; meanwhile the loop is late by "
        f"{late_ms[len(late_ms) * 99 // 100]:.1f} ms (p99), {late_ms[-1]:.1f} ms (max); an event costs {each_us:.0f} us"
    )


def _settings() -> Settings:
    trunk = {"preset": "generic-ip", "hosts": ["127.0.0.1"]}
    return Settings(
        agents={name: {"instructions": "Be brief."} for name in _AGENTS},  # type: ignore[misc]
        trunks=dict.fromkeys(_TRUNKS[:-1], trunk),  # type: ignore[misc]
        numbers={"100": _AGENTS[0]},
    )


def _call(number: int, *, over: bool) -> list[model.CallEvent]:
    call, trunk, agent = f"1795721647.{number}", _TRUNKS[number % 4], _AGENTS[number % 3]
    events: list[model.CallEvent] = [
        model.CallStarted(
            call_id=call, at=5, caller="1", called="100", endpoint=trunk, codec="ulaw", worker=1 + number % 4
        ),
        model.CallRouted(call_id=call, at=5, route="number 1", destination=f"agent:{agent}"),
        model.StepEntered(call_id=call, at=5, step=f"agent:{agent}"),
        model.SessionOpened(
            call_id=call, at=6, model="grok", requested_model="grok", conversation_id="c", connect_ms=300,
            acknowledged=True,
        ),
        model.CallAnswered(call_id=call, at=6, setup_ms=400),
        model.AgentSpoke(
            call_id=call, at=9, item_id="i", latency_ms=700 + number % 900, detection_ms=500,
            model_ms=150 + number % 900, network_ms=48, own_ms=2,
        ),
    ]  # fmt: skip
    if over:
        quality = dict.fromkeys(("caller_to_model", "caller_to_switch", "switch_to_caller"), _QUALITY)
        events.append(
            model.CallEnded(
                call_id=call,
                at=60,
                outcome=CallOutcome(list(Reason)[number % len(Reason)]),
                duration_s=55,
                answered=True,
                turns=1,
                counters={},
                quality=quality,
            )
        )
    return events
